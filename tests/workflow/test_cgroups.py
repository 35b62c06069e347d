import os

import pytest

from slipway.cgroups import Limits, limits


@pytest.fixture
def host(tmp_path):
    """Write files below /proc and /sys/fs/cgroup of a made-up host; gives what reads process 7 there."""

    def read(cgroup, **files):
        (tmp_path / "proc/7").mkdir(parents=True)
        (tmp_path / "proc/7/cgroup").write_text(cgroup)
        for path, text in files.items():
            (tmp_path / "cgroup" / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "cgroup" / path).write_text(text)
        return limits(7, tmp_path / "proc", tmp_path / "cgroup")

    return read


def test_the_unified_hierarchy_counts_quotas_at_every_level(host):
    """A pod's quota has its containers wait, whatever they are allowed by themselves."""
    found = host(
        "0::/pod/container\n",
        **{
            "pod/container/cpu.stat": "usage_usec 5\nnr_throttled 2\nthrottled_usec 250000\n",
            "pod/cpu.stat": "nr_throttled 1\nthrottled_usec 500000\n",
            "cpu.stat": "usage_usec 9\n",
            "pod/container/memory.events": "low 0\noom 1\noom_kill 3\n",
            "pod/memory.events": "oom_kill 4\n",
        },
    )

    assert found == Limits(0.75, 3)


def test_the_older_hierarchy_counts_in_nanoseconds(host):
    found = host(
        "12:cpu,cpuacct:/docker/1\n5:memory:/docker/1\n0::/\n",
        **{
            "cpu/docker/1/cpu.stat": "nr_periods 3\nthrottled_time 250000000\n",
            "memory/docker/1/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
        },
    )

    assert found == Limits(0.25, 1)


def test_where_nothing_is_counted_nothing_is_known(host):
    assert host("0::/user.slice\n") == Limits(None, None)


def test_a_process_that_is_gone_has_no_counters(tmp_path):
    assert limits(7, tmp_path, tmp_path) == Limits(None, None)


def test_this_process_can_be_asked():
    found = limits(os.getpid())

    assert found.throttled_s is None or found.throttled_s >= 0
