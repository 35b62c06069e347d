"""How many runs go on at once: no more than there are CPUs, unless those that go on take long."""

import math
from collections.abc import Callable

GRACE_S = 0.005
"""A run that has gone on for longer keeps no other from beginning."""

# Affinity and quota can change while the server runs; they are looked up again after this time.
_LOOK_AGAIN_S = 1.0

# A thread that takes requests in for less of its time than this needs no CPU of its own; nor does it where runs take longer than
# so many times what it takes for them: two runs at once are then worth more.
_BUSY = 0.1
_SHORT = 2.0


class Pace:
    """
    Says when another run may begin.

    On one CPU, two threads that take turns at short runs only share out the requests: the batches get smaller, and each
    costs its switch of threads (a third of a small request's CPU, `docs/performance.md`). So while as many runs go on as
    there are CPUs, what comes in waits for one of them, and goes out together. But not for long: a slow model must not hold
    up a quick one, and work that waits (for a GPU, for a disk) must not keep a CPU idle.

    Where the thread that takes requests in is as busy as the runs are, one of the CPUs is its own. Otherwise all runs go on at
    once, and end at once, and then that thread has work while they have none: they take turns, and half of the CPUs is idle.

    Owns no clock and no lock: the times it is given never go back.
    """

    def __init__(self, cpus: Callable[[], float], taking_in_s: Callable[[], float] = lambda: 0.0) -> None:
        """
        Begin without a run.

        Args:
            cpus: Counts the CPUs, as `slipway_server.cpus.count` does; infinite: never wait.
            taking_in_s: Says how much CPU time (s) the thread that takes requests in has used.
        """
        self._count = cpus
        self._taking_in_s = taking_in_s
        # There are, and runs may use.
        self._cpus = self._for_runs = 0.0
        self._look_at = -math.inf
        # When that was decided, and how much CPU time the thread that takes requests in had used by then.
        self._looked_at = self._taken_in_s = 0.0
        # How long runs have gone on since.
        self._ran_s = 0.0
        # When the runs that go on began, the first first.
        self._began: list[float] = []

    def begin(self, now: float) -> None:
        """Take note that a run begins at *now* (monotonic, s)."""
        self._began.append(now)

    def end(self, began: float, now: float) -> None:
        """Take note that the run that began then has ended at *now*."""
        self._began.remove(began)
        self._ran_s += now - began

    def next_at(self, now: float) -> float:
        """Return the time (monotonic, s) from which another run may begin, if none ends before; minus infinity: at once."""
        self._count_again(now)
        cpus = self._for_runs
        if len(self._began) < cpus:
            return -math.inf
        young = [began for began in self._began if began + GRACE_S > now]
        too_many = len(young) - int(cpus)
        return young[too_many] + GRACE_S if too_many >= 0 else -math.inf

    def is_alone(self, now: float) -> bool:
        """
        Say whether there is but one CPU at *now*.

        Then no run goes on beside the thread that takes requests in, and nothing is lost if a run begins a little later,
        with what that thread can still take in.
        """
        self._count_again(now)
        return self._cpus < 2

    def _count_again(self, now: float) -> None:
        if now < self._look_at:
            return
        self._cpus = self._for_runs = self._count()
        taken_in_s = self._taking_in_s()
        busy_s, passed_s = taken_in_s - self._taken_in_s, now - self._looked_at
        if self._cpus >= 2 and busy_s >= _BUSY * passed_s and self._ran_s <= _SHORT * busy_s:
            self._for_runs = self._cpus - 1
        self._looked_at, self._taken_in_s, self._ran_s = now, taken_in_s, 0.0
        self._look_at = now + _LOOK_AGAIN_S
