import argparse

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway import compare
from slipway.compare.plan import MOST_OPEN_WINDOW_S, Plan, enough_s, plan_of
from slipway.errors import SettingsError
from slipway.records import Load
from slipway.statistics import samples_needed


def asked(*words):
    parser = argparse.ArgumentParser()
    compare.add_arguments(parser)
    return plan_of(parser.parse_args(["--base", "main", *words]))


@pytest.mark.parametrize("rate", [20.0, 50.0, 230.0])
def test_windows_of_the_open_loop_hold_what_a_p99_needs(rate):
    length_s = Plan().length_s(Load(kind="open", rate=rate))
    counts = np.random.default_rng(1).poisson(rate * length_s, 10_000)

    assert Plan().window_s < length_s <= MOST_OPEN_WINDOW_S
    assert np.mean(counts >= samples_needed(0.99)) > 0.997


def test_a_quick_model_gets_the_windows_that_were_asked_for():
    assert Plan().length_s(Load(kind="open", rate=500.0)) == Plan().window_s
    assert Plan().length_s(Load(kind="closed", concurrency=16)) == Plan().window_s


def test_what_would_take_too_long_for_a_p99_is_not_lengthened():
    assert Plan().length_s(Load(kind="open", rate=10.0)) == Plan().window_s


def test_a_length_that_was_asked_for_holds():
    assert asked("--open-window", "0.5").length_s(Load(kind="open", rate=50.0)) == 0.5
    assert asked("--open-window", "90").length_s(Load(kind="open", rate=6.0)) == 90
    assert asked("--window", "20").length_s(Load(kind="open", rate=50.0)) == 20


@given(st.floats(0.5, 0.999), st.floats(0.01, 1e5))
def test_more_requests_take_longer_and_a_higher_rate_less(quantile, rate):
    seconds = enough_s(quantile, rate)

    assert seconds * rate >= samples_needed(quantile)
    assert enough_s(quantile, rate * 2) <= seconds <= enough_s(quantile, rate / 2)


def test_what_was_asked_for_is_what_is_measured():
    assert asked() == Plan()
    plan = asked("--protocols", "grpc, rest", "--users", "3", "--window", "0.5", "--no-latency", "--no-calibration")
    assert (plan.protocols, plan.users, plan.open_share, plan.calibrated) == (("rest", "grpc"), 3, None, ())
    assert plan.warmup_s == pytest.approx(0.2)


def test_the_load_generator_is_calibrated_where_its_limit_may_be_met():
    assert asked("--protocols", "grpc").calibrated == ("grpc",)
    assert asked("--no-throughput").calibrated == ()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--protocols", "rest,grcp"], "--protocols: expected rest, grpc, or both .*, found 'rest,grcp'"),
        (["--protocols", ""], "--protocols: .*, found ''"),
        (["--rows", "0"], "--rows: expected a whole number from 1 on, found 0"),
        (["--users", "-1"], "--users: .*, found -1"),
        (["--threads", "0"], "--threads: .*, found 0"),
        (["--generator-processes", "0"], "--generator-processes: .*, found 0"),
        (["--window", "0"], "--window: expected seconds, more than 0, found 0"),
        (["--window", "nan"], "--window: .*, found nan"),
        (["--open-window", "inf"], "--open-window: .*, found inf"),
    ],
)
def test_an_option_that_cannot_be_is_one_line(words, told):
    with pytest.raises(SettingsError, match=f"^{told}$"):
        asked(*words)


def test_every_option_that_cannot_be_is_told_at_once():
    with pytest.raises(SettingsError) as caught:
        asked("--rows", "0", "--window", "-2")

    assert [line.partition(":")[0] for line in str(caught.value).splitlines()] == ["--rows", "--window"]
