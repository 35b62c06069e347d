import pytest
from tests.workflow import result_factory as factory

from slipway.report.sections.cold_start import cold_start
from slipway.report.sections.first_requests import batches, first_requests


def test_it_says_what_warm_up_saves_at_every_batch_size(measurement):
    figure = first_requests(measurement)

    assert figure.title.startswith("Without warm-up the first request of a batch size takes 2")
    assert [panel.title for panel in figure.panels] == ["serving_default", "classify"]
    assert [row[0].text + row[1].text + row[2].text for row in figure.table.rows] == [
        f"{signature}{protocol}{rows}"
        for signature in ("classify", "serving_default")
        for protocol in ("REST", "gRPC")
        for rows in (1, 2, 4)
    ]
    assert cold_start(measurement).blocks[1] == figure


def test_groups_have_their_starts_apart(measurement):
    found = {(b.signature, b.rows, b.protocol): b for b in batches(measurement.record)}

    one = found["classify", 4, "grpc"]
    assert (one.cold.starts, one.warm.starts, one.steady.starts) == (3, 3, 3)
    assert (one.cold.median_us, one.warm.median_us, one.steady.median_us) == (24_080, 1030, 964)
    assert one.saved == pytest.approx(24_080 / 1030)


def test_the_benchmarks_own_requests_were_the_first_of_their_kind(measurement):
    """By the time the records were sent, that signature and batch size was warm on a cold server, too."""
    own = next(
        b for b in batches(measurement.record) if (b.signature, b.rows, b.protocol) == ("serving_default", 1, "rest")
    )
    starts = [s for s in measurement.record.cold_starts if s.protocol == "rest" and not s.warmed]

    assert own.cold.greatest_us == max(start.first_requests_us[0] for start in starts)


@pytest.mark.parametrize("warmed", [True, False])
def test_one_kind_of_start_alone_makes_no_claim(measured, warmed):
    record = factory.benchmark("digits", 2)
    record = record.model_copy(update={"cold_starts": [s for s in record.cold_starts if s.warmed is warmed]})

    assert first_requests(measured(record)) is None


def test_a_single_signature_has_one_panel(measured):
    record = factory.benchmark("digits", 2)
    starts = [s.model_copy(update={"by_batch": s.by_batch[:3]}) for s in record.cold_starts]

    assert len(first_requests(measured(record.model_copy(update={"cold_starts": starts}))).panels) == 1
