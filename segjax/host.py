"""What this process may use of the machine it runs on."""

import os
from pathlib import Path

CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # "200000 100000": 2 cores; "max 100000": no limit


def usable_cores() -> int:
    """Cores this process may run on, at least 1: as taskset, slurm or a container's limits leave them."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows have none
        cores = os.cpu_count() or 1
    try:
        quota, period = CGROUP_QUOTA.read_text().split()
        cores = min(cores, round(int(quota) / int(period)))
    except (OSError, ValueError):
        pass
    return max(cores, 1)
