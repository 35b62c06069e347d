import dataclasses

import numpy as np
import pytest

from slipway import repetitions
from slipway.records import Load
from slipway.repetitions import Reading, Window
from slipway.server_metrics import ServerSide
from slipway_wire.loads import LoadOutcome
from slipway_wire.samples import Samples

CLOSED = Load(kind="closed", concurrency=4)
OPEN = Load(kind="open", rate=1000.0)
S = 1_000_000_000
SILENT = ServerSide(None, {}, {})


def samples(count=2000, service_us=500, slip_us=0, *, seconds=2.0, failed=()):
    """Requests at equal distances over half a second of warm-up and a window; one value or one for each request."""
    planned = np.linspace(0, (seconds + 0.5) * 1e6, count, endpoint=False).astype(np.int64)
    return Samples(
        origin_ns=10 * S,
        begin_us=500_000,
        end_us=int(500_000 + seconds * 1e6),
        planned_us=planned,
        slip_us=np.broadcast_to(slip_us, count).astype(np.int64),
        service_us=np.broadcast_to(service_us, count).astype(np.int64),
        failed=np.isin(np.arange(count), failed),
    )


def window(of=None, *, server=SILENT, server_ns=(5 * S, 6 * S), busy_s=(100.0, 101.3), **outcome):
    of = samples() if of is None else of
    begin_ns, end_ns = of.origin_ns + of.begin_us * 1000, of.origin_ns + of.end_us * 1000
    known = {
        "requests": len(of.planned_us),
        "checked_answers": len(of.planned_us),
        "wrong_answers": 0,
        "connections": 4,
        "bytes_sent": 400_000,
        "bytes_received": 100_000,
        "cpu_ns": S // 5,
        "cpu_from_ns": begin_ns,
        "cpu_to_ns": end_ns,
        "lag_p99_us": 100.0,
        "lag_max_us": 900.0,
    }
    return Window(
        samples=of,
        outcome=LoadOutcome(**(known | outcome)),
        begin=Reading(begin_ns, server_ns[0], busy_s[0]),
        end=Reading(end_ns, server_ns[1], busy_s[1]),
        server=server,
    )


def repetition(of_window=None, load=CLOSED, rows=1):
    return repetitions.repetition(window() if of_window is None else of_window, load, rows=rows, index=2, order=7)


def test_numbers_are_those_of_the_window_per_request():
    found = repetition(rows=8)

    assert (found.index, found.order, found.window_s, found.discarded_s) == (2, 7, 2.0, 0.5)
    assert found.completed == 1600
    assert found.throughput_rps == 800
    assert found.predictions_per_s == 6400
    assert found.latency.samples == 1600
    assert found.latency.p50_us == found.latency.p99_us == found.latency.max_us == 500
    assert found.latency.p999_us is None  # 4603 samples would prove one
    assert found.bytes_sent_per_request == 200
    assert found.bytes_received_per_request == 50
    assert found.server_cpu_us_per_request == pytest.approx(1e6 / 1600)
    assert found.generator_cpu_us_per_request == pytest.approx(2e5 / 1600)
    assert found.generator_utilisation == pytest.approx(0.1)
    assert found.foreign_cpu_cores == pytest.approx((1.3 - 1.0 - 0.2) / 2)
    assert sum(found.histogram.values()) == 1600
    assert len(found.per_slot) == 10
    assert sum(found.per_slot) == pytest.approx(2000, abs=1)
    assert found.slip_p99_us is None
    assert found.invalid == []


def test_what_was_not_measured_is_none_never_zero():
    found = repetition(window(server_ns=(None, None), bytes_sent=None, bytes_received=None))

    assert found.server_cpu_us_per_request is None
    assert found.foreign_cpu_cores is None
    assert found.bytes_sent_per_request is None
    assert found.bytes_received_per_request is None
    assert found.batch_sizes == {}


def test_cpu_per_request_counts_the_requests_between_the_readings():
    """The readings come a little late on a busy host; so does the count."""
    early = window()
    late = dataclasses.replace(
        early, begin=Reading(early.begin.time_ns + S, 5 * S, 1.0), end=Reading(early.end.time_ns, 6 * S, 2.0)
    )

    assert repetition(late).server_cpu_us_per_request == pytest.approx(1e6 / 800, rel=0.01)


def test_closed_loop_latency_keeps_a_request_that_outlasts_its_window():
    """Sent in the window and answered seconds later: the slowest must not fall out because it was slow."""
    service = np.full(2000, 500)
    service[1900] = 9_000_000

    found = repetition(window(samples(service_us=service)))

    assert found.latency.max_us == 9_000_000
    assert found.completed == 1599


def test_open_loop_latency_begins_when_a_request_was_due():
    found = repetition(window(samples(2500, service_us=400, slip_us=250)), OPEN)

    assert found.latency.p50_us == 650
    assert found.offered == 2000
    assert found.slip_p99_us == 250
    assert found.invalid == []


def test_a_window_near_the_ceiling_of_the_generator_does_not_count():
    found = repetitions.repetition(window(), CLOSED, rows=1, index=0, order=0)
    assert found.invalid == []

    for ceiling, broken in (
        (found.throughput_rps / 0.69, []),
        (found.throughput_rps / 0.71, [repetitions.NEAR_CEILING]),
    ):
        again = repetitions.repetition(window(), CLOSED, rows=1, index=0, order=0, ceiling_rps=ceiling)
        assert again.invalid == broken


@pytest.mark.parametrize(
    ("of_window", "load", "rule"),
    [
        (window(errors={"HTTP 503": 1}), CLOSED, repetitions.FAILED_REQUESTS),
        (window(wrong_answers=1), CLOSED, repetitions.WRONG_ANSWERS),
        (window(cpu_ns=int(1.9 * S)), CLOSED, repetitions.SATURATED),
        (window(lag_p99_us=2001.0), CLOSED, repetitions.LAGGING),
        (window(lag_max_us=50_001.0), CLOSED, repetitions.LAGGING),
        (window(busy_s=(100.0, 101.5)), CLOSED, repetitions.DISTURBED),
        (window(server=ServerSide(1999, {}, {})), CLOSED, repetitions.MISCOUNTED),
        (window(samples(service_us=9_000_000)), CLOSED, repetitions.NOTHING_ANSWERED),
        (window(samples(2500, slip_us=1500)), OPEN, repetitions.LATE),
        (window(samples(2500, service_us=np.linspace(0, 900_000, 2500))), OPEN, repetitions.OFF_RATE),
    ],
)
def test_each_rule_is_broken_by_itself(of_window, load, rule):
    assert repetition(of_window, load).invalid == [rule]


@pytest.mark.parametrize(
    ("of_window", "load"),
    [
        (window(cpu_ns=int(1.7 * S)), CLOSED),
        (window(server=ServerSide(2000, {1: 2000}, {"queue": 1.0})), CLOSED),
        (window(samples(2500, slip_us=1500, service_us=20_000)), OPEN),  # a tenth of the latency
        (window(samples(2500, service_us=60_000)), OPEN),  # the same number under way at both ends
        (window(samples(25, service_us=9_000)), OPEN),  # few requests: the edges weigh more
    ],
)
def test_what_only_looks_like_a_fault_counts(of_window, load):
    assert repetition(of_window, load).invalid == []


def test_a_load_in_which_every_request_failed_has_a_record():
    """It is written beside the failure for people to look at."""
    found = repetition(window(samples(service_us=0, failed=range(2000)), errors={"timeout": 2000}))

    assert found.completed == 0
    assert found.latency.samples == 0
    assert found.latency.p50_us is None
    assert repetitions.FAILED_REQUESTS in found.invalid
