import select
from pathlib import Path

from slipway_loadtests.timerfd import TimerFile, now_ns


def test_it_is_readable_when_it_has_gone_off_and_not_before():
    timer = TimerFile()
    assert not select.select([timer], [], [], 0)[0]

    for after_ns in (2_000_000, -1):  # a time that has passed is at once
        due = now_ns() + after_ns
        timer.set(due)
        assert select.select([timer], [], [], 10)[0]
        assert now_ns() >= due
        timer.clear()
        assert not select.select([timer], [], [], 0)[0]
    timer.close()


def test_setting_it_again_replaces_the_time():
    timer = TimerFile()
    timer.set(now_ns() + 3600 * 10**9)
    timer.set(1)
    assert select.select([timer], [], [], 10)[0]
    timer.set(now_ns() + 3600 * 10**9)
    timer.set(0)
    assert not select.select([timer], [], [], 0)[0]
    timer.close()


def test_it_gives_its_file_back():
    before = len(list(Path("/proc/self/fd").iterdir()))
    TimerFile().close()

    assert len(list(Path("/proc/self/fd").iterdir())) == before
