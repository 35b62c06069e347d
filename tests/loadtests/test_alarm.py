from pathlib import Path

import gevent

from slipway_loadtests.alarm import Alarm, now_ns


def test_it_never_wakes_early_and_lets_others_run():
    alarm = Alarm()
    ran = []
    gevent.spawn(ran.append, 1)
    for delay_ns in (0, -5_000_000, 100_000, 1_234_567):
        due = now_ns() + delay_ns
        alarm.wait_until(due)

        assert now_ns() >= due
    alarm.close()

    assert ran == [1]


def test_it_gives_its_file_back():
    before = len(list(Path("/proc/self/fd").iterdir()))
    alarm = Alarm()
    alarm.wait_until(now_ns() + 1000)
    alarm.close()

    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1  # gevent's own, from the first use of its loop
