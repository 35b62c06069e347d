"""Waking a greenlet at an exact time: gevent's own timers are a millisecond coarse, a timerfd some ten microseconds."""

import gevent

from slipway_loadtests.timerfd import TimerFile, now_ns

__all__ = ["Alarm", "now_ns"]

_READABLE = 1


class Alarm:
    """A timer of one greenlet."""

    def __init__(self) -> None:
        self._timer = TimerFile()
        self._watcher = gevent.get_hub().loop.io(self._timer.fileno(), _READABLE)

    def wait_until(self, time_ns: int) -> None:
        """Sleep until CLOCK_MONOTONIC shows *time_ns*; a time that has passed only lets others run."""
        if time_ns <= now_ns():
            gevent.sleep(0)
            return
        self._timer.set(time_ns)
        gevent.get_hub().wait(self._watcher)
        self._timer.clear()

    def close(self) -> None:
        """Give the timer back to the kernel."""
        self._watcher.stop()
        self._watcher.close()
        self._timer.close()
