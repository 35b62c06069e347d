"""CPU time and CPU places: who used how much, and who runs where, read from /proc and changed by affinity alone."""

import contextlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class CpuMeter:
    """
    CPU time of some processes with all their threads, and with the processes that these have started where that is wanted.

    Threads are read one by one, in nanoseconds (`schedstat`): the times of whole processes come in steps of
    10 ms. A thread that ended counts with what it had used when it was last seen.
    """

    def __init__(self, pids: Iterable[int], proc: Path = Path("/proc"), *, with_children: bool = False) -> None:
        self._pids = list(pids)
        self._with_children = with_children
        self._proc = proc
        self._used_ns: dict[tuple[int, int], int] = {}

    def read_ns(self) -> int | None:
        """CPU time used so far; None if nothing can be read: the processes are gone, or the kernel keeps no schedstat."""
        children = [child for pid in self._pids for child in _children(pid)] if self._with_children else []
        for pid in (*self._pids, *children):
            for thread in threads(pid, self._proc):
                with contextlib.suppress(OSError):
                    text = (self._proc / str(pid) / "task" / str(thread) / "schedstat").read_text(encoding="ascii")
                    # Documentation/scheduler/sched-stats.rst: time on a CPU comes first, in nanoseconds.
                    self._used_ns[pid, thread] = int(text.split()[0])
        return sum(self._used_ns.values()) or None


def threads(pid: int, proc: Path = Path("/proc")) -> list[int]:
    """List the threads of process *pid*; [] once it is gone."""
    try:
        return [int(name) for name in os.listdir(proc / str(pid) / "task")]  # noqa: PTH208 - names are all we need
    except (FileNotFoundError, ProcessLookupError):
        return []


def _children(pid: int) -> list[int]:
    """List the processes that *pid* has started. It takes a millisecond or two: the kernel has to be asked for all there are."""
    try:
        return [child.pid for child in psutil.Process(pid).children()]
    except psutil.Error:
        return []


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """
    CPU seconds of some CPUs since the host started, in steps of 10 ms per CPU.

    Attributes:
        busy_s: Not idle.
        stolen_s: Of those, what the hypervisor gave to another machine.
    """

    busy_s: float
    stolen_s: float


def busy_s(cpus: Iterable[int] | None = None, stat: Path = Path("/proc/stat")) -> float:
    """Give the CPU seconds that *cpus* (None: all) were not idle since the host started."""
    return times(cpus, stat).busy_s


def times(cpus: Iterable[int] | None = None, stat: Path = Path("/proc/stat")) -> CpuTimes:
    """
    Read what *cpus* did.

    Args:
        cpus: Which; None: all of the host.
        stat: Where the kernel tells.
    """
    wanted = {"cpu"} if cpus is None else {f"cpu{cpu}" for cpu in cpus}
    ticks = stolen = 0
    for line in stat.read_text(encoding="ascii").splitlines():
        name, *spent = line.split()
        if name in wanted:
            # cpu user nice system idle iowait irq softirq steal …: proc(5). What another virtual machine
            # stole was no more ours than what another process used.
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, spent[:8])
            ticks += user + nice + system + irq + softirq + steal
            stolen += steal
    return CpuTimes(ticks / _TICKS_PER_S, stolen / _TICKS_PER_S)


def clock_mhz(cpus: Iterable[int], root: Path = Path("/sys/devices/system/cpu")) -> float | None:
    """
    Give the mean clock of *cpus* in MHz; None where the kernel does not control it.

    In a virtual machine /proc/cpuinfo repeats what the processor is called, whatever it does.
    """
    found = []
    for cpu in cpus:
        try:
            text = (root / f"cpu{cpu}" / "cpufreq" / "scaling_cur_freq").read_text(encoding="ascii")
            found.append(int(text) / 1000)
        except (OSError, ValueError):
            return None
    return sum(found) / len(found) if found else None


def split(cpus: Sequence[int]) -> tuple[list[int], list[int]]:
    """
    Divide *cpus* between server and load generator: the generator gets 1 of 2 to 7, 2 of 8 to 15, else 4.

    Returns:
        The server's and the generator's, disjoint; with a single CPU both share it.
    """
    if len(cpus) < 2:
        return list(cpus), list(cpus)
    generators = 1 if len(cpus) < 8 else 2 if len(cpus) < 16 else 4
    return list(cpus[:-generators]), list(cpus[-generators:])


def as_list(cpus: Iterable[int]) -> str:
    """Write CPUs as the kernel does: `0,2-3`."""
    parts: list[list[int]] = []
    for cpu in sorted(cpus):
        if parts and parts[-1][1] == cpu - 1:
            parts[-1][1] = cpu
        else:
            parts.append([cpu, cpu])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)


def keep_on(pids: Iterable[int], cpus: Iterable[int]) -> bool:
    """
    Let every thread of *pids*, and those they will start, run on *cpus* alone.

    Returns:
        Whether that is so now; another user's processes, or CPUs that a cgroup keeps from them, are beyond us.
    """
    allowed = set(cpus)
    placed = True
    for pid in pids:
        for thread in threads(pid):
            with contextlib.suppress(ProcessLookupError):
                with contextlib.suppress(OSError):
                    if not os.sched_getaffinity(thread) <= allowed:
                        os.sched_setaffinity(thread, allowed)
                placed = placed and os.sched_getaffinity(thread) <= allowed
    return placed


def resident_bytes(pids: Iterable[int]) -> int | None:
    """Memory that *pids* have in RAM together; None if they are gone."""
    total = 0
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            total += psutil.Process(pid).memory_info().rss
    return total or None
