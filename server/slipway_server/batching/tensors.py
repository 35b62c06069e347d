"""Merge the tensors of several tasks into one batch, pad it, and split what comes back."""

from collections.abc import Mapping, Sequence

import numpy as np

from slipway_wire.status import FailedPrecondition, InvalidArgument
from slipway_wire.tensors import Array

Tensors = Mapping[str, Array]


def count_rows(inputs: Tensors) -> int:
    """
    Return the size along axis 0 that all *inputs* share.

    Raises:
        InvalidArgument: There is no input, one is a scalar, or they disagree.

    Source: the texts are those of TensorFlow's batching_session.cc.
    """
    if not inputs:
        raise InvalidArgument("Batching Run() must have at least one input tensor")
    rows = -1
    for array in inputs.values():
        if array.ndim == 0:
            raise InvalidArgument("Batching Run() input tensors must have at least one dimension")
        if rows < 0:
            rows = array.shape[0]
        elif rows != array.shape[0]:
            raise InvalidArgument("Batching Run() input tensors must have equal 0th-dimension size")
    return rows


def cut(inputs: Tensors, start: int, stop: int) -> Tensors:
    """Return the rows of all *inputs* from *start* up to before *stop*, as views; all of them without a copy."""
    if start == 0:
        for array in inputs.values():
            if array.shape[0] != stop:
                break
        else:
            return inputs
    return {name: array[start:stop] for name, array in inputs.items()}


def merge(tasks: Sequence[Tensors], rows: int, *, pads_shapes: bool = False) -> Tensors:
    """
    Join the tensors of *tasks* along axis 0 and lengthen each to *rows* rows by repeating a row.

    Args:
        tasks: Each name -> array of shape [n, …]; the same names, ranks and dtypes in every task, and the same inner
            shapes unless *pads_shapes*.
        rows: Rows wanted, at least the rows of all tasks together, which must be at least 1.
        pads_shapes: Bring arrays that differ in other dimensions than the first to a common shape, see `pad_shape`.

    Returns:
        Name -> array of shape [rows, …], dtype unchanged; a single task that needs no padding is not copied.

    Raises:
        InvalidArgument: Shapes differ and cannot be padded.

    Source: TF Serving pads with a real row, which the model is known to accept, rather than with zeros: the first of
    the last task (batching_session.cc, MergeInputTensors).
    """
    if len(tasks) == 1 and all(array.shape[0] == rows for array in tasks[0].values()):
        return tasks[0]
    merged = {}
    for name in tasks[0]:
        parts = [task[name] for task in tasks]
        if pads_shapes:
            parts = _of_one_shape(parts)
        merged[name] = _join(parts, rows)
    return merged


def _join(parts: list[Array], rows: int) -> Array:
    padding = rows - sum(len(part) for part in parts)
    if padding:
        real = next(part for part in reversed(parts) if len(part))
        parts = [*parts, np.broadcast_to(real[:1], (padding, *real.shape[1:]))]
    return np.concatenate(parts)


# Source: tensorflow_serving/batching/batching_util.cc, as are the texts.
_PADDABLE_RANKS = range(1, 7)


def _of_one_shape(parts: list[Array]) -> list[Array]:
    if all(part.shape[1:] == parts[0].shape[1:] for part in parts):
        return parts
    largest = tuple(max(sizes) for sizes in zip(*(part.shape[1:] for part in parts), strict=True))
    return [pad_shape(part, largest) for part in parts]


def pad_shape(array: Array, inner: tuple[int, ...]) -> Array:
    """
    Lengthen *array* in all dimensions but the first, with its own first element as filler.

    Args:
        array: Shape [n, …] of rank 1 to 6.
        inner: Sizes wanted of the other dimensions, each at least as large as the array's.

    Returns:
        The array itself if nothing is to be done, else a new one of shape [n, *inner].

    Raises:
        InvalidArgument: There is no first element, or the rank is higher.

    Source: AddPadding in tensorflow_serving/batching/batching_util.cc.
    """
    if array.shape[1:] == inner:
        return array
    if array.ndim not in _PADDABLE_RANKS:
        raise InvalidArgument("Only tensors with rank from 1 to 6 can be padded.")
    if array.size == 0:
        raise InvalidArgument("Got empty tensor in batch of non-empty tensors.")
    padded = np.empty((array.shape[0], *inner), array.dtype)
    padded[...] = array.reshape(-1)[0]
    padded[tuple(slice(size) for size in array.shape)] = array
    return padded


def split(outputs: Tensors, sizes: Sequence[int], rows: int) -> list[Tensors]:
    """
    Cut *outputs* back into one piece per task; padding rows are dropped.

    Args:
        outputs: Name -> array of shape [rows, …].
        sizes: Rows of each task, in the order in which they were merged.
        rows: Rows of the batch that ran, padding included.

    Returns:
        One mapping per task, name -> view of shape [size, …].

    Raises:
        FailedPrecondition: An output does not have one row per row of the batch.
    """
    for array in outputs.values():
        if array.ndim == 0:
            raise FailedPrecondition("Batched output tensor has 0 dimensions")
        if array.shape[0] != rows:
            raise FailedPrecondition(
                "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the "
                "input tensors",
            )
    if len(sizes) == 1 and sizes[0] == rows:
        return [outputs]
    pieces: list[Tensors] = []
    start = 0
    for size in sizes:
        stop = start + size
        pieces.append({name: array[start:stop] for name, array in outputs.items()})
        start = stop
    return pieces


def join(pieces: Sequence[Tensors]) -> Tensors:
    """
    Put the outputs of the parts of one divided task back together.

    Args:
        pieces: At least one; each name -> array of shape [n, …], in the order of the task's rows.

    Returns:
        Name -> array of shape [rows, …].

    Raises:
        FailedPrecondition: The other dimensions differ: the model makes them depend on what runs together.
    """
    try:
        return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
    except ValueError as error:
        shapes = [{name: list(array.shape) for name, array in piece.items()} for piece in pieces]
        raise FailedPrecondition(
            f"The outputs of the parts of a large request do not fit together: their shapes are {shapes}"
        ) from error
