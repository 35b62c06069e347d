"""The search on made-up servers, and the proof against the numbers that MLPerf publishes."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway import repetitions
from slipway.scenario_settings import ServerSlo
from slipway.scenarios.slo import Search, is_spoiled, percentile_series, prove, round_up, server_slo
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


class Late(Taking):
    """A scenario on a server whose every answer comes after any bound."""

    def window(self, wanted, during=None):
        del during
        due = np.arange(1000)
        taken = Samples(0, 0, 1000, due, due * 0, due * 0 + 10**9, np.zeros(1000, bool))
        return SimpleNamespace(samples=taken), SimpleNamespace(invalid=[])


def late(**given):
    settings = ServerSlo(protocols=["grpc"], **given)
    windows = SimpleNamespace(settings=SimpleNamespace(rows=1, warmup_s=0.0), ceilings={}, protocols=["grpc"])
    bench = SimpleNamespace(windows=windows, peak=lambda _: 100.0, single_p50_us=lambda _: 500.0)
    taking = Late(bench, "server_slo", "server_slo", settings.model_dump())
    server_slo(settings, taking)
    return taking


def test_a_bound_that_somebody_set_and_no_rate_keeps_is_the_servers_fault():
    """A bound that was only derived from the server's own median is nobody's promise: that is a note."""
    told = "gRPC: not even 1% of the peak rate keeps the bound"

    assert (late(slo_ms=3).faults, late(slo_ms=3).notes) == ([f"{told} of 3 ms"], [])
    assert (late().faults, late().notes) == ([], [told])
