import pytest

from slipway_server.instruments import MAX_MEMBERS, Counter, Family, Histogram, Summary, exposition


def test_a_family_keeps_its_newest_members():
    family = Family("n_total", "counter", ("version",), Counter)
    for version in range(MAX_MEMBERS + 10):
        family.of(version).add()

    versions = {labels[0] for labels, _ in family.rows()}
    assert len(versions) == MAX_MEMBERS
    assert 0 not in versions
    assert MAX_MEMBERS + 9 in versions


@pytest.mark.parametrize("value", [0.5, 1.0])
def test_a_value_on_a_bound_belongs_to_it(value):
    histogram = Histogram([1.0, 2.0])
    for one in (value, 1.5, 2.0, 3.0):
        histogram.observe(one)

    assert histogram.counts == [1, 2, 1]
    assert histogram.sum == value + 6.5


def test_a_summary_is_sum_and_count():
    family = Family("slipway_n", "summary", (), Summary, help="N.")
    family.of().observe(2.0)
    family.of().observe(3.0)

    assert exposition(family)[2:] == ["slipway_n_sum{} 5", "slipway_n_count{} 2"]


def test_values_that_come_together_count_like_values_that_come_alone():
    alone, together = Histogram([1.0, 2.0]), Histogram([1.0, 2.0])
    values = [0.5, 1.0, 1.5, 9.0]
    for value in values:
        alone.observe(value)

    together.observe_all(values)

    assert (together.counts, together.sum) == (alone.counts, alone.sum)


def test_histograms_merge_bucket_by_bucket():
    left, right = Histogram([1.0, 2.0]), Histogram([1.0, 2.0])
    left.observe_all([0.5, 3.0])
    right.observe_all([1.5, 3.0])

    left.merge(right)

    assert (left.counts, left.sum) == ([1, 1, 2], 8.0)
