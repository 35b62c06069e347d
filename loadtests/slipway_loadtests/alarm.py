"""Waking a greenlet at an exact time: gevent's own timers are a millisecond coarse, a timerfd some ten microseconds."""

import ctypes
import os
import struct
import time

import gevent

# <sys/timerfd.h>; Python has it from 3.13 on.
_CLOCK_MONOTONIC = 1
_TFD_NONBLOCK, _TFD_CLOEXEC, _TFD_TIMER_ABSTIME = os.O_NONBLOCK, os.O_CLOEXEC, 1
_READABLE = 1
_libc = ctypes.CDLL(None, use_errno=True)


def now_ns() -> int:
    """Read CLOCK_MONOTONIC in nanoseconds; all processes of a host read the same clock."""
    return time.monotonic_ns()


class Alarm:
    """A timer of one greenlet."""

    def __init__(self) -> None:
        self._file = _libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_NONBLOCK | _TFD_CLOEXEC)
        if self._file < 0:
            code = ctypes.get_errno()
            raise OSError(code, f"timerfd_create: {os.strerror(code)}")
        self._watcher = gevent.get_hub().loop.io(self._file, _READABLE)

    def wait_until(self, time_ns: int) -> None:
        """Sleep until CLOCK_MONOTONIC shows *time_ns*; a time that has passed only lets others run."""
        if time_ns <= now_ns():
            gevent.sleep(0)
            return
        # struct itimerspec: no interval, then the absolute time.
        setting = struct.pack("@qqqq", 0, 0, *divmod(time_ns, 1_000_000_000))
        if _libc.timerfd_settime(self._file, _TFD_TIMER_ABSTIME, setting, None):
            code = ctypes.get_errno()
            raise OSError(code, f"timerfd_settime: {os.strerror(code)}")
        gevent.get_hub().wait(self._watcher)
        os.read(self._file, 8)

    def close(self) -> None:
        """Give the timer back to the kernel."""
        self._watcher.stop()
        self._watcher.close()
        os.close(self._file)
