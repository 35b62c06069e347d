"""
What samples prove and what they do not: percentiles, intervals, ratios, histograms. Pure functions.

A result is a distribution over repetitions, not over requests: requests inside one window are correlated,
so the window is the unit of replication, and every interval here is exact for small numbers of windows
(no bootstrap: on 6 to 16 pairs it covers 85 to 95 % where it promises 95 %).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.stats
from numpy.typing import ArrayLike, NDArray

CONFIDENCE = 0.95
# A percentile is shown once its samples could prove a bound on it with this confidence.
PERCENTILE_CONFIDENCE = 0.99
# Sub-buckets per power of two: a bucket is at most 1/16 = 6.25 % wide, so its middle is within 3.2 %.
_SUB_BUCKETS = 16


@dataclass(frozen=True, slots=True)
class Estimate:
    """
    A value over *n* repetitions with its interval.

    Attributes:
        value: The point estimate.
        low: Lower end of the interval; None where *n* is too small for any interval of that confidence.
        high: Upper end; None together with *low*.
        n: Repetitions it rests on.
        confidence: The interval's exact coverage (at least what was asked for), 0..1; None without interval.
    """

    value: float
    low: float | None
    high: float | None
    n: int
    confidence: float | None


def median_interval(values: Iterable[float], confidence: float = CONFIDENCE) -> Estimate | None:
    """
    Estimate a median with the exact, distribution-free interval between two order statistics.

    The k-th smallest and k-th largest of n values enclose the median unless fewer than k values fall on one
    side of it: coverage is 1 − 2·P(Binomial(n, ½) < k). With 5 values or fewer nothing reaches 95 %.

    Args:
        values: One number per repetition, any unit.
        confidence: Coverage wanted, 0..1.

    Returns:
        The median and the narrowest such interval that covers at least *confidence*; None without values.

    Source: David & Nagaraja, Order Statistics, 3rd ed., section 7.1.
    """
    ordered = sorted(values)
    n = len(ordered)
    if n == 0:
        return None
    middle = float(np.median(ordered))
    k = int(scipy.stats.binom.ppf((1 - confidence) / 2, n, 0.5))
    # ppf gives the smallest k with cdf(k) >= tail; the interval needs cdf(k - 1) <= tail, which then holds.
    if k < 1:
        return Estimate(middle, None, None, n, None)
    coverage = 1 - 2 * float(scipy.stats.binom.cdf(k - 1, n, 0.5))
    return Estimate(middle, float(ordered[k - 1]), float(ordered[n - k]), n, coverage)


def signed_rank_distribution(n: int) -> NDArray[np.float64]:
    """
    Give the exact null distribution of Wilcoxon's signed-rank statistic.

    Args:
        n: Number of pairs, none tied.

    Returns:
        Probabilities of W = 0, 1, …, n(n+1)/2; shape [n(n+1)/2 + 1].
    """
    chances = np.ones(1)
    for rank in range(1, n + 1):
        # Rank `rank` counts with probability one half.
        chances = np.pad(chances, (0, rank)) / 2 + np.pad(chances, (rank, 0)) / 2
    return chances


def paired_ratio(
    numerators: Sequence[float], denominators: Sequence[float], confidence: float = CONFIDENCE
) -> Estimate | None:
    """
    Estimate numerator ÷ denominator over repetitions that were measured side by side.

    The logarithms of the per-repetition ratios are summed up by the Hodges–Lehmann estimate (median of the
    Walsh averages) with the exact interval that belongs to Wilcoxon's signed-rank test, then raised again.

    Args:
        numerators: One positive number per repetition.
        denominators: The same repetitions, in the same order.
        confidence: Coverage wanted, 0..1.

    Returns:
        The ratio; None without pairs. Below 6 pairs there is no 95 % interval.

    Raises:
        ValueError: If the lengths differ or a number is not positive.

    Source: see `hodges_lehmann`.
    """
    if len(numerators) != len(denominators):
        raise ValueError(f"{len(numerators)} numerators cannot be paired with {len(denominators)} denominators")
    if any(value <= 0 for value in (*numerators, *denominators)):
        raise ValueError("a ratio needs positive numbers")
    center = hodges_lehmann(np.log(np.asarray(numerators, float)) - np.log(np.asarray(denominators, float)), confidence)
    if center is None:
        return None
    low, high = (None if end is None else math.exp(end) for end in (center.low, center.high))
    return Estimate(math.exp(center.value), low, high, center.n, center.confidence)


def hodges_lehmann(differences: ArrayLike, confidence: float = CONFIDENCE) -> Estimate | None:
    """
    Estimate where paired differences lie: the median of their Walsh averages.

    Args:
        differences: One per pair, shape [n].
        confidence: Coverage wanted, 0..1.

    Returns:
        The estimate with the exact interval of Wilcoxon's signed-rank test; None without pairs. Below 6 pairs there
        is no 95 % interval.

    Source: Hollander, Wolfe & Chicken, Nonparametric Statistical Methods, 3rd ed., sections 3.2 and 3.3.
    """
    values = np.asarray(differences, float)
    n = len(values)
    if n == 0:
        return None
    first, second = np.triu_indices(n)
    walsh = np.sort((values[first] + values[second]) / 2)
    center = float(np.median(walsh))
    cumulative = np.cumsum(signed_rank_distribution(n))
    # The k-th smallest and k-th largest Walsh average cover 1 − 2·P(W < k).
    k = int(np.searchsorted(cumulative, (1 - confidence) / 2, side="right"))
    if k < 1:
        return Estimate(center, None, None, n, None)
    coverage = 1 - 2 * float(cumulative[k - 1])
    return Estimate(center, float(walsh[k - 1]), float(walsh[-k]), n, coverage)


def samples_needed(quantile: float, confidence: float = PERCENTILE_CONFIDENCE) -> int:
    """
    Say how many samples a percentile needs before it is worth printing.

    With n samples of which none exceeds a bound, "p99 <= bound" is proven once 0.99^n <= 1 − confidence.
    Below that n even the largest sample proves nothing about the percentile: 459 for p99, 4603 for p99.9.

    Args:
        quantile: 0..1, e.g. 0.99.
        confidence: 0..1.

    Source: MLPerf Inference rules, appendix on early stopping, for t = 0 samples over the bound.
    """
    return math.ceil(math.log(1 - confidence) / math.log(quantile))


def percentile(ordered: ArrayLike, quantile: float) -> float | None:
    """
    Read a percentile off sorted samples, if they are enough to prove something about it.

    Args:
        ordered: Samples in ascending order, shape [n].
        quantile: 0..1.

    Returns:
        The smallest sample with at least the share *quantile* at or below it (no interpolation: a latency
        that nobody saw is not a result); None below `samples_needed`.
    """
    samples = np.asarray(ordered)
    if len(samples) < samples_needed(quantile):
        return None
    # The tolerance keeps 0.9 * 10 = 9.000000000000002 from asking for the tenth sample.
    rank = math.ceil(quantile * len(samples) - 1e-9)
    return float(samples[max(rank, 1) - 1])


# Percentiles that a distribution is drawn at: ten times rarer with each step, where it matters.
DRAWN_QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9995, 0.9999, 0.99995, 0.99999)


def distribution(ordered: ArrayLike) -> list[tuple[float, float]]:
    """
    Read a distribution off sorted samples.

    Args:
        ordered: Samples in ascending order, shape [n].

    Returns:
        (quantile 0..1, sample) for each of `DRAWN_QUANTILES` that the samples prove something about; [] without samples.
    """
    samples = np.asarray(ordered)
    if not len(samples):
        return []
    # The least is the least, however few there are.
    found = [(0.0, float(samples[0])), *((q, percentile(samples, q)) for q in DRAWN_QUANTILES[1:])]
    return [(quantile, value) for quantile, value in found if value is not None]


def bucket_upper(value: int) -> int:
    """
    Give the inclusive upper bound of the histogram bucket that holds *value*.

    Buckets are log-linear, as in HdrHistogram: exact below 32, then 16 of equal width per power of two.

    Args:
        value: A whole number >= 0, e.g. microseconds.
    """
    shift = max(value.bit_length() - _SUB_BUCKETS.bit_length(), 0)
    return ((value >> shift) + 1 << shift) - 1


def bucket_lower(upper: int) -> int:
    """Give the inclusive lower bound of the bucket whose upper bound is *upper*."""
    shift = max(upper.bit_length() - _SUB_BUCKETS.bit_length(), 0)
    return (upper >> shift) << shift


def log_linear_histogram(values: ArrayLike) -> dict[int, int]:
    """
    Count whole numbers in log-linear buckets.

    Args:
        values: Whole numbers >= 0, shape [n], e.g. latencies in microseconds.

    Returns:
        Upper bound of the bucket -> count, ascending, without empty buckets.
    """
    distinct, counts = np.unique(np.asarray(values, np.int64), return_counts=True)
    return merged_histograms(
        [{bucket_upper(int(value)): int(count)} for value, count in zip(distinct, counts, strict=True)]
    )


def merged_histograms(histograms: Iterable[Mapping[int, int]]) -> dict[int, int]:
    """Add up histograms of `log_linear_histogram`; buckets are the same for all of them."""
    total: dict[int, int] = {}
    for histogram in histograms:
        for upper, count in histogram.items():
            total[upper] = total.get(upper, 0) + count
    return dict(sorted(total.items()))
