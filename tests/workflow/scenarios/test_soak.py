import pytest

from slipway.scenarios.soak import LEAST_POINTS, slope


def test_a_slope_is_a_share_of_the_median_per_hour_and_one_wild_value_does_not_move_it():
    seconds = [600.0 * n for n in range(13)]
    memory = [1000.0 + 10 * n for n in range(13)]
    memory[5] = 90_000.0
    found = slope(seconds, memory)

    assert found.per_hour == pytest.approx(0.06, rel=0.1)
    assert found.low <= found.per_hour <= found.high
    assert found.low > 0.01


def test_what_goes_up_and_down_has_no_slope_above_nothing():
    found = slope([60.0 * n for n in range(20)], [1000.0 + (n % 2) for n in range(20)])

    assert found.low <= 0 <= found.high


def test_few_points_and_missing_ones_give_none():
    assert slope(list(range(LEAST_POINTS - 1)), [1.0] * (LEAST_POINTS - 1)) is None
    assert slope(list(range(20)), [None] * 20) is None
