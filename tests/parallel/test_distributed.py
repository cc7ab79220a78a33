import json
import logging
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from segjax.errors import UserError
from segjax.parallel import distributed
from segjax.parallel.distributed import Processes, check_devices, find_processes, slurm_processes, use_compilation_cache
from tests.processes import environment, run_together

WORKER = Path(__file__).with_name("worker_two_processes.py")


def test_nothing_asked_is_one_process():
    assert find_processes(None, None, None, environment={}) is None
    assert find_processes(None, 1, None, environment={}) is None
    assert find_processes("host:1", 1, 0, environment={}) is None


def test_flags_go_before_variables():
    variables = {"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "2"}
    assert find_processes(None, None, None, environment=variables) == Processes("a:1", 4, 2)
    assert find_processes("b:2", None, 3, environment=variables) == Processes("b:2", 4, 3)
    assert find_processes(None, 1, 0, environment={**variables, "SLURM_STEP_NUM_TASKS": "8"}) is None


@pytest.mark.parametrize(
    "arguments, variables, message",
    [
        (("a:1", 2, None), {}, "--process_id is missing"),
        ((None, 2, 0), {}, "--coordinator is missing"),
        (("a", 2, 0), {}, "must be host:port"),
        (("a:1", 2, 2), {}, "must be from 0 to 1"),
        ((None, None, None), {"JAX_NUM_PROCESSES": "two"}, "JAX_NUM_PROCESSES='two'"),
    ],
)
def test_half_of_the_flags_is_one_sentence(arguments, variables, message):
    with pytest.raises(UserError, match=message):
        find_processes(*arguments, environment=variables)


STEP = {
    "SLURM_JOB_ID": "4242",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_NODELIST": "node[017-018]",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
}
PORT = 61440 + 4242 % 4096


@pytest.mark.parametrize(
    "nodes, first",
    [
        ("node001", "node001"),
        ("node001,b2", "node001"),
        ("node[001-004,7],b2", "node001"),
        ("node[007,009]", "node007"),
        ("gpu-a-1.cluster", "gpu-a-1.cluster"),
    ],
)
def test_srun_names_its_first_host(nodes, first):
    found = slurm_processes({**STEP, "SLURM_STEP_NODELIST": nodes})
    assert found == Processes(f"{first}:{PORT}", 4, 3)


def test_a_shell_inside_a_job_is_one_process():
    # salloc and sbatch set the job's count although srun started nothing: jax's own detection would wait for 8
    assert (
        slurm_processes({"SLURM_JOB_ID": "1", "SLURM_NTASKS": "8", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}) is None
    )


@pytest.mark.parametrize(
    "visible, devices", [("", None), ("3", None), ("0,1", (1,)), ("0,1,2,3", (2, 3)), ("4,5,6,7", (2, 3))]
)
def test_processes_of_a_host_share_its_gpus(visible, devices):
    assert slurm_processes({**STEP, "CUDA_VISIBLE_DEVICES": visible}).device_ids == devices


def test_one_process_per_host_drives_all_gpus():
    one = {**STEP, "SLURM_STEP_TASKS_PER_NODE": "1(x4)", "CUDA_VISIBLE_DEVICES": "0,1,2,3"}
    assert slurm_processes(one).device_ids is None


def test_gpus_that_cannot_be_shared_are_one_sentence():
    with pytest.raises(UserError, match="2 processes on a host where each sees 3 GPUs"):
        slurm_processes({**STEP, "CUDA_VISIBLE_DEVICES": "0,1,2"})


def test_a_step_without_its_variables_is_one_sentence():
    with pytest.raises(UserError, match="SLURM_PROCID is not set"):
        slurm_processes({key: value for key, value in STEP.items() if key != "SLURM_PROCID"})


def test_the_wrong_platform_or_too_few_devices_stop():
    check_devices(platform="cpu", min_devices=8)
    with pytest.raises(UserError, match=r"--platform=tpu .* runs on cpu.*segjax\[tpu\]"):
        check_devices(platform="tpu")
    with pytest.raises(UserError, match="9 devices are needed and jax has 8"):
        check_devices(min_devices=9)


def test_an_idle_gpu_is_pointed_out(monkeypatch, caplog):
    monkeypatch.delenv("JAX_PLATFORMS")
    monkeypatch.setattr(distributed, "_idle_accelerator", lambda: "GPU")
    with caplog.at_level(logging.WARNING, "segjax"):
        check_devices()
    assert "has a GPU" in caplog.text and "segjax[gpu]" in caplog.text


@pytest.fixture
def cache_config():
    names = ("jax_compilation_cache_dir", "jax_enable_compilation_cache")
    before = {name: getattr(jax.config, name) for name in names}
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_the_cache_folder_is_made_or_done_without(tmp_path, monkeypatch, caplog, cache_config):
    with caplog.at_level(logging.WARNING, "segjax"):
        assert use_compilation_cache(tmp_path / "a") is None and not jax.config.jax_enable_compilation_cache
    assert "several CPU devices" in caplog.text
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    folder = use_compilation_cache(tmp_path / "a")
    assert folder.is_dir() and folder.parent == tmp_path / "a"  # a folder per kind of CPU
    assert jax.config.jax_compilation_cache_dir == str(folder)
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    assert use_compilation_cache().is_relative_to(tmp_path / "home" / "segjax")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "own"))
    assert use_compilation_cache().is_relative_to(tmp_path / "own")
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.WARNING, "segjax"):
        assert use_compilation_cache(tmp_path / "file") is None
    assert "no compilation cache" in caplog.text
    assert use_compilation_cache("") is None and not jax.config.jax_enable_compilation_cache


def test_devices_are_cut_before_jax_starts():
    """In a notebook a second training finds jax started."""
    with pytest.raises(UserError, match="--cpu_devices=3 comes too late: this process has started jax with 8 devices"):
        distributed.setup(cpu_devices=3)
    distributed.setup(cpu_devices=8)


def test_several_cpu_devices_train_again_where_they_trained_before(tmp_path):
    """Left to XLA's defaults, the second of these runs waits for ever most of the time: worker_again.py."""
    variables = environment(devices=8, PYTHONPATH=WORKER.parents[2], JAX_COMPILATION_CACHE_DIR=tmp_path)
    del variables["JAX_ENABLE_COMPILATION_CACHE"]
    for _ in range(2):
        command = [sys.executable, str(WORKER.with_name("worker_again.py"))]
        done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]


def test_two_processes_make_one_batch_and_one_gradient():
    outputs = run_together(lambda address, index: [sys.executable, WORKER, address, 2, index])
    found = [json.loads(output.splitlines()[-1]) for output in outputs]

    x = np.arange(8 * 3, dtype=np.float32).reshape(8, 3)
    for index, result in enumerate(found):
        assert result["part"] == [index, 2] and result["devices"] == [4, 2]
        assert result["rows"] == x[index * 4 : (index + 1) * 4].tolist()
        np.testing.assert_allclose(result["gradient"], 2 * x.sum(0) / 8, rtol=1e-6)
        np.testing.assert_allclose(result["psum"], x.sum(0), rtol=1e-6)
        assert result["space_part"] == [0, 1]
        np.testing.assert_allclose(result["space_mean"], x.mean(), rtol=1e-6)
        assert "uses 2 of 4 devices; with several processes" in result["uneven"]
        assert result["from_first"] == ["", "é0"] and result["in_all"] == [True, False, False]
