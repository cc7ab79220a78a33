"""Which processes make up this run: from flags, jax's variables, Kubernetes, srun, or a TPU pod."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from segjax.errors import UserError, brief

log = logging.getLogger("segjax")

VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
POD_INDEX = "JOB_COMPLETION_INDEX"  # set by Kubernetes in every pod of an indexed job
TPU_WAIT = 300  # seconds until the name of a pod's first host must be known


@dataclass(frozen=True)
class Processes:
    """The processes of a run, as `jax.distributed.initialize` takes them.

    coordinator: "host:port" of process 0.
    count, index: number of processes, and which of them this one is.
    device_ids: devices of the host that belong to this process, None = all visible ones.
    """

    coordinator: str
    count: int
    index: int
    device_ids: tuple[int, ...] | None = None


def find_processes(
    coordinator: str | None, num_processes: int | None, process_id: int | None, *, environment: Mapping[str, str]
) -> Processes | None:
    """Returns the processes of this run; None for a single process.

    They are given by the arguments (see `setup`), else by jax's variables in `environment`, else by srun. In an indexed
    job of Kubernetes the index of the pod stands in for JAX_PROCESS_ID.

    Raises UserError if arguments are missing or out of range, or a variable is no whole number.
    """
    asked = {"coordinator": coordinator, "num_processes": num_processes, "process_id": process_id}
    for name, variable in zip(asked, VARIABLES):
        if asked[name] is None and environment.get(variable):
            asked[name] = (
                environment[variable] if name == "coordinator" else _whole_number(variable, environment[variable])
            )
    if all(value is None for value in asked.values()):
        return slurm_processes(environment)
    if asked["process_id"] is None and environment.get(POD_INDEX):
        asked["process_id"] = _whole_number(POD_INDEX, environment[POD_INDEX])
    if asked["num_processes"] == 1 and asked["process_id"] in (None, 0):
        return None
    missing = [f"--{name}" for name, value in asked.items() if value is None]
    if missing:
        raise UserError(
            f"several processes need --coordinator, --num_processes and --process_id together; {', '.join(missing)} "
            "is missing."
        )
    count, index = asked["num_processes"], asked["process_id"]
    if not re.fullmatch(r".+:\d+", asked["coordinator"]):
        raise UserError(f"--coordinator={asked['coordinator']} must be host:port of process 0, like 10.0.0.1:8476.")
    if not 0 <= index < count:
        raise UserError(f"--process_id={index} must be from 0 to {count - 1} with --num_processes={count}.")
    return Processes(asked["coordinator"], count, index)


def slurm_processes(environment: Mapping[str, str]) -> Processes | None:
    """Returns the processes started by `srun`, one or several per host; None for a single process or without srun.

    jax's own detection reads the variables of the job: in a shell of salloc or sbatch it waits for processes that were
    never started, and it assigns one device per process even if each process should use a whole host. This function
    reads the variables of the step.

    Raises UserError if a variable is missing or malformed, or processes cannot share the GPUs of a host equally.
    """
    count = _whole_number("SLURM_STEP_NUM_TASKS", environment.get("SLURM_STEP_NUM_TASKS") or "1")
    names = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_PROCID", "SLURM_LOCALID")
    if count <= 1:
        return None
    missing = [name for name in names if not environment.get(name)]
    if missing:
        raise UserError(
            f"srun started {count} processes but {', '.join(missing)} is not set; "
            "give --coordinator, --num_processes and --process_id, or --num_processes=1 for one process."
        )
    nodes = environment["SLURM_STEP_NODELIST"]  # node001 | node001,b2 | node[001-004,7],b2
    first = re.match(r"([^,\[]+)(?:\[(\w+))?", nodes)
    if not first:
        raise UserError(f"SLURM_STEP_NODELIST={nodes!r} names no host; give --coordinator.")
    port = 61440 + _whole_number("SLURM_JOB_ID", environment["SLURM_JOB_ID"]) % 4096  # all processes derive it
    return Processes(
        coordinator=f"{first[1]}{first[2] or ''}:{port}",
        count=count,
        index=_whole_number("SLURM_PROCID", environment["SLURM_PROCID"]),
        device_ids=_slurm_devices(environment),
    )


def _slurm_devices(environment: Mapping[str, str]) -> tuple[int, ...] | None:
    # SLURM_STEP_TASKS_PER_NODE is 4, 2(x3) or 4,2; unequal counts must be bound by slurm
    tasks = re.match(r"\d+", environment.get("SLURM_STEP_TASKS_PER_NODE", "1"))
    tasks = int(tasks[0]) if tasks else 1
    visible = [name for name in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    if tasks == 1 or len(visible) <= 1:
        return None  # the process has its host, or a device that slurm assigned, to itself
    if len(visible) % tasks:
        raise UserError(
            f"srun started {tasks} processes on a host where each sees {len(visible)} GPUs; start one process per "
            "host (--ntasks-per-node=1), or bind them with --gpus-per-task."
        )
    each, local = len(visible) // tasks, _whole_number("SLURM_LOCALID", environment["SLURM_LOCALID"])
    return tuple(range(local * each, (local + 1) * each))


def tpu_processes(*, started: bool = False) -> Processes | None:
    """Returns the processes of a TPU pod, one per host; None on a single host.

    They are found by jax: in the metadata of Google's machines, or in the variables that its Kubernetes sets. Only
    jax's start-up is replaced (see `call_roll`), which ends the process without a sentence if a host is missing.

    started: jax has joined the processes already, so that the answer would not be used.

    Raises UserError if the description of the pod cannot be read.
    """
    from jax._src.clusters import GceTpuCluster, GkeTpuCluster  # not public; a test notices if they move

    if started:
        return None
    try:
        pod = next((kind for kind in (GkeTpuCluster, GceTpuCluster) if kind.is_env_present()), None)
        if pod is None or (count := pod.get_process_count()) == 1:
            return None
        port = os.environ.get("JAX_COORDINATOR_PORT")
        address = pod.get_coordinator_address(timeout_secs=TPU_WAIT, override_coordinator_port=port)
        return Processes(address, count, pod.get_process_id())
    except (RuntimeError, ValueError, OSError) as error:
        reason = brief((str(error).splitlines() or [type(error).__name__])[0])
        hosts = os.environ.get("TPU_WORKER_HOSTNAMES", "")
        if "," not in hosts and not os.environ.get("MEGASCALE_COORDINATOR_ADDRESS"):
            log.info("a single TPU host (%s)", reason)
            return None
        raise UserError(
            f"this TPU host cannot find its pod: {reason}; start the same command on every worker, or give "
            "--coordinator, --num_processes and --process_id."
        ) from error


def _whole_number(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UserError(f"the environment variable {name}={text!r} must be a whole number.") from None
