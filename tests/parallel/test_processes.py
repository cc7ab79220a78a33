import logging
import sys

import pytest
from jax._src.clusters import cloud_tpu_cluster

from segjax.errors import UserError
from segjax.parallel import processes as module
from segjax.parallel.processes import Processes, find_processes, slurm_processes, tpu_processes
from tests.processes import run_together


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


def test_an_indexed_job_of_kubernetes_needs_two_variables():
    pod = {"JAX_COORDINATOR_ADDRESS": "train-0.train:1234", "JAX_NUM_PROCESSES": "4", "JOB_COMPLETION_INDEX": "3"}
    assert find_processes(None, None, None, environment=pod) == Processes("train-0.train:1234", 4, 3)
    assert find_processes(None, None, 1, environment=pod).index == 1
    assert find_processes(None, None, None, environment={"JOB_COMPLETION_INDEX": "3"}) is None
    with pytest.raises(UserError, match="JOB_COMPLETION_INDEX='x' must be a whole number"):
        find_processes(None, None, None, environment={**pod, "JOB_COMPLETION_INDEX": "x"})


TPU_HOST = """
import sys
import jax
from jax._src.clusters import cloud_tpu_cluster
from segjax import parallel
from segjax.parallel import distributed
cloud_tpu_cluster.running_in_cloud_tpu_vm = True  # as on a machine with a TPU
distributed._on_tpu_host = lambda: True
found = parallel.setup(cache_dir="")
parallel.sync("start")
print(found, jax.process_index(), jax.process_count())
"""


def test_a_tpu_pod_joins_by_itself(monkeypatch):
    """The variables that Google's Kubernetes sets, on two hosts of this name."""
    monkeypatch.setenv("TPU_WORKER_HOSTNAMES", "127.0.0.1,localhost")
    monkeypatch.setenv("MEGASCALE_NUM_SLICES", "")  # empty: jax does not ask the metadata server
    for name in ("MEGASCALE_COORDINATOR_ADDRESS", "MEGASCALE_SLICE_ID"):
        monkeypatch.setenv(name, "")

    def command(address, index):
        port = address.rpartition(":")[2]
        return ["env", f"TPU_WORKER_ID={index}", f"JAX_COORDINATOR_PORT={port}", sys.executable, "-c", TPU_HOST]

    outputs = run_together(command, devices=1)
    assert [output.split()[-2:] for output in outputs] == [["0", "2"], ["1", "2"]]
    assert all("127.0.0.1:" in output.splitlines()[-1] for output in outputs)


@pytest.fixture
def tpu_host(monkeypatch):
    """A machine with a TPU, whose pod is described by variables."""
    monkeypatch.setattr(cloud_tpu_cluster, "running_in_cloud_tpu_vm", True)
    for name in ("MEGASCALE_NUM_SLICES", "MEGASCALE_COORDINATOR_ADDRESS", "MEGASCALE_SLICE_ID"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("TPU_WORKER_ID", "1")
    monkeypatch.delenv("TPU_PROCESS_ADDRESSES", raising=False)
    return monkeypatch


def test_what_kubernetes_says_of_a_pod(tpu_host):
    tpu_host.setenv("TPU_WORKER_HOSTNAMES", "localhost,other")
    assert tpu_processes() == Processes("localhost:8482", 2, 1)
    assert tpu_processes(started=True) is None
    tpu_host.setenv("TPU_WORKER_HOSTNAMES", "localhost")
    assert tpu_processes() is None


def test_a_pod_that_cannot_be_found_is_one_sentence(tpu_host):
    tpu_host.setattr(module, "TPU_WAIT", 0)
    tpu_host.setenv("TPU_WORKER_HOSTNAMES", "no-such-host.invalid,other")
    with pytest.raises(UserError, match="cannot find its pod: Failed .* no-such-host.invalid; start the same command"):
        tpu_processes()


def test_a_machine_that_is_no_pod_is_one_process(tpu_host, caplog):
    """The metadata server of another cloud, or none."""

    def fail(_):
        raise OSError("Max retries exceeded\nmore")

    tpu_host.delenv("TPU_WORKER_HOSTNAMES", raising=False)
    tpu_host.delenv("TPU_SKIP_MDS_QUERY", raising=False)
    tpu_host.setattr(cloud_tpu_cluster, "get_metadata", fail)
    with caplog.at_level(logging.INFO, "segjax"):
        assert tpu_processes() is None
    assert "a single TPU host (Max retries exceeded)" in caplog.text
