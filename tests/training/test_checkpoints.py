"""Checkpoints: what is read is what was written, on any devices; damage is noticed and the one before is used."""

import errno
import logging
import os
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from segjax import parallel, weights
from segjax.errors import UserError
from segjax.training.checkpoints import Checkpoints
from segjax.training.state import TrainState, create_state
from segjax.weights import fingerprints
from segjax.weights.runs import load_for_inference

OPTIMIZER = optax.chain(optax.add_decayed_weights(1e-4), optax.sgd(0.1, momentum=0.9))


def state_at(step: int, *, ema: bool = True) -> TrainState:
    key = jax.random.key(step)
    variables = {
        "params": {"layer1.0": {"conv1": {"kernel": jax.random.normal(key, (3, 3, 16, 32))}}},
        "batch_stats": {"bn1": {"mean": jnp.arange(4.0), "var": jnp.ones(4)}},
    }
    return create_state(variables, OPTIMIZER, ema=ema).replace(step=jnp.asarray(step, jnp.int32))


def same(a, b) -> bool:
    equal = jax.tree.map(lambda x, y: bool((np.asarray(x) == np.asarray(y)).all()), a, b)
    return jax.tree.structure(a) == jax.tree.structure(b) and all(jax.tree.leaves(equal))


def save_three(folder: Path) -> None:
    with Checkpoints(folder, keep=2) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(state_at(step), step=step, meta={"model": {"name": "x"}, "score": step})


def largest_file(folder: Path) -> Path:
    return max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "bit": flip_a_bit,
    "truncated": lambda p: p.write_bytes(p.read_bytes()[: p.stat().st_size // 2]),
    "empty": lambda p: p.write_bytes(b""),
    "gone": Path.unlink,
}


@pytest.mark.parametrize("ema", [True, False])
def test_round_trip_keeps_the_newest(tmp_path, ema):
    with Checkpoints(tmp_path / "c", keep=2) as checkpoints:
        assert checkpoints.restore(state_at(0, ema=ema)) is None
        for step in (1, 2, 3):
            checkpoints.save(state_at(step, ema=ema), step=step, meta={"score": step})
        checkpoints.wait()
        assert checkpoints.steps == [2, 3]
        state, meta = checkpoints.restore(state_at(0, ema=ema))
    assert same(state, state_at(3, ema=ema)) and meta == {"score": 3}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_falls_back_and_training_can_save_again(tmp_path, damage, caplog):
    save_three(tmp_path / "c")
    DAMAGE[damage](largest_file(tmp_path / "c" / "3"))
    with Checkpoints(tmp_path / "c", keep=2) as checkpoints, caplog.at_level(logging.WARNING, "segjax"):
        state, meta = checkpoints.restore(state_at(0))
        assert same(state, state_at(2)) and meta["score"] == 2
        checkpoints.save(state_at(3), step=3, meta={"score": 33})
        checkpoints.wait()
        assert same(checkpoints.restore(state_at(0))[0], state_at(3))
    assert f"{tmp_path / 'c' / '3'} is damaged" in caplog.text
    assert (tmp_path / "damaged-checkpoint-3").is_dir()  # set aside, not deleted


def test_a_checkpoint_that_another_host_cannot_read_is_damaged_for_all(tmp_path, monkeypatch, caplog):
    save_three(tmp_path / "c")
    answers = iter([False, True])  # of the other host, for steps 3 and 2
    monkeypatch.setattr(parallel, "in_all", lambda intact: intact and next(answers))
    with Checkpoints(tmp_path / "c") as checkpoints, caplog.at_level(logging.WARNING, "segjax"):
        assert same(checkpoints.restore(state_at(0))[0], state_at(2))
    assert "another process cannot read it" in caplog.text and (tmp_path / "damaged-checkpoint-3").is_dir()


def test_all_damaged_is_one_sentence(tmp_path):
    save_three(tmp_path / "c")
    for step in ("2", "3"):
        flip_a_bit(largest_file(tmp_path / "c" / step))
    with Checkpoints(tmp_path / "c") as checkpoints, pytest.raises(UserError, match="no checkpoint in .* can be read"):
        checkpoints.restore(state_at(0))


def test_unfinished_save_is_not_a_checkpoint(tmp_path):
    save_three(tmp_path / "c")
    (tmp_path / "c" / "4.orbax-checkpoint-tmp-123" / "state").mkdir(parents=True)
    with Checkpoints(tmp_path / "c") as checkpoints:
        assert int(checkpoints.restore(state_at(0))[0].step) == 3


def test_restores_on_other_devices(tmp_path):
    def sharded(count, state):
        mesh = jax.sharding.Mesh(np.array(jax.devices()[:count]), ("data",))
        spec = lambda x: PartitionSpec(*[None] * (x.ndim - 1), "data") if x.ndim == 4 else PartitionSpec()  # noqa: E731
        return jax.tree.map(lambda x: jax.device_put(x, NamedSharding(mesh, spec(x))), state)

    with Checkpoints(tmp_path / "c") as checkpoints:
        checkpoints.save(sharded(8, state_at(5)), step=5, meta={})
        checkpoints.wait()
        for count in (2, 1):
            like = sharded(count, state_at(0))
            state, _ = checkpoints.restore(like)
            assert same(state, state_at(5))
            assert jax.tree.all(jax.tree.map(lambda x, y: x.sharding == y.sharding, state, like))


@pytest.mark.parametrize("where", ["", "train", "train/checkpoints", "train/checkpoints/2"])
@pytest.mark.parametrize("ema", [True, False])
def test_load_for_inference_from_any_level(tmp_path, where, ema):
    with Checkpoints(tmp_path / "train" / "checkpoints") as checkpoints:
        for step in (1, 2):
            checkpoints.save(state_at(step, ema=ema), step=step, meta={"model": {"name": "x"}, "score": step})
    spec, variables, info = load_for_inference(tmp_path / where)
    assert spec == {"name": "x"} and info["score"] == info["step"] == 2
    assert same(variables, dict(state_at(2).variables))


def test_load_for_inference_falls_back(tmp_path):
    save_three(tmp_path / "train" / "checkpoints")
    flip_a_bit(largest_file(tmp_path / "train" / "checkpoints" / "3"))
    assert load_for_inference(tmp_path)[2]["step"] == 2


def test_initial_weights_fall_back_too(tmp_path, caplog):
    save_three(tmp_path / "train" / "checkpoints")
    intact = weights.read(tmp_path)
    flip_a_bit(largest_file(tmp_path / "train" / "checkpoints" / "3"))
    with caplog.at_level(logging.WARNING, "segjax"):
        found = weights.read(tmp_path)
    assert "its contents are not what was written" in caplog.text or "cannot be read" in caplog.text
    before = weights.read(tmp_path / "train" / "checkpoints" / "2")
    assert all((found[name] == before[name]).all() for name in before)
    assert any((found[name] != intact[name]).any() for name in intact)
    with pytest.raises(UserError, match="3.* cannot be read as an orbax checkpoint"):
        weights.read(tmp_path / "train" / "checkpoints" / "3")


def test_a_step_can_be_damaged_twice(tmp_path):
    save_three(tmp_path / "c")
    for _ in range(2):
        flip_a_bit(largest_file(tmp_path / "c" / "3"))
        with Checkpoints(tmp_path / "c", keep=2) as checkpoints:
            assert int(checkpoints.restore(state_at(0))[0].step) == 2
            checkpoints.save(state_at(3), step=3, meta={})
    assert {path.name for path in tmp_path.iterdir()} == {"c", "damaged-checkpoint-3", "damaged-checkpoint-3-2"}


def test_checkpoints_of_earlier_versions_are_read(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(fingerprints, "NEWEST", "fingerprint")
        save_three(tmp_path / "train" / "checkpoints")
    with Checkpoints(tmp_path / "train" / "checkpoints", keep=2) as checkpoints:
        assert same(checkpoints.restore(state_at(0))[0], state_at(3))
        checkpoints.save(state_at(4), step=4, meta={"model": {}})
        checkpoints.wait()
        assert same(checkpoints.restore(state_at(0))[0], state_at(4))
    shutil.rmtree(tmp_path / "train" / "checkpoints" / "4")
    assert load_for_inference(tmp_path)[2]["step"] == 3 and weights.read(tmp_path)


def test_load_for_inference_errors(tmp_path):
    with pytest.raises(UserError, match="is not a folder"):
        load_for_inference(tmp_path / "nowhere")
    with pytest.raises(UserError, match="there is no checkpoint in"):
        load_for_inference(tmp_path)


def test_full_disk_is_one_sentence(tmp_path, monkeypatch):
    with Checkpoints(tmp_path / "c") as checkpoints:
        checkpoints.save(state_at(1), step=1, meta={})
        checkpoints.wait()

        def full(*args, **kwargs):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(checkpoints.manager, "save", full)
        with pytest.raises(UserError, match="the disk of .* is full: the checkpoint was not saved and the previous"):
            checkpoints.save(state_at(2), step=2, meta={})
        monkeypatch.undo()
        assert int(checkpoints.restore(state_at(0))[0].step) == 1


def test_saves_although_the_folder_was_deleted(tmp_path):
    folder = tmp_path / "checkpoints"
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(state_at(1), step=1, meta={})
        checkpoints.wait()
        shutil.rmtree(folder)
        checkpoints.save(state_at(2), step=2, meta={})
    with Checkpoints(folder) as checkpoints:
        state, _ = checkpoints.restore(state_at(0))
    assert same(state.params, state_at(2).params)


def test_full_disk_is_seen_before_writing(tmp_path, monkeypatch):
    with Checkpoints(tmp_path / "c") as checkpoints:
        checkpoints.save(state_at(1), step=1, meta={})
        checkpoints.wait()
        usage = type(shutil.disk_usage(tmp_path))
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 9, 1))
        with pytest.raises(
            UserError, match="is full: a checkpoint needs .* was not saved and the previous one is kept"
        ):
            checkpoints.save(state_at(2), step=2, meta={})
        monkeypatch.undo()
        assert checkpoints.steps == [1]
