import dataclasses

import numpy as np
import pytest

from slipway import repetitions
from slipway.conditions import Conditions, Reading
from slipway.records import GpuUse, Load
from slipway.repetitions import Window
from slipway.server_metrics import ServerSide
from slipway_wire.loads import LoadOutcome
from slipway_wire.samples import Samples

# As many users as keep themselves busy below: 800 requests a second that take half a millisecond.
CLOSED = Load(kind="closed", concurrency=1)
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


def window(
    of=None,
    *,
    server=SILENT,
    server_ns=(5 * S, 6 * S),
    busy_s=(100.0, 101.3),
    conditions=Conditions(),  # noqa: B008  # frozen
    **outcome,
):
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
        conditions=conditions,
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


def gpu(**changes):
    known = {"devices": 1, "utilisation": 0.9, "memory_bytes": 1, "power_w": 300.0, "slowed": [], "ecc_errors": 0}
    return GpuUse(**(known | changes))


@pytest.mark.parametrize(
    ("of_window", "load", "rule"),
    [
        (window(errors={"HTTP 503": 1}), CLOSED, repetitions.FAILED_REQUESTS),
        (window(wrong_answers=1), CLOSED, repetitions.WRONG_ANSWERS),
        (window(cpu_ns=int(1.9 * S)), CLOSED, repetitions.SATURATED),
        (window(cpu_ns=S // 5, generators=2, busiest=0.91), CLOSED, repetitions.SATURATED),
        (window(lag_p99_us=2001.0), CLOSED, repetitions.LAGGING),
        (window(lag_max_us=50_001.0), CLOSED, repetitions.LAGGING),
        (window(busy_s=(100.0, 101.5)), CLOSED, repetitions.DISTURBED),
        (window(server=ServerSide(1999, {}, {})), CLOSED, repetitions.MISCOUNTED),
        (window(samples(service_us=9_000_000)), CLOSED, repetitions.NOTHING_ANSWERED),
        (window(conditions=Conditions(foreign_slots=(0.21, 0.0, 0.21))), CLOSED, repetitions.DISTURBED),
        (window(conditions=Conditions(stolen_share=0.011)), CLOSED, repetitions.STOLEN),
        (window(conditions=Conditions(clock_share=0.89)), CLOSED, repetitions.SLOWED),
        (window(conditions=Conditions(throttled_s=0.021)), CLOSED, repetitions.THROTTLED),
        (window(conditions=Conditions(oom_kills=1)), CLOSED, repetitions.KILLED),
        (window(conditions=Conditions(gpu=gpu(slowed=["power cap"]))), CLOSED, repetitions.GPU_SLOWED),
        (window(conditions=Conditions(gpu=gpu(ecc_errors=1))), CLOSED, repetitions.GPU_SLOWED),
        (window(bytes_sent_again=401), CLOSED, repetitions.SENT_AGAIN),
        (window(reconnects=1), CLOSED, repetitions.RECONNECTED),
        (window(), Load(kind="closed", concurrency=2), repetitions.IDLE),
        (window(samples(service_us=np.geomspace(1e4, 1e6, 2000))), CLOSED, repetitions.UNSTEADY),
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
        (window(cpu_ns=3 * S, busy_s=(100.0, 104.0), generators=2, busiest=0.89), CLOSED),
        (window(server=ServerSide(2000, {1: 2000}, {"queue": 1.0})), CLOSED),
        (window(conditions=Conditions((0.2, 0.21, 0.0, 0.0), 0.01, 0.9, 0.02, 0, gpu())), CLOSED),
        (window(bytes_sent_again=400), CLOSED),  # an acknowledgement that was late
        (window(samples(service_us=2200)), Load(kind="closed", concurrency=2)),
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


def test_settings_that_the_server_tells_otherwise_void_a_window():
    """A flag that did not reach the container, a file of another day: what was measured is something else."""
    server = ServerSide(2000, {}, {}, settings={"batching": "on", "batching.max_batch_size": "8"})
    declared = {"batching": "on", "batching.max_batch_size": "32", "grpc_max_threads": "4"}
    found = repetitions.repetition(window(server=server), CLOSED, rows=1, index=0, order=0, declared=declared)

    assert found.invalid == [repetitions.UNDECLARED]
    assert found.undeclared == ["batching.max_batch_size: declared 32, the server says 8"]


def test_what_a_network_loses_is_part_of_what_is_measured_there():
    """`slipway bench` of a server far away: only on loopback is a byte that is sent twice the machine's fault."""
    far = dataclasses.replace(window(bytes_sent_again=100_000), is_local=False)

    assert repetition(far).invalid == []
    assert repetition(far).sent_again_share == 0.25


def test_settings_that_a_server_does_not_tell_are_not_called_equal():
    """TF Serving tells none."""
    assert repetitions.undeclared_settings({"batching": "on"}, {}) is None
    assert repetitions.undeclared_settings({}, {"batching": "on"}) is None
    assert repetitions.undeclared_settings({"batching": "on", "more": "1"}, {"batching": "on"}) == []


def test_requests_under_way_are_counted_at_both_ends():
    """800 a second that take half a millisecond are 0.4 at the client; the server has them for a tenth of that."""
    found = repetition(window(server=ServerSide(2000, {}, {}, latency_s=0.00005)))

    assert found.in_flight == pytest.approx(0.4, rel=0.01)
    assert found.server_in_flight == pytest.approx(0.04, rel=0.01)


def test_a_long_window_begins_where_the_load_had_settled():
    """Half the rate for three of twenty seconds: the planned half second was too short for this server."""
    slow = np.arange(0, 3_000_000, 2000)
    due = np.concatenate([slow, np.arange(3_000_000, 20_500_000, 1000)])
    warming = dataclasses.replace(
        samples(len(due), seconds=20.0),
        planned_us=due,
        slip_us=np.zeros(len(due), np.int64),
        service_us=np.full(len(due), 500),
    )
    found = repetition(window(warming))

    assert found.discarded_s == pytest.approx(3.0, abs=1.25)
    assert found.throughput_rps == pytest.approx(1000, rel=0.01)
    assert found.invalid == []


def test_an_open_loop_keeps_its_window_whatever_was_drawn_for_it():
    """Half the arrivals for three of twenty seconds, and all of them answered: the server did nothing else."""
    due = np.concatenate([np.arange(0, 3_000_000, 2000), np.arange(3_000_000, 20_500_000, 1000)])
    drawn = dataclasses.replace(
        samples(len(due), seconds=20.0),
        planned_us=due,
        slip_us=np.zeros(len(due), np.int64),
        service_us=np.full(len(due), 500),
    )
    found = repetition(window(drawn), OPEN)

    assert (found.discarded_s, found.trend, found.invalid) == (0.5, None, [])


def test_what_is_meant_to_change_is_not_called_unsteady():
    rising = window(samples(service_us=np.geomspace(1e4, 1e6, 2000)))
    found = repetitions.repetition(rising, CLOSED, rows=1, index=0, order=0, is_level=False)

    assert found.invalid == []
    assert found.trend is None
