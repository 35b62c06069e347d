import pytest
from tests.workflow import result_factory as factory

from slipway.prices import Prices
from slipway.records import GpuUse
from slipway.report.content import cpu_per_prediction
from slipway.report.sections.cost import cost


def lines(section):
    (table,) = section.blocks
    return {row[0].text: [cell.text for cell in row[1:]] for row in table.rows}


def test_a_million_predictions_take_a_million_times_one(measurement):
    section = cost(measurement, None)
    used = cpu_per_prediction(measurement.peak("rest"))

    assert lines(section)["server CPU time"][0] == f"{used:.0f} s"
    assert lines(section)["bytes on the wire, both ways"] == ["892 MB", "501 MB"]
    assert [cell.text for cell in section.blocks[0].head[1:]] == ["REST, 64 in flight", "gRPC, 64 in flight"]


def test_without_a_price_there_is_no_cost_in_money_and_the_page_says_why(measurement):
    section = cost(measurement, None)

    assert "No price is told: none is configured (report.prices)" in section.lead
    assert len(lines(section)) == 3


def test_a_price_is_told_with_what_it_rests_on(measurement):
    section = cost(measurement, Prices(currency="EUR", core_hour=0.036, machine_hour=0.2))
    told = lines(section)
    by_core = told["at 0.036 EUR per core and hour, by CPU time"]
    rate = measurement.peak("grpc").predictions_per_s.value

    assert float(by_core[0].removesuffix(" EUR")) == pytest.approx(0.00307, rel=0.02)
    assert told["at 0.2 EUR per machine and hour, always busy"][1] == f"{1e6 / rate / 3600 * 0.2:.4f} EUR"
    assert "No price" not in section.lead


def test_batches_of_rows_are_priced_by_the_row(measured):
    record = factory.benchmark("digits", 2, rows=8, repetitions=2, concurrency=(1,), cold_starts=0)
    payloads = [p.model_copy(update={"rows": 8}) for p in record.payloads]
    by_row = measured(record.model_copy(update={"payloads": payloads}))

    assert cpu_per_prediction(by_row.peak("rest")) == pytest.approx(by_row.peak("rest").server_cpu_us.value / 8)


def test_cpu_time_that_cannot_be_read_is_not_told_as_nothing(measured):
    record = factory.with_repetitions(
        factory.benchmark("digits", 2, repetitions=2, concurrency=(1,), cold_starts=0),
        lambda _c, r: r.model_copy(update={"server_cpu_us_per_request": None}),
    )

    assert lines(cost(measured(record), None))["server CPU time"] == ["–", "–"]


def test_without_a_valid_closed_loop_there_is_no_section(measured):
    record = factory.with_repetitions(
        factory.benchmark("digits", 2, repetitions=2, concurrency=(1,), cold_starts=0),
        lambda _c, r: r.model_copy(update={"invalid": ["x"]}),
    )

    assert cost(measured(record), None) is None


def test_gpus_are_told_by_time_energy_and_memory(measured):
    """Joules are watts for as long as a million predictions take."""
    gpu = GpuUse(devices=2, utilisation=0.5, memory_bytes=3_000_000_000, power_w=400.0, slowed=[], ecc_errors=0)
    record = factory.with_repetitions(
        factory.benchmark("digits", 2, concurrency=(4,), cold_starts=0),
        lambda _c, r: r.model_copy(update={"gpu": gpu, "predictions_per_s": 2000.0}),
    )
    section = cost(measured(record), None)
    told = lines(section)

    assert told["GPU time"] == ["500 s", "500 s"]
    assert told["energy of the GPUs"][0].replace("\u202f", "") in ("200000 J", "200k J", "2.00e5 J")
    assert told["GPUs busy"] == ["50%", "50%"]
    assert told["power of the GPUs"] == ["400 W", "400 W"]
    assert "Energy is that of all GPUs" in section.lead


def test_power_that_a_gpu_does_not_tell_is_not_told_as_none(measured):
    gpu = GpuUse(devices=1, utilisation=0.5, memory_bytes=3, power_w=None, slowed=[], ecc_errors=None)
    record = factory.with_repetitions(
        factory.benchmark("digits", 2, concurrency=(4,), cold_starts=0), lambda _c, r: r.model_copy(update={"gpu": gpu})
    )
    section = cost(measured(record), None)

    assert lines(section)["energy of the GPUs"] == ["–", "–"]
    assert "Energy was not measured" in section.lead
    assert "GPU time" not in lines(cost(measured(factory.benchmark("digits", 2, cold_starts=0)), None))
