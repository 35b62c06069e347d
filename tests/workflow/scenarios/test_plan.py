from pathlib import Path

import pytest
import yaml

from slipway.scenario_settings import KINDS
from slipway.scenarios import RUNNERS, common_rows, length
from slipway.settings import BenchmarkSettings

ROOT = Path(__file__).parents[3]
BOTH = ("rest", "grpc")


def test_the_default_has_its_five_loads_and_lasts_as_long_as_before():
    count, seconds = length(BenchmarkSettings(), BOTH)

    assert count == 5 * 2 * 6
    assert 200 < seconds < 240


def test_each_offered_rate_takes_its_time_and_one_that_is_given_is_one():
    one = length(BenchmarkSettings(only=["open_loop"]), BOTH)
    several = length(BenchmarkSettings(only=["open_loop"], open_loop_share=[0.1, 0.5, 0.9]), BOTH)
    given = length(BenchmarkSettings(only=["open_loop"], open_loop_share=[0.1, 0.5], open_loop_rate=50), BOTH)

    assert one == given
    assert several == (3 * one[0], pytest.approx(3 * one[1]))


def test_confirmations_of_a_rate_take_as_long_as_is_settled():
    def seconds(**given):
        return length(
            BenchmarkSettings.model_validate({"only": ["server_slo"], "scenarios": {"server_slo": given}}), BOTH
        )

    (few, short), (many, long) = seconds(confirmations=1), seconds(confirmations=4)
    assert many - few == 2 * 3
    assert 2 * 3 * 20 < long - short < 2 * 3 * 21
    # A finer rate takes more of the search.
    assert seconds(resolution=0.01)[0] > seconds(resolution=0.2)[0]


def test_what_is_not_wanted_takes_no_time_and_what_is_added_does():
    only = BenchmarkSettings.model_validate({"only": ["payload"], "scenarios": {"payload": {"rows": [1, 2]}}})
    count, seconds = length(only, ("rest",))

    assert count == 2 * 2
    assert 12 < seconds < 13


def test_every_kind_has_a_length_and_somebody_who_measures_it():
    assert set(RUNNERS) == set(KINDS)
    for kind in KINDS:
        settings = BenchmarkSettings.model_validate({"only": [kind], "scenarios": {kind: None}})
        count, seconds = length(settings, BOTH)
        assert count > 0
        assert seconds > 1


def test_requests_have_common_rows_unless_a_scenario_that_is_wanted_asks_for_others():
    scenarios = {"payload": {"rows": [1, 2]}, "offline": None, "soak": None, "serialization": {"rows": 3}}

    def rows(*only):
        return common_rows(BenchmarkSettings.model_validate({"rows": 3, "only": only, "scenarios": scenarios}))

    assert rows("soak", "serialization", "saturation") == 3
    assert rows("payload") is None
    assert rows("offline") is None


@pytest.mark.parametrize(("profile", "least", "most"), [("ci", 3, 6), ("full", 30, 60), ("soak", 115, 130)])
def test_a_profile_takes_as_long_as_it_says(profile, least, most):
    """Minutes under load; cold starts and the calibration come on top, a few seconds each."""
    document = yaml.safe_load((ROOT / f"config/{profile}.yaml").read_text())
    settings = BenchmarkSettings.model_validate(document["benchmark"])

    assert least < length(settings, BOTH)[1] / 60 < most
    # An overlay changes how the default's models are measured, and names none.
    assert set(document) == {"benchmark", "report"}


def test_the_full_profile_leaves_out_nothing_but_the_long_one():
    document = yaml.safe_load((ROOT / "config/full.yaml").read_text())

    assert set(document["benchmark"]["scenarios"]) == set(KINDS) - {"soak"}
