import pytest
from pydantic import ValidationError

from slipway.scenario_settings import KINDS, STANDARD
from slipway.settings import BenchmarkSettings


def read(**given):
    return BenchmarkSettings.model_validate(given)


def test_a_scenario_that_is_called_like_a_kind_is_of_that_kind():
    found = read(scenarios={"server_slo": None, "large": {"kind": "payload", "rows": [64]}}).scenarios

    assert [(name, scenario.kind) for name, scenario in found.items()] == [
        ("server_slo", "server_slo"),
        ("large", "payload"),
    ]
    assert found["large"].rows == [64]


def test_all_kinds_have_defaults_and_none_has_the_name_of_a_standard_load():
    assert set(read(scenarios=dict.fromkeys(KINDS)).scenarios) == set(KINDS)
    assert not set(KINDS) & set(STANDARD)
    with pytest.raises(ValidationError, match=r"scenarios.saturation: this is what the section benchmark itself"):
        read(scenarios={"saturation": {"kind": "payload"}})


def test_only_names_what_there_is():
    settings = read(only=["open_loop", "payload"], scenarios={"payload": None, "soak": None})

    assert [name for name in (*STANDARD, "payload", "soak") if settings.wants(name)] == ["open_loop", "payload"]
    assert read().wants("saturation")
    with pytest.raises(ValidationError, match=r"only: no scenario overload; there are: cold_start, "):
        read(only=["overload"])


@pytest.mark.parametrize(
    "wrong", [{"kind": "payload", "row": [1]}, {"kind": "nonsense"}, {}, {"kind": "mixed", "share": 2}, 7]
)
def test_mistakes_are_refused(wrong):
    with pytest.raises(ValidationError):
        read(scenarios={"mine": wrong})


def test_the_open_loop_has_one_share_of_the_peak_or_several_that_rise():
    assert read().open_loop_shares == [0.5]
    assert read(open_loop_share=[0.1, 0.9]).open_loop_shares == [0.1, 0.9]
    told = "open_loop_share\n.*expected a number above 0 and up to 0.95, or a list of such numbers that rise, got "
    for wrong in (0, 0.96, [], [0.5, 0.1], [0.5, 0.5], [0.1, 2], "half"):
        with pytest.raises(ValidationError, match=told) as caught:
            read(open_loop_share=wrong)
        assert len(caught.value.errors()) == 1
