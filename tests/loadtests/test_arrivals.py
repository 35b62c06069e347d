from itertools import islice, takewhile

import numpy as np
import scipy.stats

from slipway_loadtests.arrivals import poisson, stepped
from slipway_loadtests.session import Arrivals


def test_the_same_seed_gives_the_same_schedule():
    """Both protocols, and tomorrow's run, meet the same bursts."""
    first = list(islice(poisson(500, "1/arrivals/0"), 1000))

    assert first == list(islice(poisson(500, "1/arrivals/0"), 1000))
    assert first != list(islice(poisson(500, "1/arrivals/1"), 1000))


def test_arrivals_are_poisson():
    arrivals = np.array(list(islice(poisson(2000, "seed"), 20_000)))
    gaps = np.diff(arrivals) / 1e9

    assert (gaps >= 0).all()
    assert scipy.stats.kstest(gaps, "expon", args=(0, 1 / 2000)).pvalue > 0.001


def test_two_generators_with_half_the_rate_make_one_load():
    seconds = 20
    counts = [len(list(takewhile(lambda at: at < seconds * 1e9, poisson(250, f"s/{worker}")))) for worker in (0, 1)]

    assert scipy.stats.poisson(500 * seconds).cdf(sum(counts)) < 0.9999
    assert scipy.stats.poisson(500 * seconds).sf(sum(counts)) < 0.9999


def test_generators_of_one_load_are_together_one_poisson_process():
    """Each draws by its own number: the same arrivals twice would be pairs of requests at half the rate."""
    share = Arrivals(500.0, "1/arrivals/0", 1, generators=4)
    drawn = [list(islice(share.schedule(user), 5000)) for user in range(4)]
    until = min(each[-1] for each in drawn)
    together = np.array(sorted(at for each in drawn for at in each if at <= until))

    assert scipy.stats.kstest(np.diff(together) / 1e9, "expon", args=(0, 1 / 2000)).pvalue > 0.001
    assert drawn == [list(islice(share.schedule(user), 5000)) for user in range(4)]
    # One generator alone has the arrivals that it always had.
    assert drawn[0] == list(islice(poisson(500.0, "1/arrivals/0"), 5000))


def test_rates_follow_one_another_and_end():
    times = [at / 1e9 for at in stepped([(100.0, 2.0), (0.0, 1.0), (1000.0, 1.0)], "seed")]
    counts = [sum(begin <= at < begin + 1 for at in times) for begin in range(5)]

    assert times == sorted(times)
    assert counts[2] == counts[4] == 0
    assert 60 < counts[0] < 140
    assert 900 < counts[3] < 1100
    assert list(stepped([(100.0, 2.0)], "seed")) == list(stepped([(100.0, 2.0)], "seed"))
