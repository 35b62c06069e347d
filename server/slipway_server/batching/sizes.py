"""What warm-up runs of one request when requests are batched: itself as the batcher would run it, and every other size."""

from collections.abc import Iterator

import numpy as np

from slipway_server.batching.tensors import Tensors, count_rows, cut, merge
from slipway_server.config_files import BatchingPolicy
from slipway_wire.status import InvalidArgument


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


def _resized(inputs: Tensors, rows: int, size: int) -> Tensors:
    places = np.arange(size) % rows
    return {alias: array[places] for alias, array in inputs.items()}
