import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_server.batching.tensors import count_rows, cut, join, merge, pad_shape, split
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

    # The first row of the last task that has any.
    first = rows - next(size for size in reversed(sizes) if size)
    for array in merged.values():
        for added in array[rows:]:
            np.testing.assert_array_equal(added, array[first])


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


@given(tasks(), st.data())
def test_what_is_cut_is_joined_again(sizes_and_tasks, data):
    """A request that is divided over several batches gets one answer, in its own order."""
    rows = sum(sizes_and_tasks[0])
    whole = merge(sizes_and_tasks[1], rows)
    ends = sorted(data.draw(st.sets(st.integers(1, rows), max_size=4)) | {rows})

    parts = [cut(whole, start, stop) for start, stop in zip([0, *ends], ends, strict=False)]

    for name, array in join(parts).items():
        assert array.dtype == whole[name].dtype
        np.testing.assert_array_equal(array, whole[name])


def test_all_rows_are_cut_without_a_copy():
    inputs = {"x": np.zeros(3)}

    assert cut(inputs, 0, 3) is inputs


def test_parts_whose_answers_differ_in_shape_cannot_be_joined():
    """A model whose output is as wide as its batch's widest row answers each part differently."""
    with pytest.raises(FailedPrecondition, match="do not fit together"):
        join([{"y": np.zeros((1, 2))}, {"y": np.zeros((1, 3))}])


@given(st.lists(st.integers(1, 3), min_size=1, max_size=6), st.data())
def test_padding_to_a_shape_keeps_the_values_and_fills_with_the_first(shape, data):
    """Ranks 1 to 6, as in TF Serving's AddPadding."""
    array = np.arange(1, 1 + int(np.prod(shape))).reshape(shape)
    inner = tuple(size + data.draw(st.integers(0, 2)) for size in shape[1:])

    padded = pad_shape(array, inner)

    assert padded.shape == (shape[0], *inner)
    inside = tuple(slice(size) for size in shape)
    np.testing.assert_array_equal(padded[inside], array)
    outside = np.ones(padded.shape, bool)
    outside[inside] = False
    assert (padded[outside] == 1).all()


def test_tasks_of_different_shapes_are_merged_if_they_may_be_padded():
    strings = np.empty((1, 1), object)
    strings[0, 0] = b"a"
    wider = np.empty((2, 2), object)
    wider[:] = [[b"b", b"c"], [b"d", b"e"]]

    merged = merge([{"s": strings}, {"s": wider}], 4, pads_shapes=True)

    assert merged["s"].tolist() == [[b"a", b"a"], [b"b", b"c"], [b"d", b"e"], [b"b", b"c"]]


@pytest.mark.parametrize(
    ("shape", "inner", "message"),
    [
        ((1, 0), (2,), "^Got empty tensor in batch of non-empty tensors.$"),
        ((1,) * 7, (1, 1, 1, 1, 1, 2), "^Only tensors with rank from 1 to 6 can be padded.$"),
    ],
)
def test_what_cannot_be_padded_is_refused_in_tf_servings_words(shape, inner, message):
    with pytest.raises(InvalidArgument, match=message):
        pad_shape(np.zeros(shape), inner)
