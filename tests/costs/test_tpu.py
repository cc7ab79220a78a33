"""What the TPU's compiler plans, in a process of its own; without it a sentence."""

import importlib.util

import pytest

from segjax.costs import tpu
from segjax.costs.programs import Workload
from segjax.errors import UserError

TINY = Workload(name="fastscnn", size=(64, 64), num_classes=3)


def test_without_the_compiler_a_sentence_names_the_remedy(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'segjax\[tpu\]'"):
        tpu.compiled_bytes(TINY, "training_step")


def test_the_process_builds_the_same_program(monkeypatch, capsys):
    """The request holds plain data; the process compiles its program for a device of the topology."""
    from jax.experimental import topologies

    asked, compiled = {}, []

    class Topology:
        devices = ["a device"]

    def run(command, env, **_):
        asked.update(env)
        monkeypatch.setattr(tpu.sys, "argv", command[2:])
        tpu.main()
        return type("Done", (), {"returncode": 0, "stdout": capsys.readouterr().out})

    monkeypatch.setattr(tpu, "missing", lambda: "")
    monkeypatch.setattr(tpu.subprocess, "run", run)
    monkeypatch.setattr(topologies, "get_topology_desc", lambda name, platform: Topology)
    monkeypatch.setattr(tpu.programs, "compiled_bytes", lambda *arguments: compiled.append(arguments) or 123)
    assert tpu.compiled_bytes(TINY, "training_step") == 123
    assert compiled == [(TINY, "training_step", "a device")]
    assert asked["JAX_PLATFORMS"] == "cpu" and asked["TPU_ACCELERATOR_TYPE"] == "v5litepod-4"


def test_a_refused_program_is_a_sentence(monkeypatch):
    failed = type("Done", (), {"returncode": 1, "stderr": "Traceback\nRESOURCE_EXHAUSTED: used 20G of 15.75G hbm"})
    monkeypatch.setattr(tpu, "missing", lambda: "")
    monkeypatch.setattr(tpu.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(UserError, match="fastscnn for v5e:2x2: RESOURCE_EXHAUSTED: used 20G"):
        tpu.compiled_bytes(TINY, "training_step")


@pytest.mark.slow
@pytest.mark.skipif(bool(tpu.missing()), reason="libtpu is not installed")
def test_the_tpu_compiler_sees_recomputation():
    size = dict(name="swiftnet_r18", size=(512, 512), num_classes=3, batch=4)
    plain, remat = (
        tpu.compiled_bytes(Workload(**size, options={"remat": remat}), "training_step") for remat in (False, "full")
    )
    assert 0 < remat < 0.8 * plain
