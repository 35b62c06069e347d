"""
How many CPUs one batch gets: what was timed becomes a decision. Knows no clock, thread or TensorFlow.

A graph of small ops loses by sharing each of them out to all CPUs: a convolution net of the digits' size takes 270 µs a call that
way on two CPUs, and 55 µs on one thread. A large one needs all CPUs for a single request: ResNet50 28 ms, and 45 ms on one.
"""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from slipway_server.load_options import DEFAULT_PLAN, Plan

MIN_GAIN = 1.1
"""Throughput that the other plan must have, in that of the default one: less is noise, and not worth another behaviour."""

MAX_LOSS = 0.9
"""Throughput that it must keep at either size of batch."""

MAX_DELAY = 1.1
"""Time that a request which is alone may take with the other plan, in what it takes with the default one."""

MAX_LARGE_DELAY = 2.0
"""The same of a request with the rows of the largest batch, which more than one CPU could have shared."""

MIN_ROUNDS = 5
"""Fewer rounds decide nothing: one of them may have been disturbed."""

_HOPELESS = 1.5
"""What a request that is alone may take at most in the first rounds: a large model need not be measured to the end."""

MIN_CALL_S = 50e-6
"""What takes less than this has no op that is worth sharing out, whoever could: half_plus_two takes 4 µs on any number of CPUs."""


@dataclass(frozen=True, slots=True)
class Timing:
    """
    What a plan did in one round.

    Attributes:
        lone_s: Seconds of a call of the smallest size with no other beside it.
        small_per_s: Rows a second in calls of that size, as many at once as there are threads and CPUs.
        large_lone_s: As lone_s, of the largest size.
        large_per_s: As small_per_s, in calls of the largest size.
    """

    lone_s: float
    small_per_s: float
    large_lone_s: float
    large_per_s: float


@dataclass(frozen=True, slots=True)
class Round:
    """Both plans, one right after the other."""

    one_batch: Timing
    batch_per_core: Timing


@dataclass(frozen=True, slots=True)
class Verdict:
    """
    What the rounds say; ratios are of batch_per_core to one_batch, each the median of those within a round.

    Attributes:
        plan: Which to take.
        small: Throughput at the smallest size.
        large: Throughput at the largest size.
        delay: Time of a request of the smallest size that is alone.
        large_delay: Time of one of the largest size.
    """

    plan: Plan
    small: float = 1.0
    large: float = 1.0
    delay: float = 1.0
    large_delay: float = 1.0


def decide(rounds: Sequence[Round]) -> Verdict:
    """
    Choose by what counts: throughput when there is more work than CPUs, and no harm to a request that is alone.

    The default stays unless the other plan clearly gains: the geometric mean of its throughput at both sizes is up by
    MIN_GAIN, neither falls below MAX_LOSS, and a lone request takes no longer than MAX_DELAY, or MAX_LARGE_DELAY if it is large.
    """
    if not rounds:
        return Verdict(DEFAULT_PLAN)

    def median(value: Callable[[Timing], float]) -> float:
        return statistics.median([value(one.batch_per_core) / value(one.one_batch) for one in rounds])

    small, large = median(lambda timing: timing.small_per_s), median(lambda timing: timing.large_per_s)
    delay, large_delay = median(lambda timing: timing.lone_s), median(lambda timing: timing.large_lone_s)
    gains = math.sqrt(small * large) >= MIN_GAIN and min(small, large) >= MAX_LOSS
    is_harmless = delay <= MAX_DELAY and large_delay <= MAX_LARGE_DELAY
    plan: Plan = "batch_per_core" if len(rounds) >= MIN_ROUNDS and gains and is_harmless else DEFAULT_PLAN
    return Verdict(plan, small, large, delay, large_delay)


def is_hopeless(rounds: Sequence[Round]) -> bool:
    """Say whether *rounds*, however few, leave the other plan no chance: it delays a lone request far too much in each."""
    return len(rounds) > 1 and all(one.batch_per_core.lone_s > _HOPELESS * one.one_batch.lone_s for one in rounds)
