import re

from tests.workflow import result_factory as factory

from slipway.report.sections.latency import latency, latency_figure, rate_figure


def test_panels_share_one_scale(measurement):
    figure = latency_figure(measurement)
    ticks = [re.findall(r'class="t" [^>]*text-anchor="end">([^<]+)', panel.drawing.body) for panel in figure.panels]

    assert [panel.title for panel in figure.panels] == [f"{p} service latency" for p in ("p50", "p95", "p99")]
    assert ticks[0] == ticks[1] == ticks[2]


def test_open_and_closed_loop_never_share_a_figure(measurement):
    section = latency(measurement)
    closed, distribution, opened = section.blocks

    assert "(closed loop)" in closed.title
    assert distribution.title == "Latency distribution at 64 in flight (closed loop)"
    assert "service latency" in distribution.panels[0].drawing.body
    assert [f.title for f in opened.blocks] == [
        "Latency at 1\u202f400 requests/s (open loop)",
        "Latency distribution at 1\u202f400 requests/s",
    ]


def at_rates(*rates):
    """A benchmark whose open loop has several rates."""
    record = factory.benchmark("digits", 2)
    found = [cell for cell in record.cells if cell.load.kind == "closed"]
    for rate in rates:
        found += [
            cell
            for cell in factory.benchmark("digits", 2, concurrency=(1,), cold_starts=0, rate=rate).cells
            if cell.load.kind == "open"
        ]
    return record.model_copy(update={"cells": found})


def test_latency_is_drawn_by_offered_rate_where_there_are_several(measured, measurement):
    """What an operator asks of a server: what it costs to go on with half of the machines."""
    found = measured(at_rates(300.0, 900.0, 1500.0))
    figure = rate_figure(found)
    ticks = [re.findall(r'class="t" [^>]*text-anchor="end">([^<]+)', panel.drawing.body) for panel in figure.panels]

    assert rate_figure(measurement) is None
    assert [panel.title for panel in figure.panels] == ["p50 response latency", "p99 response latency"]
    assert ticks[0] == ticks[1]
    assert [[cell.text for cell in row[:2]] for row in figure.table.rows] == [
        [f"{rate} requests/s offered", name] for rate in ("300", "900", "1\u202f500") for name in ("REST", "gRPC")
    ]
    assert all("[" in cell.text for row in figure.table.rows for cell in row[3:])
    # The rate nearest to half of the peak stands for all; the others are folded.
    half = found.rated
    *_, drawn, shown, folded = latency(found).blocks
    assert drawn == figure
    assert shown.blocks[0].title == f"Latency at {half.name.split(' ')[0]} requests/s (open loop)"
    assert folded.summary == "Each of the other rates (2)"
    assert len({figure.id for pair in (shown, *folded.blocks) for figure in pair.blocks}) == 6


def test_a_percentile_that_nothing_proves_is_not_drawn(measured):
    """3 seconds at 1400/s are 4200 answers: too few for p99.9."""
    section = latency(measured(factory.benchmark("digits", 2)))
    percentiles = section.blocks[2].blocks[0].table.rows

    assert [row[0].text for row in percentiles] == ["p50", "p90", "p95", "p99", "p99.9"]
    assert [cell.text for cell in percentiles[-1][1:]] == ["–", "–"]
    assert "p99.9" not in section.blocks[2].blocks[0].panels[0].drawing.body


def test_nothing_proven_is_no_section(measured):
    nothing = dict.fromkeys(("p50_us", "p90_us", "p95_us", "p99_us", "p999_us"))
    record = factory.with_repetitions(
        factory.benchmark("digits", 2),
        lambda _c, r: r.model_copy(update={"latency": r.latency.model_copy(update=nothing), "histogram": {}}),
    )

    assert latency(measured(record)) is None


def test_the_floor_of_a_server_that_does_nothing_is_drawn_where_it_says_something(measurement, measured):
    figure = latency_figure(measurement)
    bare = latency_figure(measured(measurement.record.model_copy(update={"ceilings": []})))

    assert [panel.drawing.body.count('class="limit"') for panel in figure.panels] == [2, 0, 0]
    assert "floor, REST: 60 µs" in figure.panels[0].drawing.body
    assert [[cell.text for cell in row[1:3]] for row in figure.table.rows[:2]] == [
        ["floor, REST", "60 µs"],
        ["floor, gRPC", "70 µs"],
    ]
    assert "does nothing" in figure.caption
    assert "does nothing" not in bare.caption
