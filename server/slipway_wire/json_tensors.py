"""
JSON value <-> ndarray: nested lists, element types and base64, as TF Serving has them.

Numbers go through numpy and orjson whole; Python looks at single elements only to find words for an error, and for strings.

Source: tensorflow_serving/util/json_tensor.cc.
"""

import base64
import binascii
import contextlib
import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import orjson

from slipway_wire import dtypes, json_text
from slipway_wire.dtypes import DataType
from slipway_wire.status import InvalidArgument, Unimplemented
from slipway_wire.tensors import Array, as_array

# numpy's limit; TensorFlow's own is 254.
_MAX_DIMENSIONS = 64

_INTEGER_RANGE = {
    # The four small types share one check; a value too large for int8 wraps around, there as here.
    "int32": (-(2**31), 2**31 - 1),
    "int16": (-(2**31), 2**31 - 1),
    "int8": (-(2**31), 2**31 - 1),
    "uint8": (-(2**31), 2**31 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "uint32": (0, 2**32 - 1),
    "uint64": (0, 2**64 - 1),
}


# --- decoding --------------------------------------------------------------------------------------


def decode(value: Any, data_type: DataType, *, booleans: bool) -> Array:
    """
    Read nested lists (or one bare value) as a tensor.

    Args:
        value: What `json_text` gives.
        data_type: The declared type of the tensor.
        booleans: Whether the text may hold `true` or `false`; numpy would take them for 1 and 0.

    Returns:
        An array of *data_type* in the shape of the nesting; strings as an object array of bytes.

    Raises:
        InvalidArgument: If lists of one level differ in length, or an element is not what the type takes.
        Unimplemented: If nothing in JSON stands for the type (half, bfloat16, complex…).
    """
    array = decode_numbers(value, data_type, booleans=booleans)
    return decode_elements(value, data_type) if array is None else array


def decode_numbers(value: Any, data_type: DataType, *, booleans: bool) -> Array | None:
    """Do what `decode` does if numpy alone can be trusted to; None if elements must be looked at one by one."""
    if data_type.json in (None, "string") or (booleans and data_type.json != "bool"):
        return None
    try:
        array = np.array(value)
    except (ValueError, OverflowError):  # lists of different lengths, or nested too deeply
        return None
    kind = array.dtype.kind
    if array.size == 0:
        # Nothing but lists got here: an empty object would be an element.
        return array.astype(data_type.numpy)
    if data_type.json == "float" and kind in "fiu":
        with np.errstate(over="ignore"):  # beyond float32 is infinity, as in C++
            return array.astype(data_type.numpy, copy=False)
    if data_type.json == "int" and kind in "iu":
        low, high = _INTEGER_RANGE[data_type.name]
        if low <= int(array.min()) and int(array.max()) <= high:
            return array.astype(data_type.numpy, copy=False)
    if data_type.json == "bool" and kind == "b":
        return array
    return None


def decode_elements(value: Any, data_type: DataType) -> Array:
    """Do what `decode` does, element by element and in order, so that the first fault is the one that is told."""
    shape = _shape_of_first(value)
    elements: list[Any] = []
    _collect(value, 0, shape, data_type, elements)
    if data_type is dtypes.STRING:
        strings = np.empty(len(elements), object)
        strings[:] = elements
        return strings.reshape(shape)
    # Through the widest type of its kind: numpy refuses what does not fit, where C++ rounds or wraps.
    widest: Any = {"float": np.float64, "bool": np.bool_}.get(str(data_type.json))
    if widest is None:
        widest = np.uint64 if data_type is dtypes.UINT64 else np.int64
    with np.errstate(over="ignore"):
        return np.array(elements, widest).astype(data_type.numpy).reshape(shape)


def _shape_of_first(value: Any) -> tuple[int, ...]:
    shape: list[int] = []
    while isinstance(value, list):
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    if len(shape) > _MAX_DIMENSIONS:
        raise InvalidArgument(
            f"a tensor may have up to {_MAX_DIMENSIONS} dimensions, got lists nested {len(shape)} deep"
        )
    return tuple(shape)


def _collect(value: Any, level: int, shape: tuple[int, ...], data_type: DataType, elements: list[Any]) -> None:
    rank = len(shape)
    if not isinstance(value, list):
        if level != rank:
            raise InvalidArgument(
                f"JSON Value: {json_text.describe(value)} found at incorrect level: {level + 1} in the JSON DOM. "
                f"Expected at level: {rank}"
            )
        elements.append(_element(value, data_type))
        return
    if level >= rank:
        raise InvalidArgument(f"Encountered list at unexpected level: {level} expected < {rank}")
    if len(value) != shape[level]:
        raise InvalidArgument(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
        )
    for item in value:
        _collect(item, level + 1, shape, data_type, elements)


def _element(value: Any, data_type: DataType) -> Any:
    kind = data_type.json
    if isinstance(value, dict):
        if kind == "string":
            return decode_base64(value)
    elif kind is None:
        raise Unimplemented(f"Conversion of JSON Value: {json_text.describe(value)} to type: {data_type.name}")
    elif kind == "string":
        if isinstance(value, str):
            return json_text.to_bytes(value)
    elif kind == "bool":
        if isinstance(value, bool):
            return value
    elif isinstance(value, bool):
        pass
    elif kind == "float":
        if isinstance(value, int | float):
            return value
    elif isinstance(value, int):
        low, high = _INTEGER_RANGE[data_type.name]
        if low <= value <= high:
            return value
    raise InvalidArgument(
        f"JSON Value: {json_text.describe(value)} Type: {json_text.type_name(value)} "
        f"is not of expected type: {data_type.name}"
    )


def is_base64(value: Any) -> bool:
    """Say whether *value* is `{"b64": "<text>"}`, which stands for bytes."""
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def decode_base64(value: dict[str, Any]) -> bytes:
    """Read `{"b64": "<text>"}`, or raise InvalidArgument; padding may be missing, as absl allows."""
    if not is_base64(value):
        raise InvalidArgument(f"JSON Value: {json_text.describe(value)} not formatted correctly for base64 data")
    text = "".join(value["b64"].split())
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidArgument("Unable to base64 decode") from None


def decode_freely(value: Any) -> Array:
    """
    Read a tensor of an answer, whose type JSON does not tell.

    Returns:
        float64, int64 (uint64 if need be), bool, or an object array of bytes.

    Raises:
        InvalidArgument: If it is no tensor: lists of different lengths, null, mixed kinds.
    """
    first = value
    while isinstance(first, list) and first:
        first = first[0]
    match first:
        case str() | dict():
            return decode_elements(value, dtypes.STRING)
        case bool():
            return decode_elements(value, dtypes.BOOL)
    array = decode_numbers(value, dtypes.INT64, booleans=False)
    if array is not None:
        return array
    if isinstance(first, int):
        with contextlib.suppress(InvalidArgument):
            return decode(value, dtypes.UINT64, booleans=False)
    return decode(value, dtypes.DOUBLE, booleans=False)


# --- encoding --------------------------------------------------------------------------------------

Strings = Literal["text", "base64", "either"]
"""How string elements are written: as they are, as b64 objects, or as b64 objects where they are not UTF-8."""


def encode(array: Array, strings: Strings = "text") -> bytes:
    """
    Write a tensor as nested lists, or as a bare value if it has no dimensions.

    Floats have the fewest digits that read back to the same number, always with a point or an exponent; what is not
    finite becomes NaN, Infinity or -Infinity, which strict parsers refuse and TensorFlow's clients know.

    Raises:
        InvalidArgument: If the type cannot be written (half, bfloat16, complex…).
    """
    data_type = _writable(array)
    if data_type is dtypes.STRING or not _is_finite(array):
        tokens = _tokens(array, data_type, strings)
        return _nest(tokens, array.shape)
    if array.ndim == 0:
        return _dump(array.reshape(1), data_type)[1:-1]
    return _dump(array, data_type)


def encode_rows(array: Array, strings: Strings = "text") -> list[bytes]:
    """Write each index of dimension 0 by itself; see `encode`."""
    data_type = _writable(array)
    if array.ndim == 1:
        return _tokens(array, data_type, strings)
    if data_type is dtypes.STRING or not _is_finite(array):
        return [encode(row, strings) for row in array]
    return [_dump(row, data_type) for row in array]


def _writable(array: Array) -> DataType:
    data_type = dtypes.from_numpy(array.dtype)
    if data_type.json is None:
        raise InvalidArgument(f"Failed to write JSON value for tensor type: {data_type.name}")
    return data_type


def _is_finite(array: Array) -> bool:
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def _dump(array: Array, data_type: DataType) -> bytes:
    return orjson.dumps(np.ascontiguousarray(array, data_type.numpy), option=orjson.OPT_SERIALIZE_NUMPY)


def _tokens(array: Array, data_type: DataType, strings: Strings) -> list[bytes]:
    flat = array.reshape(-1)
    if data_type is dtypes.STRING:
        return [_string(value, strings) for value in as_array(flat).tolist()]
    if flat.size == 0:
        return []
    tokens = _dump(flat, data_type)[1:-1].split(b",")
    if not _is_finite(flat):
        for index in np.flatnonzero(~np.isfinite(flat)).tolist():
            tokens[index] = b"NaN" if np.isnan(flat[index]) else b"Infinity" if flat[index] > 0 else b"-Infinity"
    return tokens


def _string(value: bytes, strings: Strings) -> bytes:
    if strings != "base64":
        try:
            return orjson.dumps(value.decode())
        except UnicodeDecodeError:
            if strings == "text":
                # As TF Serving does: the bytes go out raw, and the answer is no longer valid JSON.
                return orjson.dumps(value.decode("latin-1")).decode().encode("latin-1")
    return b'{"b64":"%b"}' % base64.b64encode(value)


def _nest(tokens: Sequence[bytes], shape: tuple[int, ...]) -> bytes:
    if not shape:
        return tokens[0]
    groups = list(tokens)
    for axis in range(len(shape) - 1, -1, -1):
        size, lists = shape[axis], math.prod(shape[:axis])
        groups = [b"[" + b",".join(groups[at * size : (at + 1) * size]) + b"]" for at in range(lists)]
    return groups[0]
