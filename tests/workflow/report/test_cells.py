import csv
import io

from tests.workflow import result_factory as factory

from slipway.report.cells import COLUMNS, cells_csv


def rows(result) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(cells_csv(result))))


def test_every_repetition_is_a_line_with_its_numbers():
    made = factory.result()
    (record,) = made.models[0].benchmarks
    found = rows(made)

    assert len(found) == sum(len(cell.repetitions) for cell in record.cells)
    first = record.cells[0].repetitions[0]
    assert found[0]["cell"] == "rest-closed-1"
    assert float(found[0]["predictions_per_s"]) == first.predictions_per_s
    assert float(found[0]["p50_us"]) == first.latency.p50_us
    assert set(found[0]) == set(COLUMNS)


def test_what_was_not_measured_is_empty_not_zero():
    record = factory.with_repetitions(
        factory.benchmark("digits", 2), lambda _cell, r: r.model_copy(update={"server_cpu_us_per_request": None})
    )

    assert {row["server_cpu_us_per_request"] for row in rows(factory.with_benchmark(factory.result(), record))} == {""}


def test_names_with_commas_and_quotes_stay_in_their_cell():
    made = factory.result([factory.model_result(model='a,"b"\n')])

    assert {row["model"] for row in rows(made)} == {'a,"b"\n'}
