"""How long a version's calls take with either thread plan. Decides nothing."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from slipway_server.servables.loader import Call, JointCall, Servable
from slipway_server.servables.thread_plans import Round, Timing

AnyCall = Call | JointCall

WINDOW_S = 0.003
"""At each size: long enough for a few dozen calls of a small model, and for threads to meet."""

_MAX_ROUNDS = 7

Measure = Callable[[Servable, Servable, tuple[AnyCall, AnyCall], int], Iterator[Round]]
"""Times both plans, the default one first, with a call of the smallest and one of the largest size and so many callers."""


def measured(
    one_batch: Servable, batch_per_core: Servable, calls: tuple[AnyCall, AnyCall], callers: int
) -> Iterator[Round]:
    """Time both plans in turn, round by round, each round in another order; see `Measure`."""
    with ThreadPoolExecutor(callers, thread_name_prefix="thread_plan") as pool:
        for number in range(_MAX_ROUNDS):
            plans = [one_batch, batch_per_core][:: -1 if number % 2 else 1]
            timings = [_timing(servable, calls, pool, callers) for servable in plans]
            yield Round(*timings[:: -1 if number % 2 else 1])


def _timing(servable: Servable, calls: tuple[AnyCall, AnyCall], pool: ThreadPoolExecutor, callers: int) -> Timing:
    smallest, largest = calls
    lone_s = 1 / _per_s(servable, smallest, pool, 1)
    small_per_s = _per_s(servable, smallest, pool, callers) * rows(smallest)
    if largest is smallest:
        return Timing(lone_s, small_per_s, lone_s, small_per_s)
    large_lone_s = 1 / _per_s(servable, largest, pool, 1)
    return Timing(lone_s, small_per_s, large_lone_s, _per_s(servable, largest, pool, callers) * rows(largest))


def _per_s(servable: Servable, call: AnyCall, pool: ThreadPoolExecutor, callers: int) -> float:
    """Call on *callers* threads for a while; return calls a second of all."""
    together = Barrier(callers)

    def repeat() -> float:
        together.wait()
        began = time.perf_counter()
        calls = took_s = 0.0
        while calls == 0 or took_s < WINDOW_S:
            run(servable, call)
            calls += 1
            took_s = time.perf_counter() - began
        return calls / took_s

    return sum(future.result() for future in [pool.submit(repeat) for _ in range(callers)])


def run(servable: Servable, call: AnyCall) -> None:
    """Make one call."""
    if isinstance(call, JointCall):
        servable.run_together(call.calls)
    else:
        servable.run(call)


def call_s(servable: Servable, call: AnyCall, limit_s: float) -> tuple[float, float]:
    """
    Make a few calls; return how long one takes once all is set up, and how long they took together (s).

    After the first, none if they would take longer than *limit_s*: then that one's time is both.
    """
    began = time.perf_counter()
    run(servable, call)
    first_s = time.perf_counter() - began
    if 3 * first_s > limit_s:
        return first_s, first_s
    later_s = []
    for _ in range(2):
        now = time.perf_counter()
        run(servable, call)
        later_s.append(time.perf_counter() - now)
    return min(later_s), time.perf_counter() - began


def rows(call: AnyCall) -> int:
    """Count the rows of a call; one whose inputs have none counts as one."""
    array = next(iter(call.inputs.values()))
    return int(array.shape[0]) if array.ndim else 1
