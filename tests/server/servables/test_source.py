import logging
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_server.config_files import All, Latest, ModelConfig, Specific
from slipway_server.servables.source import Source, aspired_versions, read_versions

WAIT_S = 20.0


def test_a_version_is_a_child_whose_whole_name_is_a_decimal_int64(tmp_path):
    names = ["1", "00000123", "20170111173521", "0", "9223372036854775807"]
    others = ["9223372036854775808", "1_0", "v1", "1.0", "1a", "tmp", "٣", "1.partial"]
    for name in [*names, *others]:
        (tmp_path / name).mkdir()

    assert read_versions(tmp_path) == {int(name): tmp_path / name for name in names}


def test_of_two_names_for_one_version_one_wins_with_a_warning(tmp_path, caplog):
    (tmp_path / "001").mkdir()
    (tmp_path / "1").mkdir()

    assert read_versions(tmp_path) == {1: tmp_path / "001"}
    assert "name the same version" in caplog.text


@pytest.mark.parametrize(
    ("policy", "found", "aspired"),
    [
        (Latest(), [1, 3, 2], {3}),
        (Latest(0), [1, 2], {2}),
        (Latest(2), [1, 3, 2], {2, 3}),
        (Latest(), [], set()),
        (All(), [1, 3], {1, 3}),
        (Specific(frozenset({1, 7})), [1, 2], {1}),
        (Specific(frozenset()), [1, 2], set()),
    ],
)
def test_policies_choose(policy, found, aspired):
    assert aspired_versions(policy, found) == aspired


@given(st.sets(st.integers()), st.integers(1, 5))
def test_latest_takes_the_highest(found, number):
    aspired = aspired_versions(Latest(number), found)

    assert len(aspired) == min(number, len(found))
    assert all(one > other for one in aspired for other in found - aspired)


def test_a_base_path_that_is_missing_delays_no_other_model(tmp_path, caplog):
    """One missing path stops TF Serving's poll for all models."""
    (tmp_path / "b" / "1").mkdir(parents=True)
    told = {}
    models = [ModelConfig("a", tmp_path / "a"), ModelConfig("b", tmp_path / "b")]

    Source(models, 0, told.__setitem__).poll()

    assert told == {"b": {1: tmp_path / "b" / "1"}}
    assert "Could not find base path" in caplog.text


def test_a_base_path_without_versions_aspires_to_none(tmp_path, caplog):
    told = {}

    Source([ModelConfig("a", tmp_path)], 0, told.__setitem__).poll()

    assert told == {"a": {}}
    assert "No versions of servable a found" in caplog.text


def test_missing_specific_versions_are_told_once(tmp_path, caplog):
    (tmp_path / "1").mkdir()
    source = Source([ModelConfig("a", tmp_path, Specific(frozenset({1, 7})))], 0, lambda *_: None)

    with caplog.at_level(logging.WARNING):
        source.poll()
        source.poll()

    assert caplog.text.count("Version 7 of servable a") == 1


def test_polling_goes_on_after_a_failure_until_stopped(tmp_path):
    """A thread that died in silence would leave the server with old versions for good."""
    polls = []
    enough = threading.Event()

    def aspire(name, versions):
        polls.append(name)
        if len(polls) == 1:
            raise RuntimeError("first poll fails")
        enough.set()

    source = Source([ModelConfig("a", tmp_path)], 0.001, aspire)
    source.start()
    assert enough.wait(WAIT_S)
    source.stop()
    seen = len(polls)

    assert seen >= 2
    assert not source._thread.is_alive()


@pytest.mark.parametrize(("period_s", "polled"), [(0, 1), (-1, 0)])
def test_zero_polls_once_and_negative_never(tmp_path, period_s, polled):
    polls = []
    source = Source([ModelConfig("a", tmp_path)], period_s, lambda *_: polls.append(1))
    source.start()
    source.stop()

    assert len(polls) == polled
