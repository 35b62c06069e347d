"""How many runs go on at once: no more than there are CPUs, unless those that go on take long."""

import math
from collections.abc import Callable

GRACE_S = 0.005
"""A run that has gone on for longer keeps no other from beginning."""

# Affinity and quota can change while the server runs; they are looked up again after this time.
_LOOK_AGAIN_S = 1.0


class Pace:
    """
    Says when another run may begin.

    On one CPU, two threads that take turns at short runs only share out the requests: the batches get smaller, and each
    costs its switch of threads (a third of a small request's CPU, `docs/performance.md`). So while as many runs go on as
    there are CPUs, what comes in waits for one of them, and goes out together. But not for long: a slow model must not hold
    up a quick one, and work that waits (for a GPU, for a disk) must not keep a CPU idle.

    Owns no clock and no lock: the times it is given never go back.
    """

    def __init__(self, cpus: Callable[[], float]) -> None:
        """
        Begin without a run.

        Args:
            cpus: Counts the CPUs, as `slipway_server.cpus.count` does; infinite: never wait.
        """
        self._count = cpus
        self._cpus = 0.0
        self._look_at = -math.inf
        # When the runs that go on began, the first first.
        self._began: list[float] = []

    def begin(self, now: float) -> None:
        """Take note that a run begins at *now* (monotonic, s)."""
        self._began.append(now)

    def end(self, began: float) -> None:
        """Take note that the run that began then has ended."""
        self._began.remove(began)

    def next_at(self, now: float) -> float:
        """Return the time (monotonic, s) from which another run may begin, if none ends before; minus infinity: at once."""
        cpus = self._cpus_at(now)
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
        return self._cpus_at(now) < 2

    def _cpus_at(self, now: float) -> float:
        if now >= self._look_at:
            self._cpus = self._count()
            self._look_at = now + _LOOK_AGAIN_S
        return self._cpus
