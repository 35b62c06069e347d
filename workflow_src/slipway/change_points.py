"""
Where a series of measurements moved for good: E-divisive splits, and a t-test that each of them must pass. Pure.

A lone outlier is no change, however far out it lies; neither is a step too small to matter. Short histories are the
rule here, so a split needs two values on each side and no more.

Source: Matteson & James, "A Nonparametric Approach for Multiple Change Point Analysis of Multivariate Data", JASA
109(505), 2014 (the split statistic); Fleming et al., "Hunter: Using Change Point Detection to Hunt for Performance
Regressions", ICPE 2023 (windows, the t-test instead of permutations, merging weak points).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import scipy.stats

# Longer histories are searched in windows of this length that overlap by half: what was found long ago stays found.
WINDOW = 50
# A point that is found must be as unlikely by chance; candidates are looked for more generously.
MOST_P = 0.001
_CANDIDATE_P = 10 * MOST_P
# Smaller steps are found, too, but matter to nobody.
LEAST_STEP = 0.03
# Values on each side of a split.
_LEAST_SIDE = 2
# How far beyond its neighbours' median a value may lie, in robust standard deviations, before it is pulled back.
_MOST_DEVIATION = 4.0
_NEIGHBOURS = 2
# Of a normal distribution, standard deviation ÷ median absolute deviation.
_MAD_TO_SD = 1.4826

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ChangePoint:
    """
    A step in a series.

    Attributes:
        index: Of the first value at the new level, 2 … n − 2.
        before: Mean of the values since the change point before, outliers pulled back.
        after: Mean of the values up to the next one.
    """

    index: int
    before: float
    after: float

    @property
    def ratio(self) -> float:
        """New level ÷ old level."""
        return self.after / self.before


def change_points(
    values: Sequence[float], *, most_p: float = MOST_P, least_step: float = LEAST_STEP
) -> list[ChangePoint]:
    """
    Find where *values* moved from one level to another.

    Args:
        values: Positive, in the order they were measured, shape [n].
        most_p: Greatest p-value of the t-test between the levels on both sides of a change point.
        least_step: Least relative difference of the two levels: 0.03 is 3 %.

    Returns:
        In the order of the series; the same for the same values.

    Raises:
        ValueError: If a value is not positive.
    """
    series = np.asarray(values, float)
    if (series <= 0).any():
        raise ValueError("levels are compared by their ratio, which needs positive values")
    if len(series) < 2 * _LEAST_SIDE:
        return []
    smooth = without_outliers(series)
    found = sorted({place for low, high in _windows(len(smooth)) for place in _splits(smooth, low, high)})
    kept = _strong(smooth, found, most_p, least_step)
    edges = [0, *kept, len(smooth)]
    means = [float(smooth[low:high].mean()) for low, high in pairwise(edges)]
    return [ChangePoint(place, before, after) for place, before, after in zip(kept, means, means[1:], strict=False)]


def without_outliers(values: Values) -> Values:
    """
    Pull values back that lie far outside of what their neighbours say; a step that stays is left as it is.

    Source: Hampel's identifier, with a window of five: Pearson, "Outliers in process modeling and identification",
    IEEE Transactions on Control Systems Technology 10(1), 2002.
    """
    around = [values[max(i - _NEIGHBOURS, 0) : i + _NEIGHBOURS + 1] for i in range(len(values))]
    medians = np.array([np.median(window) for window in around])
    off = values - medians
    # A series in which most values are equal has no spread to speak of: then nothing is far.
    spread = _MAD_TO_SD * float(np.median(np.abs(off))) if len(off) else 0.0
    if spread == 0.0:
        return values
    pulled: Values = medians + np.clip(off, -_MOST_DEVIATION * spread, _MOST_DEVIATION * spread)
    return pulled


def _windows(count: int) -> list[tuple[int, int]]:
    if count <= WINDOW:
        return [(0, count)]
    starts = range(0, count - WINDOW + 1, WINDOW // 2)
    return [*((start, start + WINDOW) for start in starts), (count - WINDOW, count)]


def _splits(values: Values, low: int, high: int) -> list[int]:
    """Split values[low:high] at its best place, and both parts again, as long as the parts differ."""
    place = _best_split(values[low:high])
    if place is None or _p_value(values[low : low + place], values[low + place : high]) >= _CANDIDATE_P:
        return []
    middle = low + place
    return [*_splits(values, low, middle), middle, *_splits(values, middle, high)]


def _best_split(values: Values) -> int | None:
    """Find the split with the greatest energy distance between its sides, weighted by their sizes; None if all are alike."""
    count = len(values)
    if count < 2 * _LEAST_SIDE:
        return None
    sums = np.abs(values[:, None] - values[None, :]).cumsum(0).cumsum(1)
    left = np.arange(_LEAST_SIDE, count - _LEAST_SIDE + 1)
    right = count - left
    within_left = sums[left - 1, left - 1]
    within_right = sums[-1, -1] - 2 * sums[left - 1, -1] + within_left
    between = (sums[-1, -1] - within_left - within_right) / 2
    # Each pair within a side is in its sum twice.
    energy = (left * right / count) * (
        2 * between / (left * right) - within_left / (left * (left - 1)) - within_right / (right * (right - 1))
    )
    best = int(energy.argmax())
    return int(left[best]) if energy[best] > 0 else None


def _p_value(before: Values, after: Values) -> float:
    """Say how likely means so far apart are by chance: two-sided t-test with pooled variance."""
    freedom = len(before) + len(after) - 2
    squares = len(before) * before.var() + len(after) * after.var()
    difference = abs(float(before.mean() - after.mean()))
    # Rounding leaves some variance in a series without any.
    if squares <= (1e-12 * float(after.mean())) ** 2:
        return 0.0 if difference > 1e-9 * float(after.mean()) else 1.0
    error = (squares / freedom * (1 / len(before) + 1 / len(after))) ** 0.5
    return float(2 * scipy.stats.t.sf(difference / error, freedom))


def _strong(values: Values, places: Sequence[int], most_p: float, least_step: float) -> list[int]:
    """Drop the weakest place again and again, until each that is left stands against its neighbours."""
    kept = list(places)
    while kept:
        edges = [0, *kept, len(values)]
        sides = [
            (values[low:middle], values[middle:high])
            for low, middle, high in zip(edges, edges[1:], edges[2:], strict=False)
        ]
        chances = [_p_value(before, after) for before, after in sides]
        steps = [abs(float(after.mean() / before.mean()) - 1) for before, after in sides]
        likeliest, smallest = int(np.argmax(chances)), int(np.argmin(steps))
        if chances[likeliest] >= most_p:
            del kept[likeliest]
        elif steps[smallest] < least_step:
            del kept[smallest]
        else:
            break
    return kept
