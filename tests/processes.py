"""Programs that tests start: their environment, and several processes that jax joins into one, as on several hosts."""

import os
import socket
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import jaxlib.version

ROOT = Path(__file__).resolve().parents[1]
# programs compile in a third of the time; what their code loses, a few steps of 64 pixels never earn back
QUICK_TO_COMPILE = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_parallel_codegen_split_count=1"
)
if jaxlib.version.__version_info__ < (0, 11):  # later ones have no choice, and abort at this flag
    QUICK_TO_COMPILE += " --xla_cpu_use_fusion_emitters=false"


def small_network(*stages: str) -> list[str]:
    """Flags of main.py: a DenseNet of 12,000 parameters, which compiles in a fifth of the time of Fast-SCNN."""
    options = "{'growth': 4, 'blocks': (1, 1, 1, 1), 'width': 8, 'aux': False, 'layout': '8', "
    options += "'random_init': True, 'spp': 'none'}"
    return [
        flag
        for stage in stages or ("train",)
        for flag in (f"--config.{stage}.model.name=ldn121", f"--config.{stage}.model.options={options}")
    ]


SMALL_NETWORK = small_network()


def environment(*, devices: int = 1, **more: object) -> dict[str, str]:
    """Returns the environment of a program on so many CPU devices, which compiles quickly.

    Programs for one device come from a cache in this checkout if they have been compiled before; programs for several
    have none (segjax/parallel/distributed.py). more: variables to add.
    """
    flags = f"--xla_force_host_platform_device_count={devices} {QUICK_TO_COMPILE}"
    return {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".pytest_cache" / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
        "XLA_FLAGS": flags,
        **{name: str(value) for name, value in more.items()},
    }


def start_together(
    command: Callable[[str, int], Sequence], *, count: int = 2, devices: int = 2
) -> list[subprocess.Popen]:
    """Starts `count` processes with `devices` CPU devices each; their outputs are pipes.

    command: (address of the first process, index) -> the words of a command.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return [
        subprocess.Popen(
            list(map(str, command(address, index))),
            cwd=ROOT,
            env=environment(devices=devices, NPROC=16, PYTHONPATH=path),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(count)
    ]


def run_together(command: Callable[[str, int], Sequence], *, count: int = 2, devices: int = 2) -> list[str]:
    """Runs processes as `start_together` starts them to their end and returns what they printed."""
    processes = start_together(command, count=count, devices=devices)
    try:
        outputs = [process.communicate(timeout=300) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (_, errors) in zip(processes, outputs):
        assert process.returncode == 0, errors[-3000:]
    return [output for output, _ in outputs]
