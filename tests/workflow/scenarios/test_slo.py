"""The search on made-up servers, and the proof against the numbers that MLPerf publishes."""

import zlib
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.workflow.test_repetitions import window

from slipway import repetitions
from slipway.scenario_settings import ServerSlo
from slipway.scenarios.slo import Search, is_spoiled, judge, percentile_series, prove, round_up, server_slo
from slipway.scenarios.taking import Taking
from slipway_wire.samples import Samples


@pytest.mark.parametrize(
    ("requests", "over", "expected"),
    [
        *((458, 0, "open"), (459, 0, "proven"), (661, 1, "open"), (662, 1, "proven")),
        *((0, 0, "open"), (1000, 2, "proven"), (1000, 3, "open"), (10_000, 77, "proven")),
        *((10_000, 100, "open"), (1000, 20, "refuted"), (1, 1, "refuted")),
    ],
)
def test_a_bound_is_proven_and_refuted_with_the_published_counts(requests, over, expected):
    """459 requests without one over the bound, 662 with one: the table of MLPerf's early stopping at 99 %."""
    assert prove(requests, over) == expected


@given(capacity=st.floats(1, 1e5), peak_share=st.floats(0.05, 20), resolution=st.floats(0.02, 0.5))
def test_the_search_ends_within_its_resolution_of_what_a_server_can_do(capacity, peak_share, resolution):
    peak = capacity * peak_share
    search = Search(peak / 2, resolution, peak / 100)
    tried = 0
    while (rate := search.next()) is not None:
        tried += 1
        search.tell(kept=rate <= capacity)

    assert tried < 60
    if capacity < peak / 100:
        assert search.good is None
    else:
        assert search.good <= capacity * (1 + 1e-9)
        assert search.good >= capacity / (1 + resolution) / (1 + 1e-9)


def test_no_rate_above_the_generators_own_limit_is_tried():
    search, tried = Search(500.0, 0.1, 10.0, most=900.0), []
    while (rate := search.next()) is not None:
        tried.append(rate)
        search.tell(kept=True)

    assert tried == [500.0, 750.0, 900.0]
    assert search.good == 900.0


def test_a_rate_that_was_kept_by_luck_is_searched_for_again_below():
    search = Search(100.0, 0.1, 1.0)
    search.tell(kept=True)
    search.rate = 100.0
    search.tell(kept=False)

    assert search.good is None
    assert search.next() < 100


def test_bounds_are_round_numbers():
    assert [round_up(value) for value in (0.7, 1.0, 1.1, 3.1, 5.0, 5.1, 720.0)] == [1, 1, 2, 5, 5, 10, 1000]


def test_late_requests_may_refute_a_rate_but_never_prove_it():
    assert is_spoiled([repetitions.LATE], "proven")
    assert not is_spoiled([repetitions.LATE], "refuted")
    assert is_spoiled([repetitions.LATE, repetitions.DISTURBED], "refuted")
    assert not is_spoiled([repetitions.OFF_RATE], "refuted")


def test_percentiles_are_of_the_requests_that_were_due_in_a_slot():
    planned = np.array([0, 100_000, 300_000, 900_000])
    at, worst = percentile_series(planned, np.array([1, 5, 7, 9]), 250_000, 1_000_000)

    assert at == [0.25, 0.5, 0.75, 1.0]
    assert worst == [5, 7, None, 9]


def test_a_rate_that_answers_fell_behind_is_refuted_however_quick_they_were():
    """MLPerf's proof is of latency alone; a queue that grows slowly keeps its bound for a while."""
    assert judge(1000, 0, []) == "proven"
    assert judge(1000, 0, [repetitions.OFF_RATE]) == "refuted"
    assert judge(1000, 0, [repetitions.FAILED_REQUESTS]) == "refuted"
    assert judge(100, 0, [repetitions.DISTURBED]) == "open"


class Late(Taking):
    """A scenario on a server whose every answer comes after any bound."""

    def window(self, wanted, during=None):
        del during
        assert wanted.rate is not None
        due = np.arange(1000)
        taken = Samples(0, 0, 1000, due, due * 0, due * 0 + 10**9, np.zeros(1000, bool))
        return SimpleNamespace(samples=taken), SimpleNamespace(invalid=[])


def queue(capacity):
    """A scenario on a server that takes as long for each request as *capacity* a second allow, one after the other."""

    class Queue(Taking):
        def window(self, wanted, during=None):
            del during
            load_us, each_us = (wanted.warmup_s + wanted.window_s) * 1e6, 1e6 / capacity
            draw = np.random.default_rng(zlib.crc32(wanted.seed.encode()))
            planned = np.cumsum(draw.exponential(1e6 / wanted.rate, int(wanted.rate * load_us / 0.8e6) + 100))
            planned = planned[planned < load_us]
            place = np.arange(len(planned))
            # Each begins when it is due, or when the one before it is done.
            done = np.maximum.accumulate(planned - place * each_us) + (place + 1) * each_us
            taken = Samples(
                origin_ns=0,
                begin_us=round(wanted.warmup_s * 1e6),
                end_us=round(load_us),
                planned_us=planned.astype(np.int64),
                slip_us=place * 0,
                service_us=(done - planned).astype(np.int64),
                failed=np.zeros(len(planned), bool),
            )
            found = window(taken, busy_s=(100.0, 101.1))
            made = repetitions.repetition(found, wanted.planned.load, rows=1, index=0, order=0)
            broken = [*(rule for rule in made.invalid if rule not in wanted.forgiven), *self.spoils(wanted)]
            self.took = [*getattr(self, "took", []), (wanted.label, wanted.window_s)]
            return found, made.model_copy(update={"invalid": broken})

        def spoils(self, wanted):
            del wanted
            return []

    return Queue


def found(kind, peak=10_000.0, **given):
    settings = ServerSlo(protocols=["grpc"], **given)
    windows = SimpleNamespace(settings=SimpleNamespace(rows=1, warmup_s=0.5), ceilings={}, protocols=["grpc"])
    bench = SimpleNamespace(windows=windows, peak=lambda _: peak, single_p50_us=lambda _: 500.0)
    taking = kind(bench, "server_slo", "server_slo", settings.model_dump())
    server_slo(settings, taking)
    return taking


def rate(taking):
    (value,) = [one.value for one in taking.values if one.key == "rate_at_slo"]
    return value


@pytest.mark.parametrize("slo_ms", [20, 100, 1000])
@pytest.mark.parametrize("capacity", [300.0, 3000.0])
def test_no_rate_is_proven_that_a_server_cannot_sustain(capacity, slo_ms):
    """Above its capacity a queue grows for ever; a short look at its beginning finds every answer in time."""
    taking = found(queue(capacity), 0.9 * capacity, slo_ms=slo_ms, resolution=0.03, confirmations=2)
    confirmed = [window_s for label, window_s in taking.took if label.startswith("confirmation")]

    # 1 % is what no window of a random arrival can see.
    assert 0.4 * capacity < rate(taking) < 1.012 * capacity
    assert set(confirmed) == {20.0}
    assert len(confirmed) >= 2


def test_a_rate_whose_confirmation_is_spoiled_is_none():
    class Spoilt(queue(3000.0)):
        def spoils(self, wanted):
            return [repetitions.DISTURBED] if wanted.label.startswith("confirmation") else []

    taking = found(Spoilt, 3000.0, slo_ms=20, resolution=0.5, probe_s=1)

    assert rate(taking) is None
    assert taking.invalid == ["gRPC: the machine or the load generator spoiled 4 windows of one rate"]


def test_a_rate_too_low_to_prove_anything_in_its_time_is_said_before_it_is_tried():
    """Half a server's peak that gives 200 requests in 20 s is not a rate that breaks its bound."""
    taking = found(queue(20.0), 20.0, slo_ms=1000)

    assert (rate(taking), getattr(taking, "took", [])) == (None, [])
    assert taking.invalid == [
        "gRPC: 20 s at 10 requests/s are fewer than the 459 that prove something: set server_slo.probe_s to 46 or more"
    ]
    assert taking.faults == taking.notes == []


def test_a_bound_that_somebody_set_and_no_rate_keeps_is_the_servers_fault():
    """A bound that was only derived from the server's own median is nobody's promise: that is a note."""
    told = "gRPC: not even 1% of the peak rate keeps the bound"
    mine, derived = found(Late, slo_ms=3), found(Late)

    assert (mine.faults, mine.notes) == ([f"{told} of 3 ms"], [])
    assert (derived.faults, derived.notes) == ([], [told])
