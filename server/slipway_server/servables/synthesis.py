"""Requests made up from a signature: nobody's data, right in names, dtypes and ranks, made to be run and forgotten."""

import numpy as np

from slipway_wire import dtypes
from slipway_wire.signatures import PREDICT, Signature, TensorSpec
from slipway_wire.tensors import Array

# A size for axes that may have any: enough for most convolutions, little enough to cost nothing.
_ANY_SIZE = 1
_MAX_ELEMENTS = 2**24


def inputs(signature: Signature, *, rows: int = 1, seed: int = 0) -> dict[str, Array] | None:
    """
    Make inputs for *signature*, the same for the same *seed*.

    Args:
        signature: Any.
        rows: Size of axis 0 where any goes; other axes of any size get 1.
        seed: Of the random numbers: floats of [0, 1), whole numbers of {0, 1}, empty strings.

    Returns:
        Alias -> array; what has a default is left at it. None if no request can be made up: there are no inputs, an
        input is no plain tensor of a known rank, or would take too much memory.
    """
    random = np.random.default_rng(seed)
    made: dict[str, Array] = {}
    for alias, spec in signature.inputs.items():
        default = signature.defaults.get(alias)
        array = _array(spec, rows, random) if default is None else default
        if array is None:
            return None
        made[alias] = array
    return made or None


def can_be_asked(signature: Signature) -> bool:
    """Say whether a Predict request may be made up for *signature* without meaning anything else by it."""
    return signature.method == PREDICT and not signature.name.startswith("__")


def _array(spec: TensorSpec, rows: int, random: np.random.Generator) -> Array | None:
    if spec.shape is None or spec.dtype.numpy is None or not spec.graph_name:
        return None
    sizes = [size if size is not None else rows if axis == 0 else _ANY_SIZE for axis, size in enumerate(spec.shape)]
    if int(np.prod(sizes, dtype=np.int64)) > _MAX_ELEMENTS:
        return None
    if spec.dtype is dtypes.STRING:
        return np.full(sizes, b"", object)
    if spec.dtype.numpy.kind in "iub":
        return random.integers(0, 2, sizes).astype(spec.dtype.numpy)
    return random.random(sizes).astype(spec.dtype.numpy)
