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
    assert by_row[0].table.rows[:8] == by_request[0].table.rows[:8]
    assert by_row[0].table.rows[7][2].text.endswith("k")
    assert by_row[1].table != by_request[1].table


def test_without_a_closed_loop_there_is_no_section(measured):
    record = factory.benchmark("digits", 2)
    opened = record.model_copy(update={"cells": [c for c in record.cells if c.load.kind == "open"]})

    assert throughput(measured(opened)) is None


def calibrated(*ceilings):
    record = factory.benchmark("digits", 2)
    found = zip(record.ceilings, ceilings, strict=True)
    return record.model_copy(update={"ceilings": [c.model_copy(update={"throughput_rps": rps}) for c, rps in found]})


def test_ceilings_within_sight_are_drawn_with_the_share_up_to_which_they_are_believed(measured):
    figure = throughput_figure(measured(calibrated(6500.0, 6000.0)))
    body = figure.panels[0].drawing.body

    assert body.count('class="limit"') == 4
    assert "REST is believed up to 4\u202f550/s, 70% of the ceiling" in body
    assert "the generator&#39;s ceiling, gRPC: 6\u202f000/s" in body
    assert "a server that does nothing" in figure.caption


def test_ceilings_far_above_are_told_and_do_not_press_the_lines_down(measured):
    body = throughput_figure(measured(calibrated(41e3, 33e3))).panels[0].drawing.body

    assert 'class="limit"' not in body
    assert "▲ REST is believed up to 28.7k/s, 70% of the ceiling" in body


def test_ceilings_are_in_the_data_table_in_predictions(measured):
    record = calibrated(9000.0, 8500.0)
    payloads = [p.model_copy(update={"rows": 8}) for p in record.payloads]
    table = throughput_figure(measured(record.model_copy(update={"payloads": payloads}))).table

    assert [[cell.text for cell in row[:3]] for row in table.rows[-4:]] == [
        ["the load generator's ceiling", "REST", "72k"],
        ["70% of it", "REST", "50.4k"],
        ["the load generator's ceiling", "gRPC", "68k"],
        ["70% of it", "gRPC", "47.6k"],
    ]


def test_without_calibration_nothing_is_said_of_ceilings(measured):
    figure = throughput_figure(measured(factory.benchmark("digits", 2).model_copy(update={"ceilings": []})))

    assert "ceiling" not in figure.caption
    assert "limit" not in figure.panels[0].drawing.body
