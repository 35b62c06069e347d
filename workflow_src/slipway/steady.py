"""
Whether a load has settled: where its warm-up ends, and whether something still rises or falls. Pure.

Two tests on what was answered in each slot: MSER-5 finds where the warm-up ends, Mann–Kendall whether there is a trend after it.
Both look at ranks and means of the whole series, so that a server that takes a break now and then is not called unsteady.
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
# |z| of Mann–Kendall's test from which a trend is told: 2.5 % of series without one.
MOST_TREND = 2.24
# Fewer values can hardly reach that.
LEAST_VALUES = 8
# In a series of single slots what comes next depends on what came before, and so does the test's error: there a trend must be
# large, too, as a share over the whole window.
MOST_CHANGE = 0.1
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
        is_steady: Whether the rest neither rises nor falls, and is more than half of the series; None: too short to tell.
        trend: z of Mann–Kendall's test, positive where more and more was answered; None: too short to tell.
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

    Source: the defaults are those of Slipway's simulations on 60 s with a coefficient of variation of 5 %.
    """
    found = mser5(per_slot)
    half = len(per_slot) / 2
    begin = max(planned_slots, found if found is not None and found < half else 0)
    kept = per_slot[begin:]
    whole_seconds = len(kept) // _SLOTS_A_SECOND
    if len(kept) < LEAST_VALUES or np.mean(kept) < _LEAST_ANSWERS:
        return Settled(begin, begin > planned_slots, None, None)
    is_late = found is not None and found >= half
    if whole_seconds >= LEAST_VALUES:
        seconds = np.reshape(kept[: whole_seconds * _SLOTS_A_SECOND], (-1, _SLOTS_A_SECOND)).mean(axis=1).tolist()
        z = mann_kendall(seconds)
        return Settled(begin, begin > planned_slots, not is_late and abs(z) < MOST_TREND, z)
    z = mann_kendall(kept)
    moves = abs(z) >= MOST_TREND and abs(_change(kept)) > MOST_CHANGE
    return Settled(begin, begin > planned_slots, not (is_late or moves), z)


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
    errors = [np.var(batches[cut:]) / (len(batches) - cut) for cut in range(len(batches) // 2 + 1)]
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
