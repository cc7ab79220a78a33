"""Resources of the machine that this process may use."""

import os
from pathlib import Path

CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # "200000 100000": 2 cores; "max 100000": no limit


def usable_cores() -> int:
    """Returns the number of cores this process may run on, at least 1.

    The number respects the process's affinity (taskset, slurm) and the CPU quota of its container (cgroup v2).
    """
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows have no affinity
        cores = os.cpu_count() or 1
    try:
        quota, period = CGROUP_QUOTA.read_text().split()
        cores = min(cores, round(int(quota) / int(period)))
    except (OSError, ValueError):
        pass
    return max(cores, 1)
