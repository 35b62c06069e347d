import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.scenarios.row_mix import by_rows, sequence
from slipway_wire.samples import Samples


@given(st.dictionaries(st.integers(1, 64), st.integers(1, 90), min_size=1, max_size=4))
def test_each_number_of_rows_comes_exactly_as_often_as_it_should(weights):
    drawn = sequence(weights, "seed")

    assert len(drawn) >= 100
    assert {rows: drawn.count(rows) / len(drawn) for rows in set(drawn)} == pytest.approx(
        {rows: weight / sum(weights.values()) for rows, weight in weights.items()}
    )
    assert drawn == sequence(weights, "seed")


def test_the_order_is_drawn():
    assert sequence({1: 70, 4: 20, 32: 10}, "1") != sequence({1: 70, 4: 20, 32: 10}, "2")


def test_latencies_are_those_of_the_requests_with_so_many_rows_that_were_due_in_the_window():
    planned = np.array([0, 10, 20, 30, 40, 99])
    found = by_rows(
        Samples(
            origin_ns=0,
            begin_us=10,
            end_us=50,
            planned_us=planned,
            slip_us=np.array([0, 1, 0, 0, 0, 0]),
            service_us=np.array([7, 5, 9, 3, 4, 7]),
            failed=np.array([False, False, False, False, True, False]),
            payload=np.array([0, 0, 1, 2, -1, 1], np.int32),
        ),
        [1, 32, 1],
    )

    assert {rows: latencies.tolist() for rows, latencies in found.items()} == {1: [3, 6], 32: [9]}
