import pytest
from tests.workflow.compare_factory import cell, comparison, pair, subject

from slipway.compare.described import made_at, section
from slipway.compare.page import render
from slipway.records import Ceiling


def facts(made):
    return dict(section(made).blocks[1].items)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "commit 0123456789ab"),
        ({"commit": "f" * 40}, "commit 0123456789ab, not where the directory is"),
        ({"image_commit": None}, "2026-01-01 00:00:00 UTC, which is the time of no one commit here"),
        ({"image_commit": None, "image_created": ""}, "not known"),
    ],
)
def test_an_image_is_said_to_be_of_its_own_commit_not_of_its_directorys(changes, told):
    assert made_at(subject().model_copy(update=changes)).startswith(told)


@pytest.mark.parametrize(
    ("base", "head", "warns"),
    [("one_batch", "batch_per_core", True), ("one_batch", "one_batch", False), ("", "batch_per_core", False)],
)
def test_servers_that_run_the_model_in_different_ways_are_told(base, head, warns):
    made = comparison([cell([pair(i) for i in range(6)])])
    changes = {
        which: getattr(made, which).model_copy(update={"thread_plan": plan})
        for which, plan in (("base", base), ("head", head))
    }

    page = render(made.model_copy(update=changes))

    assert ("Thread plans differ" in page) == warns
    assert head in page


def test_the_ceiling_is_told_with_how_near_each_side_came_to_it():
    ceiling = Ceiling(
        protocol="rest",
        concurrency=16,
        throughput_rps=2000.0,
        generator_cpu_us_per_request=40.0,
        generator_utilisation=0.9,
        floor_p50_us=50.0,
    )
    made = comparison([cell([pair(i, head={"throughput_rps": 1500.0}) for i in range(6)])])

    assert not any("ceiling" in fact for fact in facts(made))
    assert facts(made.model_copy(update={"ceilings": [ceiling]}))["The load generator's ceiling, REST"] == (
        "2 000 requests/s from a server that does nothing, with 16 users; base reached 50% of it, head 75%; "
        "over 70% decides nothing"
    ).replace("2 000", "2\u202f000")


def test_the_load_generators_processes_are_told():
    made = comparison([cell([pair(0)])])
    several = made.placement.model_copy(update={"generator_processes": 4})

    assert facts(made)["Load generators"] == "1 process each"
    assert facts(made.model_copy(update={"placement": several}))["Load generators"] == "4 processes each"


def test_windows_that_are_longer_for_a_p99_are_told():
    made = comparison([cell([pair(i) for i in range(6)])])

    assert "Windows at that rate" not in facts(made)
    longer = made.model_copy(update={"offered_rate": 50.0, "open_window_s": 10.6})
    assert facts(longer)["Windows at that rate"] == "10.6 s: some 530 requests each, of which a p99 needs 459"
