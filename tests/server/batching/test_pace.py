import math

from hypothesis import given
from hypothesis import strategies as st

from slipway_server.batching.pace import GRACE_S, Pace


def test_another_run_begins_when_one_has_ended_or_taken_long():
    pace = Pace(lambda: 1)
    assert pace.next_at(10.0) == -math.inf

    pace.begin(10.0)
    assert pace.next_at(10.001) == 10.0 + GRACE_S
    assert pace.next_at(10.0 + GRACE_S) == -math.inf

    pace.end(10.0, 10.001)
    assert pace.next_at(10.001) == -math.inf


def test_cpus_are_looked_up_again_as_time_goes_by():
    cpus = [1]
    pace = Pace(lambda: cpus[0])
    pace.begin(0.0)
    assert pace.next_at(0.001) == GRACE_S

    cpus[0] = 2

    assert pace.next_at(0.002) == GRACE_S
    pace.end(0.0, 1.0)
    pace.begin(2.0)
    assert pace.next_at(2.001) == -math.inf


def test_with_a_gpu_nobody_waits():
    pace = Pace(lambda: math.inf)
    for _ in range(100):
        assert pace.next_at(1.0) == -math.inf
        pace.begin(1.0)


@given(st.integers(1, 4), st.lists(st.floats(0, 0.004), min_size=1, max_size=30))
def test_no_more_young_runs_than_cpus(cpus, steps):
    """If everybody waits as told, and nobody ends, every 5 ms see as many begin as there are CPUs, and not fewer."""
    pace = Pace(lambda: cpus)
    now, began = 100.0, []
    for step in steps:
        now = max(now + step, pace.next_at(now + step))
        young = [then for then in began if then + GRACE_S > now]
        assert len(young) < cpus
        pace.begin(now)
        began.append(now)
        if len(young) + 1 >= cpus:
            assert now < pace.next_at(now) <= now + GRACE_S


def test_one_cpu_is_alone_until_another_is_found():
    cpus = [1]
    pace = Pace(lambda: cpus[0])
    assert pace.is_alone(0.0)

    cpus[0] = 2

    assert pace.is_alone(0.5)
    assert not pace.is_alone(1.0)


def busy(pace, spent_s, ran_s):
    """One second in which requests took *spent_s* of CPU to take in, and a run *ran_s*; then a run begins."""
    clock = spent_s[0]
    assert pace.next_at(100.0) == -math.inf
    spent_s[0] = clock + spent_s[1]
    pace.begin(100.0)
    pace.end(100.0, 100.0 + ran_s)
    assert pace.next_at(101.0) == -math.inf
    pace.begin(101.0)
    return pace.next_at(101.001)


def test_a_busy_thread_that_takes_requests_in_has_a_cpu_of_its_own():
    """Else short runs all go on at once, and it has nothing to do meanwhile."""
    for cpus, spent_s, ran_s, waits in (
        (2, 0.5, 0.6, True),
        (2, 0.5, 1.1, False),
        (2, 0.05, 0.05, False),
        (math.inf, 0.5, 0.1, False),
    ):
        clock = [3.0, spent_s]
        pace = Pace(lambda cpus=cpus: cpus, lambda clock=clock: clock[0])

        assert (busy(pace, clock, ran_s) > 101.001) == waits


def test_the_last_cpu_is_for_runs():
    clock = [0.0, 0.9]
    pace = Pace(lambda: 1, lambda: clock[0])

    assert busy(pace, clock, 0.1) == 101.0 + GRACE_S
