import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_server.batching.sizes import batches_like
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
