"""Which two versions are loaded, and what pairs of windows show; the whole way is in tests/workflow/bench/test_served.py."""

import functools
import itertools
from types import SimpleNamespace

import pytest
from tests.workflow import result_factory as factory

from slipway import repetitions
from slipway.scenario_settings import AbVersions
from slipway.scenarios import ab
from slipway.scenarios.ab import CLOSED, OPEN, Side, choose
from slipway.scenarios.taking import Taking
from slipway.scenarios.versions import Versions
from slipway_wire.tolerances import Tolerances


def versions(asked=2, served=(1, 2, 3), labels=None):
    return Versions(asked, served, labels or {}, lambda *_: [], lambda _: "", Tolerances())


@pytest.mark.parametrize(
    ("given", "known", "found"),
    [
        ({}, versions(), (1, 2)),
        ({}, versions(asked=1), (2, 1)),
        ({}, versions(asked=3), (2, 3)),
        ({"head": 3}, versions(), (2, 3)),
        ({"base": 3}, versions(), (3, 2)),
        ({"head": "canary"}, versions(labels={"canary": 3}), (2, "canary")),
        ({"base": "stable", "head": "canary"}, versions(served=()), ("stable", "canary")),
        ({}, versions(served=(2,)), "no other version is served beside version 2"),
        (
            {"head": "canary"},
            versions(),
            "which version label canary is, nobody told: name the other one with ab_versions.base",
        ),
        ({"base": 1, "head": "canary"}, versions(), (1, "canary")),
        ({"base": 7}, versions(), "version 7 is not served; there are: 1, 2, 3"),
        ({"base": "old"}, versions(labels={"new": 2}), "there is no label old; there are: new"),
        ({"base": "new"}, versions(labels={"new": 2}), "base and head are both version 2"),
        ({"base": 2}, versions(), "base and head are both version 2"),
    ],
)
def test_base_is_the_version_before_head_unless_somebody_says_otherwise(given, known, found):
    assert choose(AbVersions(**given), known) == found


def test_what_a_server_does_not_tell_must_be_named():
    for known in (versions(asked=None), versions(served=())):
        assert "name two with ab_versions.base and ab_versions.head" in choose(AbVersions(), known)


@pytest.fixture
def taking():
    bench = SimpleNamespace(windows=SimpleNamespace(settings=SimpleNamespace(rows=2)))
    return Taking(bench, "ab_versions", "ab_versions", {})


SIDES = Side(1, [], None), Side(2, [], None)
NOISE = (1.0, 1.01, 0.99, 1.02, 0.98, 1.005, 0.995, 1.015)


@functools.cache
def made_up():
    (cell, *_) = factory.benchmark("digits", 2).cells
    return cell.repetitions[0]


def repetition(index, factor, invalid=()):
    made = made_up()
    latency = made.latency.model_copy(update={"p50_us": 1000 * factor, "p99_us": 3000.0})
    return made.model_copy(
        update={
            "index": index,
            "predictions_per_s": 500.0 / factor,
            "server_cpu_us_per_request": 80 * factor,
            "latency": latency,
            "invalid": list(invalid),
        }
    )


def measured(pairs, slower=1.1, invalid=()):
    """Give windows of both versions in which the second is *slower*, with the same disturbance in both of a pair."""
    noise = list(itertools.islice(itertools.cycle(NOISE), pairs))
    return {
        ("rest", "version 1"): [repetition(i, n) for i, n in enumerate(noise)],
        ("rest", "version 2"): [
            repetition(i, n * slower * NOISE[-1 - i % 8] ** 0.2, invalid) for i, n in enumerate(noise)
        ],
    }


def values(taking):
    return {(value.key, value.label): value for value in taking.values}


def test_a_slower_version_is_told_with_its_interval_and_what_is_the_same_is_not(taking):
    found = measured(8)
    ab._take_down(taking, "rest", *SIDES, {CLOSED: found, OPEN: found})
    told = values(taking)
    ratio = told["server_cpu_ratio", "version 2 ÷ version 1"]

    assert ratio.unit == "ratio"
    assert 1.05 < ratio.low < ratio.value < ratio.high < 1.15
    assert told["predictions_per_s_ratio", "version 2 ÷ version 1"].high < 1
    assert told["latency_p99_ratio", "version 2 ÷ version 1"].value == 1
    # Two rows in each request.
    assert told["server_cpu", "version 1"].value == pytest.approx(40, rel=0.02)
    clear = "predictions per second, server CPU per prediction, median latency"
    chance = "(each for itself at 95 %: where several are looked at, one may do so by chance)"
    assert taking.notes == [
        "REST: the interval includes no difference: 99th percentile",
        f"REST: the interval leaves out no difference: {clear} {chance}",
    ]


def test_five_pairs_prove_nothing(taking):
    found = measured(5)
    ab._take_down(taking, "rest", *SIDES, {CLOSED: found, OPEN: found})

    assert values(taking)["server_cpu_ratio", "version 2 ÷ version 1"].low is None
    assert taking.notes == ["REST: fewer than 6 pairs count: there is no 95% interval, and no difference is claimed"]


@pytest.mark.parametrize("rule", [repetitions.DISTURBED, repetitions.SATURATED, repetitions.NEAR_CEILING])
def test_a_busy_host_leaves_cpu_time_and_takes_the_rest(taking, rule):
    found = measured(8, invalid=[rule])
    ab._take_down(taking, "rest", *SIDES, {CLOSED: found, OPEN: found})
    told = values(taking)

    assert told["server_cpu_ratio", "version 2 ÷ version 1"].low > 1
    assert told["latency_p50_ratio", "version 2 ÷ version 1"].value is None
    assert told["latency_p50", "version 1"].value is None
