from slipway.scenario_settings import KINDS
from slipway.scenarios import RUNNERS, common_rows, length
from slipway.settings import BenchmarkSettings

BOTH = ("rest", "grpc")


def test_the_default_has_its_five_loads_and_lasts_as_long_as_before():
    count, seconds = length(BenchmarkSettings(), BOTH)

    assert count == 5 * 2 * 6
    assert 200 < seconds < 240


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
