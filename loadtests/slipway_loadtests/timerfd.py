"""The kernel's own timer as a file: some ten microseconds exact, where event loops round to milliseconds."""

import ctypes
import os
import struct
import time

# <sys/timerfd.h>; Python has it from 3.13 on.
_CLOCK_MONOTONIC = 1
_TFD_NONBLOCK, _TFD_CLOEXEC, _TFD_TIMER_ABSTIME = os.O_NONBLOCK, os.O_CLOEXEC, 1
_libc = ctypes.CDLL(None, use_errno=True)


def now_ns() -> int:
    """Read CLOCK_MONOTONIC in nanoseconds; all processes of a host read the same clock."""
    return time.monotonic_ns()


class TimerFile:
    """A timer that becomes readable when it goes off; whoever waits for that is another's affair."""

    def __init__(self) -> None:
        self._file = _libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_NONBLOCK | _TFD_CLOEXEC)
        if self._file < 0:
            code = ctypes.get_errno()
            raise OSError(code, f"timerfd_create: {os.strerror(code)}")

    def fileno(self) -> int:
        """Its file descriptor."""
        return int(self._file)

    def set(self, time_ns: int) -> None:
        """Let it go off once, when CLOCK_MONOTONIC shows *time_ns* or at once if it does already; 0 stops it."""
        # struct itimerspec: no interval, then the absolute time.
        setting = struct.pack("@qqqq", 0, 0, *divmod(time_ns, 1_000_000_000))
        if _libc.timerfd_settime(self._file, _TFD_TIMER_ABSTIME, setting, None):
            code = ctypes.get_errno()
            raise OSError(code, f"timerfd_settime: {os.strerror(code)}")

    def clear(self) -> None:
        """Make it unreadable again after it has gone off."""
        os.read(self._file, 8)

    def close(self) -> None:
        """Give it back to the kernel."""
        os.close(self._file)
