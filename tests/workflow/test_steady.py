import numpy as np
import pytest
import scipy.signal

from slipway import steady
from slipway.steady import mann_kendall, mser5, settled


def noisy(count, mean=1000.0, spread=50.0, seed=1):
    return np.random.default_rng(seed).normal(mean, spread, count)


def correlated(count, correlation, seed):
    """Steady slots, each of which depends on the one before; a coefficient of variation of 5 %."""
    steps = np.random.default_rng(seed).normal(0, 50 * (1 - correlation**2) ** 0.5, count + 20)
    return 1000 + scipy.signal.lfilter([1], [1, -correlation], steps)[20:]


def test_a_trend_is_what_a_hand_counts():
    """Of 10 values without ties the variance is 10 · 9 · 25 / 18 = 125; three pairs of the first series fall."""
    assert mann_kendall([5, 6, 11, 8, 10, 12, 14, 13, 15, 16]) == pytest.approx((39 - 1) / np.sqrt(125))
    assert mann_kendall(list(range(10))) == pytest.approx((45 - 1) / np.sqrt(125))
    assert mann_kendall(list(range(10, 0, -1))) == pytest.approx(-(45 - 1) / np.sqrt(125))
    assert mann_kendall([3.0] * 12) == 0.0


def test_ties_make_a_trend_no_surer():
    """Two values only: the variance must shrink with them, not the statistic alone."""
    assert 2 < mann_kendall([0] * 6 + [1] * 6) < mann_kendall(list(range(12)))


@pytest.mark.parametrize("seed", range(5))
def test_the_end_of_a_warm_up_is_found(seed):
    slots = noisy(240, seed=seed)
    slots[:60] *= 0.7

    assert mser5(slots) == pytest.approx(60, abs=10)


def test_a_steady_load_loses_nothing_but_its_warm_up():
    found = settled([1000] * 80, 4)

    assert (found.warmup_slots, found.is_steady, found.trend) == (4, True, 0.0)


def test_what_is_steady_is_rarely_called_otherwise():
    """Under 2 % may be: such a window is measured again once. What comes next depends on what came before."""
    for slots in (12, 44, 50, 84):
        for correlation in (0.0, 0.5):
            found = [settled(correlated(slots, correlation, seed), 2) for seed in range(100)]

            assert [one.is_steady for one in found].count(False) <= 4
            assert sum(one.is_longer for one in found) <= 2


@pytest.mark.parametrize("stall", [range(12, 13), range(6, 18)])
@pytest.mark.parametrize("seed", range(5))
def test_a_stall_is_not_cut_away_as_a_warm_up(stall, seed):
    """It is what a tail of latency is made of; a quarter of a second, or three whole seconds."""
    slots = noisy(44, seed=seed)
    slots[stall.start : stall.stop] = 0

    found = settled(slots, 4)

    assert mser5(slots) > 4
    assert (found.warmup_slots, found.is_longer) == (4, False)


def test_a_drift_that_does_not_matter_is_not_called_one():
    """Half a percent, without any noise: as sure as can be, and as small."""
    found = settled(np.linspace(1000, 1005, 80), 4)

    assert found.trend > steady.MOST_TREND
    assert found.is_steady


@pytest.mark.parametrize(("slots", "drift"), [(240, 0.1), (12, 0.4)])
def test_a_drift_is_seen(slots, drift):
    """10 % in a minute; a short window must move further, for single slots depend on each other."""
    drifting = [settled(noisy(slots, seed=s) * np.linspace(1, 1 + drift, slots), 0).is_steady for s in range(50)]

    assert drifting.count(False) >= 40


@pytest.mark.parametrize("count", [44, 80, 84])
def test_a_server_that_still_warms_up_in_the_middle_is_not_steady(count):
    """What would be left is less than half of what was measured, and nothing is left out."""
    slots = noisy(count)
    slots[: count * 9 // 16] *= 0.5

    found = settled(slots, 4)

    assert (found.warmup_slots, found.is_steady) == (4, False)


def test_a_short_rise_that_is_small_does_not_matter():
    assert settled([100 + n for n in range(9)], 0).is_steady


@pytest.mark.parametrize("slots", [[], [1000] * (steady.LEAST_VALUES - 1), [1, 2, 3, 4, 3, 2, 4, 5, 4, 3]])
def test_too_little_is_not_judged(slots):
    """A smoke test's window, or a model that answers now and then."""
    assert settled(slots, 0).is_steady is None


def test_a_window_with_few_answers_is_not_cut():
    """Chance would place the cut."""
    slots = np.random.default_rng(1).poisson(3, 80)
    slots[:20] = 0

    assert mser5(slots) > 4
    assert settled(slots, 4) == steady.Settled(4, is_longer=False)
