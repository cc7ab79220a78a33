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
from segjax.parallel.distributed import check_devices, use_compilation_cache
from tests.processes import environment, run_together

WORKER = Path(__file__).with_name("worker_two_processes.py")


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
    names = ("jax_compilation_cache_dir", "jax_enable_compilation_cache", "jax_persistent_cache_min_compile_time_secs")
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


def test_which_programs_are_worth_a_file_is_set_by_jax_own_variable(tmp_path, monkeypatch, cache_config):
    name = "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    jax.config.update(name.lower(), 0.25)  # as jax does when it is imported
    monkeypatch.setenv(name, "0.25")
    use_compilation_cache(tmp_path)
    assert jax.config.jax_persistent_cache_min_compile_time_secs == 0.25
    monkeypatch.delenv(name)
    use_compilation_cache(tmp_path)
    assert jax.config.jax_persistent_cache_min_compile_time_secs == 0.5


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
