import numpy as np

from slipway.scenarios.overload import outcome
from slipway_wire.samples import Samples

SECOND = 1_000_000


def load(service_us, failed=()):
    """Ten requests a second for ten seconds; the overload is seconds 2 to 4."""
    count = 100
    planned = np.arange(count) * SECOND // 10
    service = np.array([service_us(at / SECOND) for at in planned], np.int64)
    flags = np.zeros(count, bool)
    flags[list(failed)] = True
    return Samples(0, SECOND, 10 * SECOND, planned, np.zeros(count, np.int64), service, flags)


def test_what_is_in_time_and_what_is_turned_away_are_told_apart():
    samples = load(lambda s: 50_000 if 2 <= s < 3 else 900, failed=range(30, 35))
    found = outcome(samples, 2 * SECOND, 4 * SECOND, slo_us=1000)

    assert found.offered == 20
    assert (found.goodput_rps, found.in_time, found.refused) == (2.5, 0.25, 0.25)
    assert found.refusal_p99_us == 900
    assert found.recovery_s == 0


def test_recovery_is_counted_from_the_end_of_the_overload_to_the_last_bad_answer():
    assert outcome(load(lambda s: 5000 if 2 <= s < 6 else 900), 2 * SECOND, 4 * SECOND, 1000).recovery_s == 1.9


def test_a_server_that_stays_slow_has_not_recovered():
    assert outcome(load(lambda s: 5000 if s >= 2 else 900), 2 * SECOND, 4 * SECOND, 1000).recovery_s is None
