import gc
import os
import weakref

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


def test_what_is_loaded_is_out_of_the_collectors_sight():
    graph = Graph()
    memory.settle()

    assert memory.is_settled()
    assert gc.get_threshold()[0] >= 100_000
    assert not any(one is graph for one in gc.get_objects())


def test_what_was_frozen_and_freed_since_is_collected():
    """Frozen for good, every version that was ever served would stay in memory."""
    graph = Graph()
    memory.settle()
    freed = weakref.ref(graph)
    del graph
    memory.settle()
    assert freed() is not None

    memory.settle(was_freed=True)

    assert freed() is None


def test_memory_is_the_machines_or_less_if_a_container_says_so(tmp_path, monkeypatch):
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(memory, "_CGROUP_LIMITS", (limit, tmp_path / "none"))

    assert memory.limit_bytes() == machine
    limit.write_text("max\n")
    assert memory.limit_bytes() == machine
    limit.write_text("1048576\n")
    assert memory.limit_bytes() == 2**20
