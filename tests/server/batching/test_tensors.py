import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_server.batching.tensors import count_rows, merge, split
from slipway_wire.status import FailedPrecondition, InvalidArgument


@st.composite
def tasks(draw):
    """Sizes, and for each task an int, a float matrix and a string input."""
    sizes = draw(st.lists(st.integers(0, 4), min_size=1, max_size=6).filter(sum))
    made, start = [], 0
    for size in sizes:
        numbers = np.arange(start, start + size)
        strings = np.empty(size, object)
        strings[:] = [b"%d\x00" % number for number in numbers]
        made.append({"i": numbers, "f": np.repeat(numbers[:, None] / 2, 3, axis=1).astype(np.float32), "s": strings})
        start += size
    return sizes, made


@given(tasks(), st.integers(0, 5))
def test_split_gives_every_task_its_own_rows_back(sizes_and_tasks, padding):
    sizes, made = sizes_and_tasks
    rows = sum(sizes) + padding

    merged = merge(made, rows)
    pieces = split(merged, sizes, rows)

    assert all(len(array) == rows for array in merged.values())
    for task, piece in zip(made, pieces, strict=True):
        for name, array in task.items():
            assert piece[name].dtype == array.dtype
            np.testing.assert_array_equal(piece[name], array)


@given(tasks(), st.integers(1, 5))
def test_padding_repeats_a_real_row(sizes_and_tasks, padding):
    """A row the model is known to accept: zeros, or an empty string, might make it fail."""
    sizes, made = sizes_and_tasks
    rows = sum(sizes)

    merged = merge(made, rows + padding)

    for array in merged.values():
        for added in array[rows:]:
            np.testing.assert_array_equal(added, array[0])


def test_a_single_task_that_needs_no_padding_is_not_copied():
    x = np.zeros((3, 2))

    assert merge([{"x": x}], 3)["x"] is x


def test_tasks_without_rows_make_a_batch_without_rows():
    merged = merge([{"x": np.zeros((0, 2))}, {"x": np.zeros((0, 2))}], 0)

    assert merged["x"].shape == (0, 2)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "must have at least one input tensor"),
        ({"x": np.float32(1)}, "must have at least one dimension"),
        ({"x": np.zeros(2), "y": np.zeros(3)}, "must have equal 0th-dimension size"),
    ],
)
def test_what_cannot_be_batched_is_refused(inputs, message):
    with pytest.raises(InvalidArgument, match=message):
        count_rows({name: np.asarray(array) for name, array in inputs.items()})


@pytest.mark.parametrize(
    ("output", "message"),
    [(np.float32(1), "has 0 dimensions"), (np.zeros(3), "0th dimension does not equal the sum")],
)
def test_outputs_that_cannot_be_split_are_the_models_fault(output, message):
    with pytest.raises(FailedPrecondition, match=message):
        split({"y": np.asarray(output)}, [1, 1], 2)
