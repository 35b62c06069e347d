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


def test_doubles_digits_are_weighed_beside_those_that_were_sent(measured):
    """How far gRPC is ahead in bytes depends on digits: a page that tells one number alone misleads."""
    record = factory.benchmark("digits", 2)
    payload = record.payloads[0].model_copy(update={"rest_plain_body_bytes": 800.0})
    figure = protocols(measured(record.model_copy(update={"payloads": [payload]}))).blocks[0].blocks[1]

    assert [row[1:] for row in rows(figure.table) if row[0] == "REST, doubles' digits"] == [
        ["request body", "800"],
        ["request headers and framing", "123"],
        ["response", "380"],
    ]
    assert "computed, not sent" in figure.caption


def test_one_protocol_alone_is_no_comparison(measured):
    record = factory.benchmark("digits", 2)
    only = record.model_copy(update={"cells": [c for c in record.cells if c.protocol == "rest"]})

    assert protocols(measured(only)) is None
