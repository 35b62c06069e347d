import html5lib
import pytest
from tests.workflow import result_factory as factory

from slipway.records import Result
from slipway.report.runs import RunEntry, build_index, render_index, run_entry

HTML = "{http://www.w3.org/1999/xhtml}"


def made(day: int, cpu: str = "AMD EPYC 7B13", **more) -> Result:
    where = factory.environment().model_copy(update={"cpu": cpu})
    return factory.result(
        [factory.model_result(repetitions=6, concurrency=(1, 4), cold_starts=0, **more)],
        run_id=f"2031050{day}T071200Z-0000000{day}",
        created=f"2031-05-0{day}T07:12:00Z",
        environment=where,
    )


def entry(result: Result) -> RunEntry:
    return run_entry(result, result.run_id, factory.digest(result.run_id))


@pytest.fixture(scope="module")
def results() -> list[Result]:
    """Newest first."""
    return [made(4), made(3), made(2, cpu="Another"), made(1)]


@pytest.fixture(scope="module")
def entries(results) -> list[RunEntry]:
    return [entry(result) for result in results]


def test_an_entry_sums_a_run_up(entries):
    assert entries[0].state == "proven"
    assert entries[0].headline.startswith("gRPC answers")
    assert [(n.model, n.version, n.protocol) for n in entries[0].numbers] == [
        ("digits", 2, "rest"),
        ("digits", 2, "grpc"),
    ]
    assert all(n.predictions_per_s and n.p99_us for n in entries[0].numbers)


def test_the_index_opens_with_the_newest_verdict_and_its_pictures(results, entries):
    document = html5lib.HTMLParser(strict=True).parse(render_index(results[0], entries))
    text = " ".join("".join(document.find(f".//{HTML}main").itertext()).split())
    figures = [e.attrib["id"] for e in document.iter(HTML + "figure")]

    assert text.startswith("Handwritten digits 2031-05-04 07:12:00 UTC")
    assert "✓ Proven gRPC answers" in text
    assert figures == ["digits-2-peak", "digits-2-throughput-lines", "digits-2-ratio", "digits-2-latency-lines"]


def test_every_run_is_listed_with_a_link_that_stays_below_the_index(results, entries):
    document = html5lib.parse(render_index(results[0], entries))
    links = [a.attrib["href"] for a in document.iter(HTML + "a") if "/index.html" in a.attrib["href"]]

    assert links[2:] == [f"{e.run_id}/index.html" for e in entries]
    assert set(links[:2]) == {f"{entries[0].run_id}/index.html"}


def test_trends_join_runs_of_the_same_machine_alone(results, entries):
    page = build_index(results[0], entries)

    assert [trend.name for trend in page.trends] == ["digits, REST", "digits, gRPC"]
    assert "over 3 runs" in page.trends[0].description


def test_a_single_run_is_no_trend(results, entries):
    assert build_index(results[0], entries[:1]).trends == ()


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
