"""A server that takes its time: each answer a fixed while later, and none during a stall that comes again and again."""

import asyncio
from collections import deque
from dataclasses import dataclass

from slipway_loadtests.timerfd import TimerFile, now_ns


@dataclass(frozen=True, slots=True)
class Delay:
    """
    When answers leave.

    Attributes:
        answer_ns: How long each takes at least.
        stall_ns: How long a stall lasts, in which nothing leaves; 0: there is none.
        every_ns: From the begin of one stall to that of the next; the first begins so long after the server does.
    """

    answer_ns: int = 0
    stall_ns: int = 0
    every_ns: int = 0

    def due_ns(self, asked_ns: int, began_ns: int) -> int:
        """
        Say when what was asked at *asked_ns* is answered by a server that began at *began_ns*, on the same clock.

        Later questions are never answered earlier.
        """
        due = asked_ns + self.answer_ns
        if self.stall_ns:
            into = (due - began_ns) % self.every_ns
            if due - began_ns >= self.every_ns and into < self.stall_ns:
                due += self.stall_ns - into
        return due


class Delayed:
    """Writes answers when they are due, on the running event loop; a timerfd wakes it, for its own timers are coarse."""

    def __init__(self, delay: Delay) -> None:
        self._delay = delay
        self._began_ns = now_ns()
        self._waiting: deque[tuple[int, asyncio.WriteTransport, bytes]] = deque()
        self._timer = TimerFile()
        asyncio.get_running_loop().add_reader(self._timer.fileno(), self._wake)

    def write(self, transport: asyncio.WriteTransport, answer: bytes) -> None:
        """Have *answer* written when it is due; whoever hangs up before gets none."""
        due = self._delay.due_ns(now_ns(), self._began_ns)
        self._waiting.append((due, transport, answer))
        if len(self._waiting) == 1:
            self._timer.set(due)

    def _wake(self) -> None:
        self._timer.clear()
        waiting = self._waiting
        while waiting and waiting[0][0] <= now_ns():
            _, transport, answer = waiting.popleft()
            if not transport.is_closing():
                transport.write(answer)
        if waiting:
            self._timer.set(waiting[0][0])

    def close(self) -> None:
        """Forget what is waiting."""
        asyncio.get_running_loop().remove_reader(self._timer.fileno())
        self._timer.close()
