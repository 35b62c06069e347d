import ctypes
import gc
import os
import weakref
from pathlib import Path

import pytest

from slipway_server import memory


@pytest.fixture(autouse=True)
def own_collector():
    """Leave the collector of the test process as it was."""
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


class Graph:
    """Refers to itself, as a TensorFlow graph does through its operations."""

    def __init__(self):
        self.self = self


def test_what_is_there_before_the_first_version_is_out_of_the_collectors_sight():
    graph = Graph()
    memory.settle()

    assert gc.get_threshold()[0] >= 100_000
    assert not any(one is graph for one in gc.get_objects())


def test_what_a_version_leaves_behind_is_collected():
    """Frozen as well, every version that was ever served would stay in memory."""
    memory.settle()
    graph = Graph()
    freed = weakref.ref(graph)
    del graph
    assert freed() is not None
    memory.give_back()

    assert freed() is None


def test_memory_is_returned_to_the_system():
    """Small pieces are not, by glibc itself, while anything above them is alive."""
    if not hasattr(ctypes.CDLL(None), "malloc_trim"):
        pytest.skip("only glibc can")
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.free.argtypes = [ctypes.c_void_p]
    pieces = [libc.malloc(ctypes.c_size_t(8192)) for _ in range(20_000)]
    for piece in pieces:
        ctypes.memset(piece, 1, 8192)
    above = libc.malloc(ctypes.c_size_t(8192))
    for piece in pieces:
        libc.free(piece)
    before = resident_bytes()
    memory.give_back()
    after = resident_bytes()
    libc.free(above)

    assert after < before - 100e6


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_memory_is_the_machines_or_less_if_a_container_says_so(tmp_path, monkeypatch):
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(memory, "_CGROUP_LIMITS", (limit, tmp_path / "none"))

    assert memory.limit_bytes() == machine
    limit.write_text("max\n")
    assert memory.limit_bytes() == machine
    limit.write_text("1048576\n")
    assert memory.limit_bytes() == 2**20
