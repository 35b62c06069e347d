import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.change_points import WINDOW, change_points, without_outliers


def noisy(rng, levels, spread=0.04, spoiled=0.03):
    """Runs at each level with log-normal noise, a few of them slowed by something else by 10 to 50 %."""
    values = [level for level, count in levels for _ in range(count)]
    slowed = (rng.random(len(values)) < spoiled) * rng.uniform(0.1, 0.5, len(values))
    return np.array(values) * np.exp(rng.normal(0, spread, len(values)) + slowed)


def places(values):
    return [point.index for point in change_points(values)]


def test_a_level_that_moved_is_found_where_it_moved():
    (point,) = change_points([100, 101, 99, 100, 100, 101, 110, 111, 109, 110, 111, 110])

    assert point.index == 6
    assert point.ratio == pytest.approx(1.1, abs=0.01)
    assert point.before == pytest.approx(100, abs=1)


def test_levels_may_move_back():
    rng = np.random.default_rng(1)

    assert places(noisy(rng, [(100, 15), (120, 15), (100, 15)], spread=0.01, spoiled=0)) == [15, 30]


@pytest.mark.parametrize("place", [0, 10, 18, 19])
def test_a_lone_outlier_is_no_change(place):
    values = noisy(np.random.default_rng(2), [(100, 20)], spread=0.01, spoiled=0)
    values[place] *= 3

    assert places(values) == []


def test_a_step_that_matters_to_nobody_is_not_told():
    values = noisy(np.random.default_rng(3), [(100, 20), (102, 20)], spread=0.001, spoiled=0)

    assert places(values) == []
    assert [point.index for point in change_points(values, least_step=0.01)] == [20]


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0, 3.0], [5.0] * 80])
def test_too_few_values_and_equal_ones_have_none(values):
    assert places(values) == []


def test_without_any_noise_a_step_is_certain():
    assert places([1.0, 1.0, 2.0, 2.0]) == [2]


def test_old_changes_stay_found_when_the_history_grows():
    rng = np.random.default_rng(4)
    old = noisy(rng, [(100, 30), (130, 30)], spread=0.02, spoiled=0)
    longer = np.concatenate([old, noisy(rng, [(130, 3 * WINDOW)], spread=0.02, spoiled=0)])

    assert places(old) == places(longer) == [30]


def test_quiet_histories_seldom_cry_wolf_and_a_real_step_is_found_soon():
    """What was measured of it stands in docs/benchmarking.md; seeded, so the same counts every time."""
    rng = np.random.default_rng(5)
    alarms = sum(bool(places(noisy(rng, [(100, 40)]))) for _ in range(100))
    steps = [places(noisy(rng, [(100, 40), (115, 5)])) for _ in range(100)]

    assert alarms <= 8
    assert sum(any(abs(place - 40) <= 1 for place in found) for found in steps) >= 85


@given(st.lists(st.floats(1e-6, 1e12), max_size=70))
def test_any_values_give_places_inside_the_series_and_levels_that_follow_each_other(values):
    found = change_points(values)

    assert all(2 <= point.index <= len(values) - 2 for point in found)
    assert all(a.index < b.index and a.after == b.before for a, b in itertools.pairwise(found))
    assert all(abs(point.ratio - 1) >= 0.03 for point in found)
    assert len(without_outliers(np.array(values))) == len(values)


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_what_is_not_positive_is_refused(value):
    with pytest.raises(ValueError, match="positive"):
        change_points([1.0, value, 2.0])
