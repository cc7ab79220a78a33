"""Weight files of names without end, and of thousands of dictionaries and networks: refused before they cost time."""

import numpy as np
import pytest
import safetensors.numpy

from segjax import weights
from segjax.errors import UserError
from segjax.weights import choice, read, state_dicts
from tests.weights.test_load import variables
from tests.weights.test_torch_file import Tensor, write


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_a_name_without_end_is_refused(tmp_path, suffix):
    """Its parts were cut one by one, each time from all names."""
    tensors = {"a." * 10**5 + "b": np.zeros(3, np.float32)}
    path = tmp_path / f"x{suffix}"
    if suffix == ".npz":
        tensors = {name[:10_000]: value for name, value in tensors.items()}
        np.savez(path, **tensors)
    else:
        safetensors.numpy.save_file(tensors, path)
    with pytest.raises(UserError, match=r"whose name '(a\.)+'\.\.\. has \d+ characters, more than 512") as error:
        weights.load(path, variables())
    assert len(str(error.value)) < 400


def test_thousands_of_dictionaries_are_refused_before_they_are_compared(tmp_path):
    tree = [{"w": value} for value in [Tensor(np.ones(1, np.float32))] * (state_dicts.MOST + 1)]
    write(tmp_path / "x.pth", tree, legacy=True)
    with pytest.raises(UserError, match="holds more than 4096 dictionaries of tensors"):
        read(tmp_path / "x.pth")


def test_names_that_make_a_thousand_networks_each_are_refused(tmp_path, monkeypatch):
    """Six prefixes in two places are 36 networks in every dictionary."""
    monkeypatch.setattr(choice, "MOST_FITS", 100)
    prefixes = ("module.", "model.", "net.", "student.", "teacher.", "ema.")
    names = {a + b + "w": Tensor(np.ones(1, np.float32)) for a in prefixes for b in prefixes}
    write(tmp_path / "x.pth", [names] * 2)
    with pytest.raises(UserError, match="cannot fill the network"):
        weights.load(tmp_path / "x.pth", variables())
    write(tmp_path / "x.pth", [dict(names) for _ in range(4)])
    with pytest.raises(UserError, match="holds more than 100 networks"):
        weights.load(tmp_path / "x.pth", variables())
