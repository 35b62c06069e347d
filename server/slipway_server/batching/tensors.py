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
    if any(array.ndim == 0 for array in inputs.values()):
        raise InvalidArgument("Batching Run() input tensors must have at least one dimension")
    sizes = {array.shape[0] for array in inputs.values()}
    if len(sizes) > 1:
        raise InvalidArgument("Batching Run() input tensors must have equal 0th-dimension size")
    return int(sizes.pop())


def merge(tasks: Sequence[Tensors], rows: int) -> dict[str, Array]:
    """
    Join the tensors of *tasks* along axis 0 and lengthen each to *rows* rows by repeating its first row.

    Args:
        tasks: Each name -> array of shape [n, …]; the same names, inner shapes and dtypes in every task.
        rows: Rows wanted, at least the rows of all tasks together, which must be at least 1.

    Returns:
        Name -> array of shape [rows, …], dtype unchanged; a single task that needs no padding is not copied.

    Source: TF Serving pads with a real row, which the model is known to accept, rather than with zeros
    (batching_session.cc, MergeInputTensors).
    """
    return {name: _join([task[name] for task in tasks], rows) for name in tasks[0]}


def _join(parts: list[Array], rows: int) -> Array:
    padding = rows - sum(part.shape[0] for part in parts)
    if padding:
        first = next(part for part in parts if part.shape[0])
        parts = [*parts, np.broadcast_to(first[:1], (padding, *first.shape[1:]))]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def split(outputs: Tensors, sizes: Sequence[int], rows: int) -> list[dict[str, Array]]:
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
    pieces = []
    start = 0
    for size in sizes:
        pieces.append({name: array[start : start + size] for name, array in outputs.items()})
        start += size
    return pieces
