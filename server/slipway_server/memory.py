"""How much memory there is, and Python's garbage collector, kept away from what stays for good."""

import contextlib
import ctypes
import gc
import os
from pathlib import Path

# Source: the kernel's Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/memory.rst.
_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))

# Allocations of containers between two collections. CPython's 700 makes a JSON body of 150 000 numbers pay for dozens of
# collections; what requests leave behind in cycles is little, and a collection of it takes a few milliseconds at most.
_THRESHOLDS = (100_000, 20, 20)


def settle() -> None:
    """
    Take all that is alive out of the collector's sight, for good; from then on, collect rarely.

    To be called before any version is loaded, and once more when TensorFlow is imported later than that, before its first
    version: it is some 300 000 objects that stay, and walking over them would cost requests 0.1 to 0.5 s each time. The few
    hundred objects of a version remain in sight; one that is loaded by then, of StableHLO, is freed without the collector.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)


def give_back() -> None:
    """
    Free what a version leaves behind when it is unloaded, and return it to the system.

    A graph refers to itself, so that only the collector frees it; and the allocator keeps freed memory that is not at the
    end of its heap, unless it is told. Takes a millisecond or two, more for a heap of many GB; for a thread of its own.
    """
    gc.collect()
    if _LIBC is not None:
        _LIBC.malloc_trim(0)


def _libc() -> ctypes.CDLL | None:
    """Load the C library if it is one that can trim its heap: glibc, not musl."""
    library = ctypes.CDLL(None)
    return library if hasattr(library, "malloc_trim") else None


_LIBC = _libc()


def limit_bytes() -> int:
    """Return how much memory this process may use: the machine's, or less if a container says so."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in _CGROUP_LIMITS:
        with contextlib.suppress(OSError, ValueError):  # not there, or "max"
            limits.append(int(path.read_text()))
    return min(limits)
