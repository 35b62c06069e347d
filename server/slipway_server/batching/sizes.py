"""What warm-up runs of one request when requests are batched: itself as the batcher would run it, and every other size."""

from collections.abc import Iterator

import numpy as np

from slipway_server.batching.tensors import Tensors, count_rows, cut, merge
from slipway_server.config_files import BatchingPolicy
from slipway_wire.status import InvalidArgument

_MANY = 64


def batches_like(inputs: Tensors, policy: BatchingPolicy) -> Iterator[Tensors]:
    """
    Yield *inputs* padded as the batcher pads them, then their rows repeated or cut off to every other allowed size.

    Args:
        inputs: Alias -> array of shape [rows, …].
        policy: Of the batcher.

    Raises:
        InvalidArgument: The batcher could not take them.
    """
    rows = count_rows(inputs)
    if rows > policy.max_batch_size:
        raise InvalidArgument(
            f"Task size {rows} is larger than maximum input batch size {policy.max_batch_size}",
        )
    if rows == 0:
        yield inputs
        return
    # With splitting, a larger request runs in parts.
    rows = min(rows, policy.largest_batch)
    inputs = cut(inputs, 0, rows)
    own = policy.padded(rows)
    yield merge([inputs], own)
    for size in policy.allowed_batch_sizes:
        if size != own:
            yield _resized(inputs, rows, size)


def smallest_and_largest(inputs: Tensors, policy: BatchingPolicy) -> tuple[Tensors, Tensors]:
    """
    Return what runs for a request that is alone, and what runs when many wait: rows of *inputs*, repeated or cut off.

    No more than _MANY rows: few batches get larger, whatever is allowed.

    Args:
        inputs: Alias -> array of shape [rows, …], of at least one row.
        policy: Of the batcher.

    Raises:
        InvalidArgument: The batcher could not take them.
    """
    rows = count_rows(inputs)
    if rows == 0:
        raise InvalidArgument("a request without rows")
    sizes = policy.allowed_batch_sizes or (1, min(policy.largest_batch, _MANY))
    smallest = sizes[0]
    return _resized(inputs, rows, smallest), _resized(
        inputs, rows, max((size for size in sizes if size <= _MANY), default=smallest)
    )


def _resized(inputs: Tensors, rows: int, size: int) -> Tensors:
    places = np.arange(size) % rows
    return {alias: array[places] for alias, array in inputs.items()}
