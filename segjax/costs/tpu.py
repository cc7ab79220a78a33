"""Memory of a network's programs on a TPU, planned by the TPU's own compiler on a machine without one.

The package libtpu (extra `tpu`) has the compiler. It reads its settings from the environment when it is loaded, and
looks for a TPU otherwise. So programs are compiled in a process of their own, which this file is too.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

from segjax.costs import programs
from segjax.errors import UserError

TOPOLOGY = "v5e:2x2"  # the smallest of the chips with 16 GiB
ACCELERATOR_TYPES = {TOPOLOGY: "v5litepod-4", "v5p:2x2x1": "v5p-8"}  # 16 and 95 GiB a chip


def missing() -> str:
    """Returns a sentence if the TPU's compiler is not installed, "" if it is."""
    if importlib.util.find_spec("libtpu") is None:
        return "the TPU's compiler is not installed; pip install 'segjax[tpu]' adds its figures, no TPU is needed"
    return ""


def environment(accelerator_type: str) -> dict[str, str]:
    """Returns the variables of a process that compiles for a TPU; accelerator_type: see `Slice.accelerator_type`."""
    package = str(Path(__file__).parents[2])
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH")))),
        "JAX_PLATFORMS": "cpu",  # the default backend of the process, which must not look for a TPU
        "TPU_SKIP_MDS_QUERY": "1",
        "TPU_ACCELERATOR_TYPE": accelerator_type,
        "TPU_WORKER_HOSTNAMES": "localhost",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # a compilation occupies no TPU
    }


def compiled_bytes(workload: programs.Workload, program: str, *, topology: str = TOPOLOGY) -> int:
    """Returns the bytes of temporary memory that the TPU's compiler plans on one device of a topology.

    program: key of `programs.PROGRAMS`.
    topology: key of ACCELERATOR_TYPES.

    Raises UserError if the compiler is not installed, or if it refuses the program, for example because the device's
    memory is too small.
    """
    if reason := missing():
        raise UserError(reason)
    request = json.dumps({"workload": dataclasses.asdict(workload), "program": program, "topology": topology})
    command = [sys.executable, "-m", "segjax.costs.tpu", request]
    done = subprocess.run(command, env=environment(ACCELERATOR_TYPES[topology]), capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["it was killed"])[-1]
        raise UserError(f"the TPU's compiler failed on {program} of {workload.name} for {topology}: {reason}")
    return int(done.stdout.split()[-1])


def main() -> None:
    """Compiles the program of a request, the only argument, and prints the bytes of its temporaries."""
    from jax.experimental import topologies

    request = json.loads(sys.argv[1])
    workload = programs.Workload(**{**request["workload"], "size": tuple(request["workload"]["size"])})
    device = topologies.get_topology_desc(request["topology"], platform="tpu").devices[0]
    print(programs.compiled_bytes(workload, request["program"], device))


if __name__ == "__main__":
    main()
