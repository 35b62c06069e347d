import os
import threading
import time

import pytest

from slipway_server import cpus


@pytest.mark.parametrize(("text", "most"), [("max 100000", None), ("100000 100000", 1), ("150000 100000", 2)])
def test_the_quota_of_a_cgroup_counts(tmp_path, text, most):
    (tmp_path / "cpu.max").write_text(f"{text}\n")
    mine = len(os.sched_getaffinity(0))

    assert cpus.count(tmp_path) == (mine if most is None else min(most, mine))


@pytest.mark.parametrize(("quota", "most"), [("-1", None), ("50000", 1)])
def test_the_quota_of_the_first_version_counts_too(tmp_path, quota, most):
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text(quota)
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000\n")
    mine = len(os.sched_getaffinity(0))

    assert cpus.count(tmp_path) == (mine if most is None else min(most, mine))


@pytest.mark.parametrize("text", [None, "", "nonsense"])
def test_without_a_readable_quota_affinity_counts(tmp_path, text):
    if text is not None:
        (tmp_path / "cpu.max").write_text(text)

    assert cpus.count(tmp_path) == len(os.sched_getaffinity(0))


def test_affinity_is_looked_up_each_time(tmp_path):
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})

        assert cpus.count(tmp_path) == 1
    finally:
        os.sched_setaffinity(0, before)


def test_a_gpu_is_told_by_its_drivers_device(tmp_path, monkeypatch):
    monkeypatch.setattr(cpus, "_GPUS", (tmp_path / "nvidiactl",))
    assert not cpus.has_gpu()

    (tmp_path / "nvidiactl").touch()

    assert cpus.has_gpu()


def test_a_threads_time_is_told_on_any_other():
    clocks, may_end = [], threading.Event()

    def work():
        clocks.append(cpus.time_of_this_thread())
        sum(range(100_000))
        used.set()
        may_end.wait()

    used = threading.Event()
    thread = threading.Thread(target=work)
    thread.start()
    used.wait()

    spent_s = clocks[0]()
    while time.thread_time() < spent_s:
        sum(range(100_000))

    # What this thread does costs that one nothing.
    assert 0 < spent_s <= clocks[0]() < spent_s + time.thread_time()
    may_end.set()
    thread.join()
