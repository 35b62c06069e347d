import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_server.batching.sizes import batches_like, smallest_and_largest
from slipway_server.config_files import BatchingPolicy
from slipway_wire.status import InvalidArgument


@given(st.integers(1, 20), st.sets(st.integers(1, 19)))
def test_own_size_first_then_every_other_allowed_one_of_the_same_rows(rows, sizes):
    policy = BatchingPolicy(max_batch_size=20, allowed_batch_sizes=(*sorted(sizes), 20))
    inputs = {"x": np.arange(rows * 2).reshape(rows, 2), "s": np.array([b"%d" % n for n in range(rows)], object)}

    batches = list(batches_like(inputs, policy))

    assert len(batches[0]["x"]) == policy.padded(rows)
    assert sorted(len(batch["x"]) for batch in batches) == list(policy.allowed_batch_sizes)
    for batch in batches:
        assert len(batch["s"]) == len(batch["x"])
        assert batch["x"].dtype == inputs["x"].dtype
        assert {tuple(row) for row in batch["x"]} <= {tuple(row) for row in inputs["x"]}
    np.testing.assert_array_equal(batches[0]["x"][:rows], inputs["x"])


def test_without_allowed_sizes_only_itself():
    (batch,) = batches_like({"x": np.zeros([3, 2])}, BatchingPolicy())

    assert batch["x"].shape == (3, 2)


def test_no_rows_stay_no_rows():
    (batch,) = batches_like({"x": np.zeros([0, 2])}, BatchingPolicy(max_batch_size=4, allowed_batch_sizes=(4,)))

    assert batch["x"].shape == (0, 2)


@pytest.mark.parametrize("x", [np.zeros(5), np.float32(1.0)])
def test_what_cannot_be_batched_is_refused(x):
    with pytest.raises(InvalidArgument):
        list(batches_like({"x": x}, BatchingPolicy(max_batch_size=4)))


@given(st.integers(1, 100), st.sets(st.integers(1, 200), min_size=1))
def test_what_is_measured_has_the_smallest_and_the_largest_size_that_is_not_rare(rows, sizes):
    policy = BatchingPolicy(max_batch_size=max(sizes), allowed_batch_sizes=tuple(sorted(sizes)))
    inputs = {"x": np.arange(rows)}

    small, large = (batch["x"] for batch in smallest_and_largest(inputs, policy))

    assert len(small) == min(sizes)
    assert len(large) == max([size for size in sizes if size <= 64], default=min(sizes))
    assert set(large) | set(small) <= set(range(rows))


@pytest.mark.parametrize(("largest", "expected"), [(5, 5), (1000, 64)])
def test_where_any_size_runs_one_row_and_a_full_batch_are_measured(largest, expected):
    small, large = smallest_and_largest({"x": np.zeros([3, 2])}, BatchingPolicy(max_batch_size=largest))

    assert (small["x"].shape, large["x"].shape) == ((1, 2), (expected, 2))


def test_a_request_without_rows_cannot_be_measured():
    with pytest.raises(InvalidArgument, match="without rows"):
        smallest_and_largest({"x": np.zeros([0, 2])}, BatchingPolicy())
