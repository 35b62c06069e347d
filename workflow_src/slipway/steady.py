"""
Whether a load has settled: where its warm-up ends, and whether something still rises or falls. Pure.

Two tests on what was answered in each slot: MSER-5 finds where the warm-up ends, Mann–Kendall whether there is a trend after it.
Both look at ranks, medians and means of the whole series, so that a server that takes a break now and then is not called
unsteady, and its breaks are not called a warm-up.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.stats

# Slots that MSER-5 takes the mean of.
_BATCH = 5
# With fewer batches, the place of the least error is a matter of luck.
_LEAST_BATCHES = 8
# |z| of Mann–Kendall's test from which a trend is told: 2.5 % of series without one, if nothing depended on what came before.
MOST_TREND = 2.24
# Where it does, with an autocorrelation of 0.5 from slot to slot, z varies so much more. A shorter series could not reach that.
_DEPENDENCE = math.sqrt((1 + 0.5) / (1 - 0.5))
_LEAST_DEPENDENT_S = 8
# Fewer values can hardly reach that.
LEAST_VALUES = 8
# A shift of level that is a warm-up and not noise, as a share of the level after it.
MOST_CHANGE = 0.1
# A trend must be large, too, as a share over the whole window. By chance a second moves by so much, and what is longer by so much
# over the root of its seconds.
_CHANCE_IN_A_SECOND = 0.35
_LEAST_DRIFT = 0.03
# With fewer answers in a slot their number says more of chance than of the server.
_LEAST_ANSWERS = 5
_SLOTS_A_SECOND = 4


@dataclass(frozen=True, slots=True)
class Settled:
    """
    What a series of slots says.

    Attributes:
        warmup_slots: Slots at the begin that do not count; those of the warm-up that was planned are among them.
        is_longer: Whether these are more than were planned.
        is_steady: Whether the rest neither rises nor falls; None: too short, or too few answers, to tell.
        trend: z of Mann–Kendall's test (from 8 s on of what is left: over √3, for slots depend on each other), positive where more and more was answered; None likewise.
    """

    warmup_slots: int
    is_longer: bool
    is_steady: bool | None = None
    trend: float | None = None


def settled(per_slot: Sequence[int], planned_slots: int) -> Settled:
    """
    Judge a load.

    Args:
        per_slot: Answers in each quarter of a second, warm-up and window.
        planned_slots: How many of them are warm-up, at least.

    Source: the limits are those of Slipway's simulations, with a coefficient of variation of 5 % and an autocorrelation of 0.5
    from slot to slot.
    """
    planned = per_slot[planned_slots:]
    if len(planned) < LEAST_VALUES or np.mean(planned) < _LEAST_ANSWERS:
        return Settled(planned_slots, is_longer=False)
    begin = _warmup(per_slot, planned_slots)
    kept = per_slot[begin:]
    seconds = len(kept) / _SLOTS_A_SECOND
    z = mann_kendall(kept) / (_DEPENDENCE if seconds >= _LEAST_DEPENDENT_S else 1.0)
    least = max(_LEAST_DRIFT, _CHANCE_IN_A_SECOND / math.sqrt(seconds))
    return Settled(begin, begin > planned_slots, abs(z) < MOST_TREND or abs(_change(kept)) <= least, z)


def _warmup(per_slot: Sequence[int], planned: int) -> int:
    """
    Give the slots to leave out: more than *planned* only if what is left out ran, from its begin, at another level.

    The least error alone also cuts noise away, and a server's stalls, which are what a tail of latency is made of.
    """
    found = mser5(per_slot)
    # The greatest cut that was tried is no place where anything ended.
    if found is None or found == _greatest_cut(per_slot) or found < planned + 2 * _BATCH:
        return planned
    level = float(np.median(per_slot[found:]))
    before = (per_slot[planned : planned + _BATCH], per_slot[planned:found])
    shifted = all(abs(float(np.median(slots)) - level) > MOST_CHANGE * level for slots in before)
    return found if shifted else planned


def _greatest_cut(values: Sequence[float]) -> int:
    return len(values) // _BATCH // 2 * _BATCH


def mser5(values: Sequence[float]) -> int | None:
    """
    Find where a warm-up ends: the cut after which the mean of what is left is known best.

    Returns:
        The number of values to leave out, at most about half of them, a multiple of 5; None: too few to tell.

    Source: White, Cobb & Spratt, A Comparison of Five Steady-State Truncation Heuristics for Simulation (2000).
    """
    whole = len(values) // _BATCH
    batches = np.reshape(np.asarray(values[: whole * _BATCH], float), (whole, _BATCH)).mean(axis=1)
    if len(batches) < _LEAST_BATCHES:
        return None
    cuts = range(_greatest_cut(values) // _BATCH + 1)
    errors = [np.var(batches[cut:]) / (len(batches) - cut) for cut in cuts]
    return int(np.argmin(errors)) * _BATCH


def mann_kendall(values: Sequence[float]) -> float:
    """
    Test a series for a trend, corrected for equal values.

    Returns:
        z: standard normal without a trend; 0.0 if all values are equal.

    Source: Kendall, Rank Correlation Methods (1975); the variance with ties as in Gilbert, Statistical Methods for
    Environmental Pollution Monitoring (1987), section 16.4.
    """
    found = np.asarray(values, float)
    n = len(found)
    s = float(np.sign(found[None, :] - found[:, None])[np.triu_indices(n, 1)].sum())
    ties = np.unique(found, return_counts=True)[1]
    variance = (n * (n - 1) * (2 * n + 5) - float(np.sum(ties * (ties - 1) * (2 * ties + 5)))) / 18
    return (s - math.copysign(1, s)) / math.sqrt(variance) if s and variance > 0 else 0.0


def _change(values: Sequence[float]) -> float:
    """Give how far the series moves from its begin to its end, as a share of its median (Theil–Sen)."""
    slope = scipy.stats.theilslopes(values)[0]
    return float(slope) * len(values) / max(float(np.median(values)), 1.0)
