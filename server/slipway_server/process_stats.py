"""What Linux tells about this process, under the names that every Prometheus client library gives it."""

import os
import resource
from pathlib import Path

_PROC = Path("/proc/self")
_PAGE_BYTES = resource.getpagesize()
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
# Fields of /proc/PID/stat, counted from the one behind the command's name. Source: proc_pid_stat(5).
_UTIME, _STIME, _THREADS, _START_TIME, _VSIZE, _RSS = 11, 12, 17, 19, 20, 21


def read(proc: Path = _PROC) -> dict[str, float]:
    """
    Read name -> value; what the system does not tell is left out.

    Args:
        proc: Directory of the process below /proc.
    """
    found: dict[str, float] = {}
    try:
        # The command's name may hold spaces and parentheses.
        fields = (proc / "stat").read_text().rpartition(")")[2].split()
        found["process_cpu_seconds_total"] = (int(fields[_UTIME]) + int(fields[_STIME])) / _TICKS_PER_S
        found["process_resident_memory_bytes"] = float(int(fields[_RSS]) * _PAGE_BYTES)
        found["process_virtual_memory_bytes"] = float(fields[_VSIZE])
        found["process_threads"] = float(fields[_THREADS])
        boot = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime "))
        found["process_start_time_seconds"] = int(boot.split()[1]) + int(fields[_START_TIME]) / _TICKS_PER_S
        found["process_open_fds"] = float(len(os.listdir(proc / "fd")))  # noqa: PTH208  # names suffice
    except (OSError, ValueError, IndexError, StopIteration):
        pass
    found["process_max_fds"] = float(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    return found


DESCRIPTIONS = {
    "process_cpu_seconds_total": ("counter", "User and system CPU time of the process, in seconds."),
    "process_resident_memory_bytes": ("gauge", "Resident memory, in bytes."),
    "process_virtual_memory_bytes": ("gauge", "Virtual memory, in bytes."),
    "process_threads": ("gauge", "Threads of the process."),
    "process_start_time_seconds": ("gauge", "When the process started, in seconds since the Unix epoch."),
    "process_open_fds": ("gauge", "Open file descriptors."),
    "process_max_fds": ("gauge", "How many file descriptors may be open."),
}
"""Name -> kind, help."""
