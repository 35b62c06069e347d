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


def test_one_that_was_stopped_before_its_first_window_has_one_too(results):
    cut_short(results, cells=[], cold_starts=[], ceilings=[], scenarios=[], resident_bytes=None)

    draw_unfinished(MODELS, MEASURED, "T", 0.0, results)

    assert "Cut short" in (results / "unfinished/index.html").read_text()


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


@pytest.mark.parametrize("other", ["validation/digits/1.json", "launch/digits.json"])
def test_a_model_without_its_other_records_cannot_be_drawn_and_that_is_said(results, other, capsys):
    cut_short(results)
    (results / other).unlink()

    draw_unfinished(MODELS, MEASURED, "T", 0.0, results)

    assert capsys.readouterr().err.startswith("No report of what was measured until then: ")
