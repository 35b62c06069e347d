from tests.workflow import result_factory as factory

from slipway.report.sections.throughput import throughput, throughput_figure


def test_the_title_says_what_was_found(measurement):
    title = throughput_figure(measurement).title

    assert title.startswith("Throughput peaks: gRPC at 4")
    assert ", REST at 2" in title


def test_one_repetition_is_shown_from_the_inside(measurement):
    figure = throughput(measurement).blocks[0].blocks[1]

    assert len(figure.table.rows) == 2 * 14
    assert "warm-up that does not count" in figure.panels[0].drawing.body


def test_predictions_are_rows_not_requests(measured):
    record = factory.benchmark("digits", 2, rows=8)
    payloads = [p.model_copy(update={"rows": 8}) for p in record.payloads]
    by_row = throughput(measured(record.model_copy(update={"payloads": payloads}))).blocks[0].blocks
    by_request = throughput(measured(record)).blocks[0].blocks

    # The sweep's numbers are predictions already; the slots are completions times rows.
    assert by_row[0].table == by_request[0].table
    assert by_row[0].table.rows[-1][2].text.endswith("k")
    assert by_row[1].table != by_request[1].table


def test_without_a_closed_loop_there_is_no_section(measured):
    record = factory.benchmark("digits", 2)
    opened = record.model_copy(update={"cells": [c for c in record.cells if c.load.kind == "open"]})

    assert throughput(measured(opened)) is None
