import os

import pytest

from slipway.cgroups import Limits
from slipway.conditions import Reading, Watch, clock_share, foreign_slots, limits_between

S = 1_000_000_000


def readings(*slots, server=0.5, generator=0.25):
    """Half seconds in each of which something else used so many cores."""
    found = [Reading(0, 0, 0.0, 0.0, 0)]
    for place, foreign in enumerate(slots, 1):
        busy = found[-1].busy_s + 0.5 * (server + generator + foreign)
        found.append(
            Reading(place * S // 2, round(place * server / 2 * S), busy, 0.0, round(place * generator / 2 * S))
        )
    return found


def test_what_neither_server_nor_generator_used_is_foreign_slot_by_slot():
    assert foreign_slots(readings(0.0, 0.6, 0.1)) == pytest.approx((0.0, 0.6, 0.1))


def test_a_server_whose_time_is_not_known_has_no_slots():
    begin, end = readings(0.5)

    assert foreign_slots([begin, Reading(end.time_ns, None, end.busy_s, 0.0, 1)]) == ()


def test_a_slot_too_short_for_the_clock_is_left_out():
    """A CPU's time comes in steps of 10 ms: over 20 ms it says nothing."""
    found = readings(0.1)
    late = Reading(found[-1].time_ns + S // 50, found[-1].server_ns, found[-1].busy_s + 0.01, 0.0, S // 8)

    assert foreign_slots([*found, late]) == pytest.approx((0.1,))


def test_a_clock_counts_while_its_cpus_are_busy():
    """A governor lowers what has nothing to do, and should."""
    busy, lazy = readings(*[0] * 5, server=1.0), readings(*[0] * 5, server=0.5)
    clocks = [800.0, 3000.0, 2400.0, 2400.0, 3000.0, 2400.0]

    assert clock_share(busy, clocks, cpus=1) == pytest.approx(0.8)
    assert clock_share(lazy, clocks, cpus=1) is None
    assert clock_share(busy, [None] * 6, cpus=1) is None
    assert clock_share(busy[:4], clocks[:4], cpus=1) is None


@pytest.mark.parametrize("odd", [800.0, 4000.0])
def test_a_clock_that_was_read_once_says_nothing_of_a_window(odd):
    assert clock_share(readings(*[0] * 5, server=1.0), [800.0, 3000.0, odd, 2990.0, 3000.0, 2980.0], cpus=1) > 0.99


def test_of_several_processes_the_one_that_waited_longest_counts():
    before, after = [Limits(1.0, 0), Limits(2.0, 4)], [Limits(1.5, 0), Limits(2.25, 5)]

    assert limits_between(before, after) == (0.5, 1)
    assert limits_between([Limits(None, None)], [Limits(None, None)]) == (None, None)


def test_this_machine_can_be_watched():
    """With the kernel's own files: this process as server and as generator."""
    me = os.getpid()
    watch = Watch([me], [me], cpus=None, count=os.cpu_count(), server_cpus=[0], limited=[me], gpus=None)
    watch.read_limits()
    first = watch.read()
    while watch.read().time_ns - first.time_ns < S // 10:
        pass
    watch.read_limits()
    found = watch.conditions()

    assert 0 <= found.stolen_share <= 1
    # A reading that the machine keeps waiting is a slot.
    assert all(cores >= 0 for cores in found.foreign_slots)
    assert found.gpu is None
