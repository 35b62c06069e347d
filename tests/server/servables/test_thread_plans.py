import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_server.servables.thread_plans import (
    MAX_DELAY,
    MAX_LARGE_DELAY,
    MAX_LOSS,
    MIN_GAIN,
    MIN_ROUNDS,
    Round,
    Timing,
    Verdict,
    decide,
    is_hopeless,
)

numbers = st.floats(1e-3, 1e3)
timings = st.builds(Timing, numbers, numbers, numbers, numbers)
rounds_of_any_kind = st.lists(st.builds(Round, timings, timings), min_size=MIN_ROUNDS, max_size=9)
ratios = st.tuples(st.floats(1.2, 5.0), st.floats(1.2, 5.0), st.floats(0.2, 1.0), st.floats(0.2, 1.9))
BASE = Timing(lone_s=1e-3, small_per_s=1e3, large_lone_s=2e-2, large_per_s=1e4)


def times(timing, small, large, delay, large_delay):
    return Timing(
        timing.lone_s * delay,
        timing.small_per_s * small,
        timing.large_lone_s * large_delay,
        timing.large_per_s * large,
    )


def rounds(small, large, delay, large_delay=1.0, count=MIN_ROUNDS):
    """Rounds in which batch_per_core has *small* and *large* of the throughput, *delay* and *large_delay* of the latency."""
    return [Round(BASE, times(BASE, small, large, delay, large_delay))] * count


@pytest.mark.parametrize(
    ("ratios", "plan"),
    [
        ((2.2, 1.15, 0.3, 0.8), "batch_per_core"),  # a convolution net of the digits' size on two CPUs
        ((1.0, 1.0, 1.0, 1.0), "one_batch"),  # half_plus_two
        ((1.2, 1.05, 1.6, 1.8), "one_batch"),  # ResNet50: a request that is alone would wait
        ((1.12, 1.12, 1.05, 1.5), "batch_per_core"),
        ((1.05, 1.05, 0.9, 0.9), "one_batch"),  # nothing to speak of
        ((3.0, 0.8, 0.5, 1.0), "one_batch"),  # a loss where it counts most
        ((0.8, 3.0, 0.5, 1.0), "one_batch"),
        ((3.0, 3.0, 0.5, 4.0), "one_batch"),  # a large request that is alone would have used all of many CPUs
    ],
)
def test_what_is_chosen(ratios, plan):
    verdict = decide(rounds(*ratios))

    assert verdict.plan == plan
    assert (verdict.small, verdict.large, verdict.delay, verdict.large_delay) == pytest.approx(ratios)


def test_too_few_rounds_choose_nothing():
    assert decide([]) == Verdict("one_batch")
    assert decide(rounds(9.0, 9.0, 0.1, count=MIN_ROUNDS - 1)).plan == "one_batch"


@given(rounds_of_any_kind)
def test_only_a_gain_without_harm_is_chosen(measured):
    """Whatever is measured, by the ratios that are told."""
    verdict = decide(measured)

    is_better = math.sqrt(verdict.small * verdict.large) >= MIN_GAIN
    keeps = min(verdict.small, verdict.large) >= MAX_LOSS
    is_prompt = verdict.delay <= MAX_DELAY and verdict.large_delay <= MAX_LARGE_DELAY
    assert verdict.plan == ("batch_per_core" if is_better and keeps and is_prompt else "one_batch")


@given(rounds_of_any_kind, st.randoms(use_true_random=False), st.integers(-6, 6))
def test_neither_the_order_of_rounds_nor_the_speed_of_the_machine_counts(measured, random, power):
    verdict = decide(measured)
    # A power of two, so that ratios stay the same to the last bit.
    faster = [
        Round(*(times(t, 2.0**power, 2.0**power, 0.5**power, 0.5**power) for t in (a, b)))
        for a, b in ((one.one_batch, one.batch_per_core) for one in random.sample(measured, len(measured)))
    ]

    assert decide(faster) == verdict


@given(st.lists(st.tuples(timings, ratios), min_size=MIN_ROUNDS, max_size=9), st.floats(1.0, 10.0))
def test_a_clear_gain_is_chosen_and_the_way_back_is_not(measured, factor):
    """Nor is a plan dropped for being better still."""
    better = [Round(timing, times(timing, *ratio)) for timing, ratio in measured]
    best = [Round(one.one_batch, times(one.batch_per_core, factor, factor, 1 / factor, 1 / factor)) for one in better]
    turned = [Round(one.batch_per_core, one.one_batch) for one in better]

    assert [decide(one).plan for one in (better, best, turned)] == ["batch_per_core", "batch_per_core", "one_batch"]


@given(st.floats(0.5, 3.0), st.floats(0.5, 3.0), st.floats(0.3, 2.0), timings, st.integers(0, MIN_ROUNDS - 1))
def test_one_disturbed_round_changes_nothing(small, large, delay, disturbed, place):
    quiet = rounds(small, large, delay)
    with_one = list(quiet)
    with_one[place] = dataclasses.replace(quiet[place], batch_per_core=disturbed)

    assert decide(with_one) == decide(quiet)


def test_a_large_model_is_given_up_after_two_rounds():
    slow = rounds(1.0, 1.0, 1.6, count=3)

    assert not is_hopeless(slow[:1])
    assert is_hopeless(slow[:2])
    assert not is_hopeless([*slow, *rounds(1.0, 1.0, 1.2, count=1)])
