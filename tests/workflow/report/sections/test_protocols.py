from tests.workflow import result_factory as factory

from slipway.report.sections.protocols import protocols, ratio_figure


def rows(table) -> list[list[str]]:
    return [[cell.text for cell in row] for row in table.rows]


def test_throughput_is_compared_at_every_load_and_cost_at_the_peak(measurement):
    names = [row[0] for row in rows(ratio_figure(measurement).table)]

    assert names == [
        *(f"predictions / s, {n} in flight" for n in (1, 4, 16, 64)),
        "p50 latency, 1\u202f400/s",
        "p99 latency, 1\u202f400/s",
        "server CPU / request",
        "bytes / request",
    ]


def test_a_ratio_whose_interval_includes_one_takes_no_side(measured):
    """With one repetition there is no interval at all."""
    body = ratio_figure(measured(factory.benchmark("digits", 2, repetitions=1))).panels[0].drawing.body

    assert 'class="mark tool hollow"' in body
    assert "mark grpc" not in body


def test_bytes_are_told_part_by_part(measurement):
    figure = protocols(measurement).blocks[0].blocks[1]

    assert rows(figure.table) == [
        ["REST", "request body", "389"],
        ["REST", "request headers and framing", "123"],
        ["REST", "response", "380"],
        ["gRPC", "request body", "291"],
        ["gRPC", "request headers and framing", "40"],
        ["gRPC", "response", "170"],
    ]


def test_one_protocol_alone_is_no_comparison(measured):
    record = factory.benchmark("digits", 2)
    only = record.model_copy(update={"cells": [c for c in record.cells if c.protocol == "rest"]})

    assert protocols(measured(only)) is None
