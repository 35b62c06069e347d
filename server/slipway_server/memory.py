"""How much memory there is, and Python's garbage collector, kept away from what stays for good."""

import contextlib
import gc
import os
from pathlib import Path

# Source: the kernel's Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/memory.rst.
_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))

# Allocations of containers between two collections. CPython's 700 makes a JSON body of 150 000 numbers pay for dozens of
# collections; what requests leave behind in cycles is little, and a collection of it takes a few milliseconds at most.
_THRESHOLDS = (100_000, 20, 20)


def settle(*, was_freed: bool = False) -> None:
    """
    Take all that is alive out of the collector's sight, after a last look at it; from then on, collect rarely.

    TensorFlow and a model's graph are some 300 000 objects that stay; walking over them again and again would cost
    requests 0.1 to 0.2 s each time.

    Args:
        was_freed: Look once more at what was put out of sight before, because something of it was freed: the graph
            of a version refers to itself, and nothing else would ever collect it. Stops everything for that long.
    """
    if was_freed:
        gc.unfreeze()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)


def is_settled() -> bool:
    """Say whether `settle` has been called."""
    return gc.get_freeze_count() > 0


def limit_bytes() -> int:
    """Return how much memory this process may use: the machine's, or less if a container says so."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in _CGROUP_LIMITS:
        with contextlib.suppress(OSError, ValueError):  # not there, or "max"
            limits.append(int(path.read_text()))
    return min(limits)
