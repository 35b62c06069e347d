import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from slipway import statistics

positive = st.floats(1e-3, 1e6, allow_nan=False)


@pytest.mark.parametrize(("n", "rank"), [(6, 1), (8, 1), (9, 2), (12, 3), (15, 4), (17, 5), (20, 6), (25, 8)])
def test_median_interval_takes_the_ranks_of_the_sign_test_tables(n, rank):
    """Ranks for 95 %: critical values of the two-sided sign test, plus one."""
    found = statistics.median_interval(range(1, n + 1))

    assert (found.low, found.high) == (rank, n + 1 - rank)
    assert found.value == (n + 1) / 2
    assert found.confidence >= 0.95


@pytest.mark.parametrize("n", range(1, 6))
def test_five_windows_or_fewer_give_no_interval(n):
    found = statistics.median_interval(range(n))

    assert (found.low, found.high, found.confidence, found.n) == (None, None, None, n)


def test_nothing_has_no_median():
    assert statistics.median_interval([]) is None
    assert statistics.paired_ratio([], []) is None


@pytest.mark.parametrize("draw", ["lognormal", "exponential", "standard_cauchy"])
def test_median_interval_covers_the_true_median_as_often_as_it_says(draw):
    """Whatever the distribution: that is the point of an order-statistic interval."""
    random = np.random.default_rng(1)
    truth = {"lognormal": 1.0, "exponential": math.log(2), "standard_cauchy": 0.0}[draw]
    trials = 2000

    found = [statistics.median_interval(getattr(random, draw)(size=9)) for _ in range(trials)]

    covered = sum(estimate.low <= truth <= estimate.high for estimate in found)
    assert scipy.stats.binomtest(covered, trials, found[0].confidence).pvalue > 1e-4


@pytest.mark.parametrize("n", [1, 4, 7, 10])
def test_signed_rank_distribution_is_that_of_all_sign_patterns(n):
    patterns = itertools.product([0, 1], repeat=n)
    counts = np.bincount([sum(rank * up for rank, up in enumerate(signs, 1)) for signs in patterns])

    np.testing.assert_allclose(statistics.signed_rank_distribution(n), counts / 2**n)


@given(st.lists(st.tuples(positive, positive), min_size=6, max_size=12))
def test_ratio_turns_over_when_the_sides_change_places(pairs):
    above, below = zip(*pairs, strict=True)

    one, other = statistics.paired_ratio(above, below), statistics.paired_ratio(below, above)

    assert one.value == pytest.approx(1 / other.value)
    assert one.low == pytest.approx(1 / other.high)
    assert one.low <= one.value <= one.high


def test_ratio_excludes_one_exactly_when_wilcoxon_rejects():
    """An interval is the set of ratios that the test does not reject."""
    random = np.random.default_rng(2)
    for _ in range(200):
        n = int(random.integers(6, 17))
        logs = random.normal(0.3, 0.5, n)
        estimate = statistics.paired_ratio(np.exp(logs), np.ones(n))
        rejected = scipy.stats.wilcoxon(logs, method="exact").pvalue <= 1 - 0.95

        assert rejected == (not estimate.low <= 1 <= estimate.high)


def test_ratio_ignores_what_both_sides_of_a_pair_share():
    """A host that is slower in one repetition slows both protocols; the ratio must not care."""
    slowness = [1, 3, 0.5, 2, 9, 1.5, 1]

    found = statistics.paired_ratio([2 * s for s in slowness], slowness)

    assert found.low == pytest.approx(2)
    assert found.high == pytest.approx(2)


def test_ratio_refuses_what_cannot_be_paired():
    with pytest.raises(ValueError, match="cannot be paired"):
        statistics.paired_ratio([1, 2], [1])
    with pytest.raises(ValueError, match="positive"):
        statistics.paired_ratio([1, 0], [1, 1])


@pytest.mark.parametrize(("quantile", "needed"), [(0.5, 7), (0.9, 44), (0.95, 90), (0.99, 459), (0.999, 4603)])
def test_percentile_appears_with_the_sample_that_can_prove_it(quantile, needed):
    assert statistics.samples_needed(quantile) == needed
    assert statistics.percentile(np.arange(needed - 1), quantile) is None
    assert statistics.percentile(np.arange(needed), quantile) is not None


@given(st.lists(st.integers(0, 10**7), min_size=459, max_size=700), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_percentile_is_the_inverted_empirical_distribution(samples, quantile):
    found = statistics.percentile(np.sort(samples), quantile)

    assert found == np.percentile(samples, quantile * 100, method="inverted_cdf")


@given(st.integers(0, 2**60))
def test_bucket_holds_its_value_and_is_narrow(value):
    upper = statistics.bucket_upper(value)
    lower = statistics.bucket_lower(upper)

    assert lower <= value <= upper
    assert statistics.bucket_upper(lower) == statistics.bucket_upper(upper) == upper
    assert (upper - lower) <= lower / 16
    assert statistics.bucket_upper(upper + 1) > upper


@given(st.lists(st.integers(0, 10**9)), st.lists(st.integers(0, 10**9)))
def test_histograms_add_up_as_their_samples_do(some, more):
    merged = statistics.merged_histograms(map(statistics.log_linear_histogram, (some, more)))

    assert merged == statistics.log_linear_histogram(some + more)
    assert sum(merged.values()) == len(some) + len(more)
    assert list(merged) == sorted(merged)


def test_a_distribution_ends_where_samples_prove_nothing_more():
    found = dict(statistics.distribution(np.arange(1, 1001)))

    assert (found[0.0], found[0.5], found[0.99]) == (1, 500, 990)
    assert max(found) == 0.995  # 919 samples prove that one, 4603 the next
    assert statistics.distribution([]) == []
    assert statistics.distribution([7]) == [(0.0, 7.0)]
