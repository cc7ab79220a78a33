"""Start-up of jax: one or several processes, the compilation cache, and a check of the devices."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import platform as host
import re
import tempfile
from pathlib import Path

import jax

from segjax.errors import UserError
from segjax.host import usable_cores
from segjax.parallel.processes import Processes, find_processes, tpu_processes
from segjax.parallel.roll_call import call_roll

log = logging.getLogger("segjax")

HEARTBEAT = 60  # seconds until jax ends the other processes if one is silent (`watch_others` is faster)
THREADS_PER_DEVICE = 8  # of the CPU, if there are more devices than cores


def setup(
    *,
    platform: str | None = None,
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    min_devices: int = 1,
    cpu_devices: int | None = None,
    cache_dir: str | Path | None = None,
) -> str | None:
    """Starts jax; call it before anything else uses a device.

    Returns the "host:port" of process 0; None for a single process.

    platform: required platform, "cpu", "gpu" or "tpu"; None = the one that jax finds.
    coordinator, num_processes, process_id: "host:port" of process 0, number of processes, and index of this one. By
        default from JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID, srun, or a TPU pod.
    min_devices: required number of devices, over all processes.
    cpu_devices: number of devices to split the CPU into, each with its share of a batch. One per core is faster than
        one for all cores if a network has many operations too small to share. None = as XLA_FLAGS sets it.
    cache_dir: folder of compiled programs, by default JAX_COMPILATION_CACHE_DIR or ~/.cache/segjax/compiled, "" = none.
        Process 0 writes it and all read it, so on several hosts it should be shared. Not used with several CPU devices.

    Raises UserError if processes or devices are not as required, or the processes cannot connect.
    """
    if platform == "cpu":
        jax.config.update("jax_platforms", "cpu")  # keeps a GPU or TPU free for others
    if cpu_devices is not None:
        if cpu_devices < 1:
            raise UserError(f"--cpu_devices={cpu_devices} must be 1 or more; give the number of cores.")
        try:
            jax.config.update("jax_num_cpu_devices", cpu_devices)
        except RuntimeError:  # jax has started, for example in a notebook's earlier cell
            found = jax.local_device_count()
            if jax.default_backend() != "cpu" or found != cpu_devices:
                raise UserError(
                    f"--cpu_devices={cpu_devices} comes too late: this process has started jax with {found} devices; "
                    "restart it."
                ) from None
    processes = find_processes(coordinator, num_processes, process_id, environment=os.environ)
    if processes is None and num_processes is None and platform != "cpu" and _on_tpu_host():
        processes = tpu_processes(started=jax.distributed.is_initialized())
    if processes is not None:
        _connect(processes)
    with _threads_for_collectives():
        check_devices(platform=platform, min_devices=min_devices)
    use_compilation_cache(cache_dir)
    log.info(
        "process %d of %d, %d of %d devices (%s)",
        jax.process_index(),
        jax.process_count(),
        jax.local_device_count(),
        jax.device_count(),
        jax.devices()[0].device_kind,
    )
    return processes.coordinator if processes else None


@contextlib.contextmanager
def _threads_for_collectives():
    """Sets more threads for CPU devices if there are more devices than cores.

    XLA starts independent collectives of a program at once, and each occupies a thread until all devices have joined
    it. XLA has one thread per core or per device. If collectives that wait for another device occupy all of them, that
    device never joins, and XLA ends the process after 40 seconds (jaxlib 0.10 to 0.12). XLA reads NPROC when its client
    is made. With one core per device it happened once, on a busy machine; more threads than cores make a step a quarter
    slower.
    """
    forced = re.search(r"xla_force_host_platform_device_count=(\d+)", os.environ.get("XLA_FLAGS", ""))
    devices = max(jax.config.jax_num_cpu_devices, int(forced[1]) if forced else 1)
    if "NPROC" in os.environ or devices <= usable_cores():
        yield
        return
    os.environ["NPROC"] = str(THREADS_PER_DEVICE * devices)
    try:
        yield
    finally:
        del os.environ["NPROC"]


def use_compilation_cache(folder: str | Path | None = None) -> Path | None:
    """Keeps compiled programs in a folder for later runs and returns the folder; None without a cache.

    Call it after `jax.distributed` has started and before the first program is compiled. Hits and misses are logged at
    DEBUG, a folder that cannot be written at WARNING.

    With several CPU devices there is no cache: a program that XLA's CPU backend reads back has lost the order of its
    collectives, so that its devices can wait for each other forever (jaxlib 0.10 to 0.12, see
    tests/parallel/worker_again.py).

    Programs that compile in less than half a second are not kept, or in less than
    JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS.

    folder: see `setup`, cache_dir.
    """
    if jax.default_backend() == "cpu" and jax.device_count() > 1:
        asked = folder or os.environ.get("JAX_COMPILATION_CACHE_DIR")
        level = logging.WARNING if asked else logging.DEBUG
        log.log(level, "no compilation cache: programs for several CPU devices cannot be kept")
        jax.config.update("jax_enable_compilation_cache", False)
        return None
    if folder is None:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        folder = os.environ.get("JAX_COMPILATION_CACHE_DIR", cache / "segjax" / "compiled")
    if not str(folder):
        jax.config.update("jax_enable_compilation_cache", False)
        return None
    remote = "://" in str(folder)
    if jax.default_backend() == "cpu" and not remote:
        folder = Path(folder) / _cpu_name()
    if not remote:
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            log.warning("no compilation cache: cannot write to %s (%s)", folder, error.strerror or error)
            jax.config.update("jax_enable_compilation_cache", False)
            return None
    jax.config.update("jax_enable_compilation_cache", True)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:  # jax has read it
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    jax.config.update("jax_raise_persistent_cache_errors", False)
    _listen_to_cache()
    return Path(folder)


def check_devices(*, platform: str | None = None, min_devices: int = 1) -> None:
    """Raises UserError unless jax runs on `platform` (None = any) with at least `min_devices` devices.

    Logs a warning if jax runs on the CPU of a machine with an accelerator, unless the CPU was requested.
    """
    try:
        found = jax.default_backend()
    except RuntimeError as error:
        raise UserError(f"jax finds no device: {str(error).splitlines()[0]}") from error
    if platform is not None and found != platform:
        raise UserError(
            f"--platform={platform} was asked for and jax runs on {found}; {_install(platform)}, "
            "and look whether another process holds the device."
        )
    if jax.device_count() < min_devices:
        raise UserError(f"{min_devices} devices are needed and jax has {jax.device_count()} ({found}).")
    idle = _idle_accelerator()
    if found == "cpu" and platform is None and idle and os.environ.get("JAX_PLATFORMS") != "cpu":
        log.warning("jax runs on the CPU although this machine has a %s; %s", idle, _install(idle.lower()))


@functools.cache  # once: jax keeps every listener
def _listen_to_cache() -> None:
    def listen(event: str, **_) -> None:
        if event.startswith("/jax/compilation_cache/cache_"):
            log.debug("compilation cache: %s", event.rsplit("_", 1)[1])

    jax.monitoring.register_event_listener(listen)


def _connect(processes: Processes) -> None:
    if jax.distributed.is_initialized():
        return
    call_roll(processes)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(
        processes.coordinator,
        processes.count,
        processes.index,
        local_device_ids=processes.device_ids,
        cluster_detection_method="deactivate",  # it would wait for the servers of a cloud, or assign one device
        heartbeat_timeout_seconds=HEARTBEAT,
    )


def _on_tpu_host() -> bool:
    return _idle_accelerator() == "TPU" and "tpu" in (os.environ.get("JAX_PLATFORMS") or "tpu")


def _idle_accelerator() -> str | None:
    if Path("/dev/nvidia0").exists() or Path("/dev/kfd").exists():
        return "GPU"
    tpu = Path("/dev/accel0").exists() or Path("/dev/vfio/0").exists()
    return "TPU" if tpu else None


def _install(platform: str) -> str:
    if platform == "cpu":
        return "set JAX_PLATFORMS=cpu"
    return f"install jax for it (pip install 'segjax[{platform}]')"


def _cpu_name() -> str:
    # machines with other CPUs may share the home folder, and cannot run this one's programs
    try:
        flags = re.search(r"^(?:flags|Features)\s*:.*$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        flags = None
    text = f"{host.machine()} {host.processor()} {flags[0] if flags else ''}"
    return f"cpu-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
