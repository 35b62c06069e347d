"""Input rows for a signature: golden ones where there are any, else drawn within the contract's ranges; no TensorFlow."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from slipway.contract import (
    ROWS,
    ClassifySignature,
    Contract,
    InputContract,
    PredictSignature,
    RegressSignature,
    TensorContract,
    example_dtype,
)
from slipway.errors import SourceError
from slipway.golden import Golden
from slipway_wire import messages

Array = npt.NDArray[Any]


def draw(contract: Contract, signature: PredictSignature, rows: int) -> dict[str, Array]:
    """
    Draw rows at random, the same ones for the same contract.

    Args:
        contract: Gives the seed, and sizes for symbols other than N.
        signature: Gives dtype, shape and range (without one: 0 to 1) of each input.
        rows: Rows wanted; fewer rows are the first of more.

    Returns:
        Name -> array of shape [rows, …] in the contract's dtype; strings are objects (bytes).
    """
    inner = dict(contract.probe.dims) | {ROWS: 1}
    drawn = {}
    for name, tensor in signature.inputs.items():
        # One generator for each tensor and a draw for each row: a row does not depend on how many are asked for.
        generator = np.random.default_rng([contract.probe.seed, *name.encode()])
        drawn[name] = np.concatenate([_draw_row(tensor, tensor.sizes(inner), generator) for _ in range(rows)])
    return drawn


def _draw_row(tensor: InputContract, shape: tuple[int, ...], generator: np.random.Generator) -> Array:
    if tensor.values:
        values = np.array([value.encode() for value in tensor.values], object)
        return values[generator.integers(len(values), size=shape)]
    least, greatest = tensor.range or (0, 1)
    if tensor.dtype.startswith("float"):
        return generator.uniform(least, greatest, shape).astype(tensor.dtype)
    return generator.integers(int(least), int(greatest), shape, endpoint=True).astype(tensor.dtype)


def edges(contract: Contract, signature: PredictSignature) -> dict[str, Array]:
    """
    Make two rows at the edges of what may come: every value at its least, every value at its greatest.

    Returns:
        Name -> array of shape [2, …]; strings are drawn.
    """
    drawn = draw(contract, signature, 2)
    for name, tensor in signature.inputs.items():
        if not tensor.values:
            least, greatest = tensor.range or (0, 1)
            drawn[name][0], drawn[name][1] = least, greatest
    return drawn


def has_golden_rows(contract: Contract, name: str, golden: Golden) -> bool:
    """Say whether *golden* has all inputs of signature *name*."""
    signature = contract.signatures[name]
    predict = signature if isinstance(signature, PredictSignature) else contract.default
    return predict.inputs.keys() <= golden.inputs.keys() and not misfits(predict.inputs, golden.inputs)


def rows_for(contract: Contract, name: str, rows: int, golden: Golden) -> dict[str, Array]:
    """
    Make the inputs of one call of signature *name*, as its SignatureDef has them.

    Golden rows are used if they have all inputs, else rows are drawn; golden rows begin again at the first
    where there are too few.

    Returns:
        Name -> array of shape [rows, …]; for classify and regress `inputs`, serialized tf.Examples of shape [rows].
    """
    signature = contract.signatures[name]
    predict = signature if isinstance(signature, PredictSignature) else contract.default
    if has_golden_rows(contract, name, golden):
        inputs = {key: golden.first(rows)[key] for key in predict.inputs}
    else:
        inputs = draw(contract, predict, rows)
    return inputs if isinstance(signature, PredictSignature) else {"inputs": examples(contract, signature, inputs)}


def examples(contract: Contract, signature: ClassifySignature | RegressSignature, inputs: Mapping[str, Array]) -> Array:
    """
    Pack rows of serving_default as tf.Examples.

    Args:
        contract: Gives the dtypes of the inputs.
        signature: Names the feature that carries each input.
        inputs: Name -> array of shape [rows, …].

    Returns:
        Serialized tf.Examples, objects (bytes) of shape [rows].
    """
    rows = len(next(iter(inputs.values())))
    packed = np.empty(rows, object)
    for row in range(rows):
        example = messages.Example()
        for name, feature in contract.features(signature).items():
            kind = example_dtype(contract.default.inputs[name].dtype)
            _fill(example.features.feature[feature], kind, inputs[name][row : row + 1].ravel().tolist())
        packed[row] = example.SerializeToString(deterministic=True)
    return packed


def _fill(feature: Any, kind: str, values: Sequence[Any]) -> None:
    match kind:
        case "float32":
            feature.float_list.value.extend(values)
        case "int64":
            feature.int64_list.value.extend(map(int, values))
        case _:
            feature.bytes_list.value.extend(values)


def misfits(tensors: Mapping[str, TensorContract], arrays: Mapping[str, Array]) -> list[str]:
    """
    Say, one line per array, what does not fit its contract: dtype, shape, or a size that another array contradicts.

    Args:
        tensors: Name -> contract.
        arrays: Name -> array; names that *tensors* lacks are passed over, all that it has are there.
    """
    found = []
    dims: dict[str, int] = {}
    for name, tensor in tensors.items():
        array = arrays[name]
        if array.dtype != tensor.numpy_dtype():
            found.append(f"{name}: expected {tensor.dtype}, found {array.dtype}")
        sizes = zip(tensor.shape, array.shape, strict=False)
        fits = len(tensor.shape) == array.ndim and all(
            (dims.setdefault(want, have) if isinstance(want, str) else want) == have for want, have in sizes
        )
        if not fits:
            known = "".join(f", {symbol} = {size}" for symbol, size in dims.items())
            found.append(f"{name}: expected shape {format_shape(tensor)}{known}, found {list(array.shape)}")
    return found


def format_shape(tensor: TensorContract) -> str:
    """Write a shape as in the contract, e.g. `[N, 8, 8, 1]`."""
    return f"[{', '.join(map(str, tensor.shape))}]"


def fit(where: str, tensors: Mapping[str, TensorContract], arrays: Mapping[str, Array]) -> dict[str, Array]:
    """
    Bring arrays from a file into the contract's dtypes.

    Args:
        where: What errors call the file.
        tensors: Name -> contract, for all that is needed.
        arrays: Name -> array, as read.

    Raises:
        SourceError: If one is missing, there is none with rows, or a dtype or shape cannot be meant.
    """
    if missing := [name for name in tensors if name not in arrays]:
        found = ", ".join(arrays) or "none"
        raise SourceError(f"{where}: no array {missing[0]}; found: {found}. Name arrays as the inputs of the contract.")
    fitted = {}
    for name, tensor in tensors.items():
        wanted = np.dtype(tensor.numpy_dtype())
        # numpy would cast anything to objects, which are strings here.
        alike = (wanted.kind == "O") == (arrays[name].dtype.kind == "O")
        castable = alike and np.can_cast(arrays[name].dtype, wanted, "same_kind")
        fitted[name] = arrays[name].astype(wanted, copy=False) if castable else arrays[name]
    if faults := misfits(tensors, fitted):
        raise SourceError("\n".join(f"{where}: {fault}" for fault in faults))
    if not len(next(iter(fitted.values()))):
        raise SourceError(f"{where}: has no rows.")
    return fitted
