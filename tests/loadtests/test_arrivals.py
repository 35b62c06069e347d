from itertools import islice, takewhile

import numpy as np
import scipy.stats

from slipway_loadtests.arrivals import poisson


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
