from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.shared_load import common_window, divided, on_cpus, shares, together
from slipway_wire.loads import LoadOrder, LoadOutcome, LoadWindow

ORDER = LoadOrder(protocol="grpc", host="h", port=1, users=5, warmup_s=0.5, window_s=3.0, samples="/a/b-0.5.npz")
OUTCOME = LoadOutcome(
    requests=100,
    checked_answers=90,
    wrong_answers=0,
    connections=2,
    bytes_sent=1000,
    bytes_received=2000,
    bytes_sent_again=0,
    cpu_ns=600,
    cpu_from_ns=1000,
    cpu_to_ns=2000,
    lag_p99_us=10.0,
    lag_max_us=20.0,
)


@given(st.integers(1, 300), st.integers(1, 16))
def test_a_closed_loop_has_its_users_divided(users, generators):
    parts = shares(replace(ORDER, users=users), generators)

    numbers = [number for part in parts for number in range(part.first_user, part.first_user + part.users)]
    assert numbers == list(range(users))
    assert max(part.users for part in parts) - min(part.users for part in parts) <= 1
    assert len(parts) == min(users, generators)
    assert all(part.generators == len(parts) for part in parts)
    assert len({part.samples for part in parts}) == len(parts)


@given(st.integers(1, 300), st.integers(1, 16))
def test_an_open_loop_has_its_rate_divided_and_a_user_in_each_process(users, generators):
    order = replace(ORDER, users=users, rate=1000.0, steps=[(1000.0, 2.0), (0.0, 1.0)], seed="s")
    parts = shares(order, generators)

    assert sum(part.rate for part in parts) == pytest.approx(1000)
    assert sum(part.steps[0][0] for part in parts) == pytest.approx(1000)
    assert [[seconds for _, seconds in part.steps] for part in parts] == [[2.0, 1.0]] * generators
    # The number tells one process's arrivals from another's, with the seed that all have.
    assert [part.first_user for part in parts] == list(range(generators))
    assert {part.seed for part in parts} == {"s"}
    assert min(part.users for part in parts) >= 1


@pytest.mark.parametrize(
    ("order", "generators"),
    [
        (ORDER, 1),
        (replace(ORDER, users=1), 4),
        (replace(ORDER, rate=5.0), 1),
        (replace(ORDER, requests=20), 4),
        (replace(ORDER, tier="native"), 4),
    ],
)
def test_what_one_process_makes_is_ordered_as_it_is(order, generators):
    assert shares(order, generators) == [order]


def test_files_of_shares_stand_beside_that_of_the_whole():
    assert [part.samples for part in shares(ORDER, 2)] == ["/a/b-0.5.0.npz", "/a/b-0.5.1.npz"]


def test_parts_differ_by_one_at_most():
    assert divided(7, 3) == [3, 2, 2]
    assert divided(1, 2) == [1, 0]


def test_all_begin_when_the_last_one_can():
    proposed = [LoadWindow(origin_ns=at, begin_ns=at + 5, end_ns=at + 9) for at in (10, 30, 20)]

    assert common_window(proposed) == proposed[1]


def test_outcomes_add_up_and_a_process_at_its_limit_is_not_hidden_by_idle_ones():
    busy = replace(
        OUTCOME, cpu_ns=950, errors={"HTTP 503": 1, "timeout": 2}, first_error="HTTP 503: full", lag_max_us=90.0
    )
    idle = replace(OUTCOME, cpu_ns=50, cpu_to_ns=2010, errors={"timeout": 1}, wrong_answers=1, first_wrong="y is off")
    found = together([idle, busy])

    assert (found.requests, found.checked_answers, found.connections, found.cpu_ns) == (200, 180, 4, 1000)
    assert (found.bytes_sent, found.bytes_received, found.bytes_sent_again) == (2000, 4000, 0)
    assert found.errors == {"HTTP 503": 1, "timeout": 3}
    assert (found.first_error, found.wrong_answers, found.first_wrong) == ("HTTP 503: full", 1, "y is off")
    assert (found.cpu_from_ns, found.cpu_to_ns, found.lag_p99_us, found.lag_max_us) == (1000, 2010, 10.0, 90.0)
    assert (found.generators, found.utilisation) == (2, 0.95)


def test_processes_that_share_a_cpu_are_at_their_limit_when_it_is():
    """Two on one CPU never use 90 % of a core each."""
    both = together([replace(OUTCOME, cpu_ns=480), replace(OUTCOME, cpu_ns=490)])

    assert both.utilisation == 0.49
    assert on_cpus(both, 1).utilisation == 0.97
    assert on_cpus(both, 2) == both
    assert on_cpus(OUTCOME, 1) == OUTCOME


def test_what_one_of_them_does_not_know_nobody_knows():
    assert together([OUTCOME, replace(OUTCOME, bytes_sent=None)]).bytes_sent is None
    assert together([OUTCOME]) == OUTCOME
    assert OUTCOME.utilisation == 0.6
