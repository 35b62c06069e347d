import pytest
from tests.workflow import result_factory as factory

from slipway.report.sections.inside import _ranges, inside


def test_stages_and_what_they_do_not_explain_add_up_to_the_latency(measurement):
    stages, _, _ = inside(measurement).blocks[0].blocks
    cell = measurement.closed[0].cells["rest"]
    parts = {
        row[1].text: float(row[2].text.replace("\u202f", "")) for row in stages.table.rows if row[0].text == "REST"
    }

    assert list(parts) == ["parse", "queue", "compute", "encode", "client, wire, scheduling"]
    assert sum(parts.values()) == pytest.approx(cell.mean_us.value, rel=0.01)


def test_what_the_server_does_not_tell_is_left_out(measured):
    record = factory.with_repetitions(
        factory.benchmark("digits", 2), lambda _c, r: r.model_copy(update={"stages_us": {}, "batch_sizes": {}})
    )
    (figure,) = inside(measured(record)).blocks[0].blocks

    assert figure.title == "Server CPU per request"


def test_few_batch_sizes_stand_by_themselves_many_in_ranges():
    assert _ranges([1, 3, 32]) == [(1, 1), (3, 3), (32, 32)]
    assert _ranges(list(range(1, 21))) == [(1, 1), (2, 2), (3, 4), (5, 8), (9, 16), (17, 32)]
