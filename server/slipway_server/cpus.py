"""How many CPUs there are for this process: what a scheduler of threads has to know."""

import math
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
# One of them stands here wherever a driver gives a process access to a GPU, in containers, too.
_GPUS = (Path("/dev/nvidiactl"), Path("/dev/kfd"))


def count(cgroup: Path = _CGROUP) -> int:
    """
    Count the CPUs that this process may use at the moment, at least 1: its affinity, and the quota of its cgroup.

    `os.cpu_count` knows neither, and so TensorFlow starts 64 threads in a container that gets the time of one CPU.

    Args:
        cgroup: Where the process's own cgroup (version 2, or the cpu controller of version 1) is mounted.
    """
    return max(math.ceil(min(len(os.sched_getaffinity(0)), _quota(cgroup))), 1)


def time_of_this_thread() -> Callable[[], float]:
    """Return what tells, on any thread, how much CPU time (s) the one that calls this has used so far, as long as it lives."""
    clock = time.pthread_getcpuclockid(threading.get_ident())
    return lambda: time.clock_gettime(clock)


def _quota(cgroup: Path) -> float:
    """Give the CPUs' worth of time that the cgroup may use; infinite without a limit."""
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (cgroup / "cpu/cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu/cpu.cfs_period_us").read_text().strip()
        except OSError:
            return math.inf
    # "max", or -1 in version 1: no limit.
    return int(quota) / int(period) if quota.isdecimal() and int(period) else math.inf


def has_gpu() -> bool:
    """Say whether a GPU's driver is within reach: work that waits for it needs no CPU meanwhile."""
    return any(path.exists() for path in _GPUS)
