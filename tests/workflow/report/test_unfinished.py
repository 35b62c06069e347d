import os

import html5lib
import pytest
from tests.workflow import result_factory as factory

from slipway.records import Result
from slipway.report.unfinished import draw_unfinished

MODELS = {"digits": [1, 2]}
MEASURED = {"digits": [2]}


def cut_short(results, reason="stopped by SIGINT", **changes):
    """Let the benchmark of *results* be one that left in the middle."""
    place = results / "benchmarks/digits/2"
    (place / "benchmark.json").unlink()
    record = factory.benchmark("digits", 2).model_copy(update={"cut_short": reason, **changes})
    record.write(place / "benchmark.failed.json")
    return place / "benchmark.failed.json"


def test_a_benchmark_that_was_cut_short_has_a_report_that_says_so(results, capsys):
    cut_short(results, not_measured={"the rest": "cut short: 14 of 60 windows and 6 of 6 starts were measured"})

    draw_unfinished(MODELS, MEASURED, "T", 0.0, results)

    page = (results / "unfinished/index.html").read_text()
    html5lib.HTMLParser(strict=True).parse(page)
    assert "Cut short: stopped by SIGINT" in page
    assert "14 of 60 windows" in page
    assert Result.read(results / "unfinished/result.json").models[0].benchmarks[0].cut_short
    assert "Cut short" in (results / "unfinished/summary.md").read_text()
    assert capsys.readouterr().err == f"What was measured until then: {results}/unfinished/index.html\n"


def prefixes():
    """Give what a benchmark has at its moments: before and after calibration, starts, and each of its windows."""
    whole = factory.benchmark("digits", 2, repetitions=2, concurrency=(1, 4), cold_starts=1)
    nothing = {"cells": [], "cold_starts": [], "ceilings": [], "scenarios": [], "resident_bytes": None}
    yield nothing
    yield nothing | {"ceilings": whole.ceilings[:1]}
    yield nothing | {"ceilings": whole.ceilings}
    for count in range(1, len(whole.cold_starts) + 1):
        yield nothing | {"ceilings": whole.ceilings, "cold_starts": whole.cold_starts[:count]}
    # The window under way has its cell already, and no repetition.
    for count in range(2 * len(whole.cells)):
        done, begun = divmod(count, len(whole.cells))
        cells = [
            cell.model_copy(update={"repetitions": cell.repetitions[: done + (place < begun)]})
            for place, cell in enumerate(whole.cells)
            if done or place <= begun
        ]
        yield {"cells": cells, "scenarios": [], "resident_bytes": None}


@pytest.mark.parametrize("had", prefixes())
def test_whenever_it_was_stopped_there_is_a_report(results, had, capsys):
    cut_short(results, **had)

    draw_unfinished(MODELS, MEASURED, "T", 0.0, results)

    assert capsys.readouterr().err.startswith("What was measured until then: ")
    page = (results / "unfinished/index.html").read_text()
    html5lib.HTMLParser(strict=True).parse(page)
    assert "Cut short" in page


def test_wrong_answers_are_told_before_that_it_was_cut_short(results):
    path = cut_short(results, reason="3 of 10 answers under load are wrong")
    record = factory.benchmark("digits", 2)
    cell = record.cells[0]
    wrong = cell.repetitions[0].model_copy(update={"wrong_answers": 3, "checked_answers": 10})
    cells = [cell.model_copy(update={"repetitions": [wrong]}), *record.cells[1:]]
    record.model_copy(update={"cut_short": "3 of 10 answers under load are wrong", "cells": cells}).write(path)

    draw_unfinished(MODELS, MEASURED, "T", 0.0, results)

    assert "Wrong answers: 3 of" in (results / "unfinished/index.html").read_text()


def test_nothing_is_drawn_where_no_benchmark_was_cut_short_in_this_run(results, capsys):
    draw_unfinished(MODELS, MEASURED, "T", 0.0, results)
    path = cut_short(results)
    draw_unfinished(MODELS, MEASURED, "T", path.stat().st_mtime + 1, results)

    assert not (results / "unfinished").exists()
    assert capsys.readouterr().err == ""


def test_what_another_run_left_is_not_mixed_in(results, capsys):
    path = cut_short(results)
    other = results / "benchmarks/digits/1/benchmark.failed.json"
    other.parent.mkdir(parents=True, exist_ok=True)
    other.with_name("benchmark.json").unlink(missing_ok=True)
    factory.benchmark("digits", 1).model_copy(update={"cut_short": "of another day"}).write(other)
    os.utime(other, (1000.0, 1000.0))

    draw_unfinished(MODELS, {"digits": [1, 2]}, "T", path.stat().st_mtime, results)

    assert capsys.readouterr().err.startswith("What was measured until then: ")
    [model] = Result.read(results / "unfinished/result.json").models
    assert [record.version for record in model.benchmarks] == [2]


def test_what_the_file_system_refuses_is_one_line(results, capsys):
    too_long = 300 * "m"

    draw_unfinished({too_long: [1]}, {too_long: [1]}, "T", 0.0, results)

    told = capsys.readouterr().err
    assert told.startswith("No report of what was measured until then: ")
    assert len(told.splitlines()) == 1


@pytest.mark.parametrize("other", ["validation/digits/1.json", "launch/digits.json"])
def test_a_model_without_its_other_records_cannot_be_drawn_and_that_is_said(results, other, capsys):
    cut_short(results)
    (results / other).unlink()

    draw_unfinished(MODELS, MEASURED, "T", 0.0, results)

    assert capsys.readouterr().err.startswith("No report of what was measured until then: ")
