import csv
import io

import html5lib
import pytest
from tests.workflow import result_factory as factory
from tests.workflow.run_factory import drawn_up, entry, history, made

from slipway.records import Result
from slipway.report.index import build_index, render_index, runs_csv
from slipway.report.runs import RunEntry

HTML = "{http://www.w3.org/1999/xhtml}"


@pytest.fixture(scope="module")
def results() -> list[Result]:
    """Newest first."""
    return [made(4), made(3), made(2, cpu="Another"), made(1)]


@pytest.fixture(scope="module")
def entries(results) -> list[RunEntry]:
    return [entry(result) for result in results]


def test_the_index_opens_with_the_newest_verdict_and_its_pictures_then_the_history(results, entries):
    document = html5lib.HTMLParser(strict=True).parse(render_index(results[0], entries))
    text = " ".join("".join(document.find(f".//{HTML}main").itertext()).split())
    figures = [e.attrib["id"] for e in document.iter(HTML + "figure")]

    assert text.startswith("Handwritten digits 2031-05-04 07:12:00 UTC")
    assert "✓ Proven gRPC answers" in text
    assert figures == [
        *("digits-2-peak", "digits-2-throughput-lines", "digits-2-ratio", "digits-2-latency-lines"),
        *("history-digits-a-speed", "history-digits-a-size"),
    ]
    assert "CPU: Another, in series A AMD EPYC 7B13" in text


def test_every_run_is_listed_with_a_link_that_stays_below_the_index(results, entries):
    document = html5lib.parse(render_index(results[0], entries))
    listed = next(e for e in document.iter(HTML + "article") if e.attrib["id"] == "runs")
    links = [a.attrib["href"] for a in listed.iter(HTML + "a")]

    assert links == [f"{e.run_id}/index.html" for e in entries]


def test_a_single_run_has_no_history(results, entries):
    assert [part.id for part in build_index(results[0], entries[:1]).parts] == ["digits-2"]


def test_a_run_that_measured_nothing_valid_is_listed_as_such():
    record = factory.with_repetitions(
        factory.benchmark("digits", 2), lambda _c, r: r.model_copy(update={"invalid": ["x"]})
    )
    bad = factory.with_benchmark(factory.result(), record)
    page = render_index(bad, [entry(bad), entry(made(1))])

    assert "! Measurement invalid" in page
    assert html5lib.HTMLParser(strict=True).parse(page) is not None


def test_the_same_runs_give_the_same_bytes(results, entries):
    assert render_index(results[0], entries) == render_index(results[0], list(entries))


def test_a_year_of_runs_fits_on_a_page(results, entries):
    many = [*entries[:1], *history([1000.0 + number % 7 for number in range(730)])]
    page = render_index(results[0], many)

    assert "431 older runs are in runs.csv" in page
    assert len(page.encode()) < 1_000_000


def test_every_number_of_every_run_is_in_the_table_oldest_first():
    entries = [drawn_up(1, 900.0, CPU="two"), drawn_up(0, 1000.0)]
    lines = list(csv.DictReader(io.StringIO(runs_csv(entries))))
    rates = [line for line in lines if line["metric"] == "predictions_per_s"]

    assert [(line["run_id"], line["series"], line["protocol"], line["value"], line["unit"]) for line in rates] == [
        ("run-0000", "B", "rest", "1000.0", "1/s"),
        ("run-0000", "B", "grpc", "2000.0", "1/s"),
        ("run-0001", "A", "rest", "900.0", "1/s"),
        ("run-0001", "A", "grpc", "1800.0", "1/s"),
    ]
    assert not [line for line in lines if line["metric"] in ("p99_us", "resident_bytes")]
