import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_server.transports.http2.limits import Allowance, Limits, limits_of


def test_grpcs_channel_arguments_set_the_limits():
    limits, unknown = limits_of(
        {
            "grpc.max_concurrent_streams": 7,
            "grpc.max_receive_message_length": 4_000,
            "grpc.max_send_message_length": -1,
            "grpc.max_connection_age_ms": 1_500,
            "grpc.max_connection_idle_ms": 2**31 - 1,
            "grpc.max_metadata_size": 1,
            "grpc.so_reuseport": 0,
            "grpc.keepalive_time_ms": "soon",
        }
    )

    assert limits.max_concurrent_streams == 7
    assert limits.max_message_bytes == 4_000
    assert limits.max_sent_message_bytes == 2**31 - 1
    assert limits.max_age_s == 1.5
    assert limits.max_idle_s == math.inf
    assert limits.max_header_list_bytes == 1024
    assert unknown == ["grpc.so_reuseport", "grpc.keepalive_time_ms"]


@pytest.mark.parametrize(
    ("limits", "tick_s"), [(Limits(), 1.0), (Limits(max_age_s=0.8), 0.1), (Limits(stall_s=0.01), 0.05)]
)
def test_times_are_looked_at_as_often_as_the_shortest_needs(limits, tick_s):
    assert limits.tick_s == pytest.approx(tick_s)


@given(st.lists(st.tuples(st.floats(0, 2), st.integers(0, 3))), st.integers(1, 20), st.floats(0, 5))
def test_an_allowance_never_gives_more_than_burst_time_and_use(steps, burst, per_s):
    allowance = Allowance(burst, per_s, now=10.0)
    now, useful, given_out = 10.0, 0, 0

    for passed, used in steps:
        now += passed
        useful += used
        given_out += allowance.take(now, useful)

        assert given_out <= burst + (now - 10.0) * per_s + useful + 1e-6


def test_an_allowance_comes_back_with_time_and_with_use():
    allowance = Allowance(2, 1.0, now=0.0)
    assert [allowance.take(0.0, 0) for _ in range(3)] == [True, True, False]
    assert [allowance.take(1.0, 0) for _ in range(2)] == [True, False]
    assert [allowance.take(1.0, 2) for _ in range(3)] == [True, True, False]
