"""
Did it get worse? A sequential test on paired windows, for one metric at a time. Pure.

Looks are taken at 6, 8, … 16 pairs. What looks worse by the margin must show it again in 8 fresh pairs; what cannot be
worse by the margin passes at once. Simulated with windows that vary as they do on a shared virtual machine of two
cores: without any change 0.0 % FAIL (2,000 comparisons), 10 % slower is found in 99.9 %.
Source of the rule and of those figures: the method's section 7.3, see docs/benchmarking.md.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from slipway.statistics import Estimate, hodges_lehmann

LOOKS = (6, 8, 10, 12, 14, 16)
CONFIRMING = 8

State = Literal["open", "pass", "fail", "inconclusive"]


@dataclass(frozen=True, slots=True)
class Decision:
    """
    Where a metric stands.

    Attributes:
        state: open: more pairs are needed.
        pairs: Pairs that the next decision (or this one) rests on.
        confirming: It looked worse, and fresh pairs must confirm it.
    """

    state: State
    pairs: int
    confirming: bool = False


def decide(worse: Sequence[float], margin: float, looks: Sequence[int] = LOOKS) -> Decision:
    """
    Decide about one metric.

    Args:
        worse: One number per pair in the order they were measured: the logarithm of head ÷ base, its sign chosen so
            that more is worse. shape [n].
        margin: A change that matters, as a share: 0.05 is 5 %.
        looks: Numbers of pairs at which to look, ascending, the first at least 6.

    Returns:
        The same for the same pairs, whenever it is asked: each look uses the pairs that were there then.
    """
    limit = math.log1p(margin)
    for count in looks:
        if len(worse) < count:
            return Decision("open", count)
        seen = _estimate(worse[:count])
        if seen.low > 0 and seen.value >= limit:
            return _confirm(worse, count, margin)
        if seen.high < limit:
            return Decision("pass", count)
        if count == looks[-1] and seen.value < limit and seen.high < math.log1p(2 * margin):
            return Decision("pass", count)
    return Decision("inconclusive", looks[-1])


def _confirm(worse: Sequence[float], count: int, margin: float) -> Decision:
    """Hold pairs that were not looked at before against a finding on the first *count*."""
    total = count + CONFIRMING
    if len(worse) < total:
        return Decision("open", total, confirming=True)
    fresh, pooled = _estimate(worse[count:total]), _estimate(worse[:total])
    confirmed = fresh.value >= math.log1p(margin / 2) and pooled.low > 0 and pooled.value >= math.log1p(margin)
    return Decision("fail" if confirmed else "inconclusive", total, confirming=True)


@dataclass(frozen=True, slots=True)
class _Bounds:
    value: float
    low: float
    high: float


def _estimate(worse: Sequence[float]) -> _Bounds:
    found: Estimate | None = hodges_lehmann(worse)
    # Six pairs or more always have an interval.
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    return _Bounds(found.value, found.low, found.high)
