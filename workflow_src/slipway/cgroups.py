"""What control groups did to a process: how long its quota kept it waiting, and how often memory ran out. Both hierarchies."""

import contextlib
from dataclasses import dataclass
from pathlib import Path

_PROC, _ROOT = Path("/proc"), Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Limits:
    """
    Counters of a process' control group since it was made.

    Attributes:
        throttled_s: How long its CPU quota, or one above it, had it wait; None: there is no counter.
        oom_kills: Processes in it that the kernel ended because memory had run out; None likewise.
    """

    throttled_s: float | None
    oom_kills: int | None


def limits(pid: int, proc: Path = _PROC, root: Path = _ROOT) -> Limits:
    """
    Read the counters of process *pid*.

    Source: Documentation/admin-guide/cgroup-v2.rst (`cpu.stat`, `memory.events`) and cgroup-v1/memory.rst, sched-bwc.rst.
    """
    paths: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in (proc / str(pid) / "cgroup").read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            paths |= dict.fromkeys(controllers.split(","), path.strip("/"))
    throttled = [
        *_counters(_upwards(root, paths.get("")), "cpu.stat", "throttled_usec", 1e-6),
        *_counters(_upwards(root / "cpu", paths.get("cpu")), "cpu.stat", "throttled_time", 1e-9),
    ]
    kills = [
        *_counters(_upwards(root, paths.get(""))[:1], "memory.events", "oom_kill", 1),
        *_counters(_upwards(root / "memory", paths.get("memory"))[:1], "memory.oom_control", "oom_kill", 1),
    ]
    return Limits(sum(throttled) if throttled else None, round(sum(kills)) if kills else None)


def _upwards(root: Path, path: str | None) -> list[Path]:
    """List the group's directory and those above it: each may have a quota of its own."""
    if path is None:
        return []
    own = root / path
    return [own, *(above for above in own.parents if above.is_relative_to(root))]


def _counters(directories: list[Path], file: str, name: str, unit: float) -> list[float]:
    found = []
    for directory in directories:
        with contextlib.suppress(OSError, ValueError):
            for line in (directory / file).read_text(encoding="ascii").splitlines():
                key, _, value = line.partition(" ")
                if key == name:
                    found.append(int(value) * unit)
    return found
