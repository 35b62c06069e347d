from tests.workflow import result_factory as factory

from slipway.report.sections.overview import overview
from slipway.report.verdict import judge


def tiles(measurement) -> dict[str, str]:
    block = overview(measurement, judge(measurement), "redo").blocks[1]
    return {tile.label: tile.value for tile in block.tiles}


def test_the_first_screen_holds_the_verdict_and_the_big_numbers(measurement):
    found = tiles(measurement)

    assert found["gRPC predictions at 64 in flight"].startswith("4")
    assert found["gRPC ÷ REST, predictions/s"].startswith("1.8")
    assert found["accuracy through the endpoint"] == "93.1%"
    assert found["image, as a registry stores it"] == "335 MB"
    assert found["REST ÷ gRPC, bytes per request"] == "1.78×"


def test_ratios_are_turned_so_that_they_are_above_one(measured):
    record = factory.benchmark("digits", 2)
    swap = {"rest": "grpc", "grpc": "rest"}
    swapped = record.model_copy(
        update={"cells": [c.model_copy(update={"protocol": swap[c.protocol]}) for c in record.cells]}
    )

    assert tiles(measured(swapped))["REST ÷ gRPC, predictions/s"].startswith("1.8")


def test_what_was_not_measured_has_no_tile(measured):
    found = tiles(measured(factory.benchmark("digits", 2, rate=None, cold_starts=0)))

    assert not [label for label in found if "p99" in label or "first" in label]


def test_without_a_valid_closed_loop_there_is_no_picture(measured):
    record = factory.with_repetitions(
        factory.benchmark("digits", 2), lambda _c, r: r.model_copy(update={"invalid": ["x"]})
    )

    bad = measured(record)

    assert overview(bad, judge(bad), "redo").blocks[0].figures == ()
