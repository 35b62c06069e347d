"""Input rows for a signature: golden ones where there are any, else drawn within the contract's ranges; no TensorFlow."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from slipway import forms
from slipway.contract import ROWS, Contract, ExampleFeature, InputContract, PredictSignature, TensorContract
from slipway.errors import SourceError
from slipway.golden import Golden

Array = npt.NDArray[Any]
# Share of made-up Examples that lack a feature which has a default.
_LEFT_OUT = 0.25


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
    if tensor.example:
        return forms.pack({name: (f.dtype, [_draw_feature(f, generator)]) for name, f in tensor.example.items()})
    if tensor.values:
        values = np.array([value.encode() for value in tensor.values], object)
        return values[generator.integers(len(values), size=shape)]
    least, greatest = tensor.range or (0, 1)
    if tensor.dtype.startswith("float"):
        return generator.uniform(least, greatest, shape).astype(tensor.dtype)
    return generator.integers(int(least), int(greatest), shape, endpoint=True).astype(tensor.dtype)


def _draw_feature(feature: ExampleFeature, generator: np.random.Generator) -> Any:
    """Draw what one Example has of a feature; None: nothing, which the feature's default allows."""
    # Drawn whether or not it counts, so that what follows does not depend on it.
    is_left_out = generator.random() < _LEFT_OUT
    if feature.default is not None and is_left_out:
        return None
    shape = (int(generator.integers(*feature.count, endpoint=True)),) if feature.count else feature.shape
    if feature.values:
        places = generator.integers(len(feature.values), size=shape)
        return np.array([_as_held(value) for value in feature.values], object)[places]
    low, high = feature.range or (0, 1)
    if feature.dtype == "float32":
        return generator.uniform(low, high, shape).astype(np.float32)
    return generator.integers(int(low), int(high), shape, endpoint=True)


def _as_held(value: Any) -> Any:
    return value.encode() if isinstance(value, str) else value


def _edge_feature(feature: ExampleFeature, *, is_last: bool) -> Any:
    shape = feature.shape if feature.count is None else (feature.count[is_last],)
    ends = feature.values[:: len(feature.values) - 1 or 1] if feature.values else feature.range or (0, 1)
    value = np.empty(shape, object)
    value[...] = _as_held(ends[-1 if is_last else 0])
    return value


def edges(contract: Contract, signature: PredictSignature) -> dict[str, Array]:
    """
    Make two rows at the edges of what may come: every value at its least, every value at its greatest.

    Returns:
        Name -> array of shape [2, …]; strings are drawn, features of Examples are at their edges.
    """
    drawn = draw(contract, signature, 2)
    for name, tensor in signature.inputs.items():
        if tensor.example:
            drawn[name] = forms.pack(
                {
                    key: (feature.dtype, [_edge_feature(feature, is_last=end) for end in (False, True)])
                    for key, feature in tensor.example.items()
                }
            )
        elif not tensor.values:
            least, greatest = tensor.range or (0, 1)
            drawn[name][0], drawn[name][1] = least, greatest
    return drawn


def has_golden_rows(contract: Contract, name: str, golden: Golden) -> bool:
    """Say whether *golden* has all that signature *name* carries to the model."""
    own = own_form(contract, name)
    return own.inputs.keys() <= golden.inputs.keys() and not misfits(own.inputs, golden.inputs)


def rows_for(contract: Contract, name: str, rows: int, golden: Golden) -> dict[str, Array]:
    """
    Make the inputs of one call of signature *name*, as its SignatureDef has them.

    Golden rows are used if they have all inputs, else rows are drawn; golden rows begin again at the first
    where there are too few.

    Returns:
        Name -> array of shape [rows, …]; for classify and regress `inputs`, serialized tf.Examples of shape [rows].
    """
    own = own_form(contract, name)
    if has_golden_rows(contract, name, golden):
        inputs = {key: golden.first(rows)[key] for key in own.inputs}
    else:
        inputs = draw(contract, own, rows)
    return inputs if own is contract.signatures[name] else forms.encode(contract, name, inputs)


def edges_for(contract: Contract, name: str) -> dict[str, Array]:
    """Make the inputs of one call of signature *name* that carry the rows of `edges`."""
    own = own_form(contract, name)
    made = edges(contract, own)
    return made if own is contract.signatures[name] else forms.encode(contract, name, made)


def own_form(contract: Contract, name: str) -> PredictSignature:
    """Give the predict signature whose inputs signature *name* carries: itself, if the model takes them as they come."""
    signature = contract.signatures[name]
    if isinstance(signature, PredictSignature) and signature.is_own_form:
        return signature
    return contract.default


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
