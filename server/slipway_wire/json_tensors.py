"""
JSON value <-> ndarray: nested lists, element types and base64, as TF Serving has them.

Numbers go through numpy and orjson whole; Python looks at single elements only to find words for an error, and for strings.

Source: tensorflow_serving/util/json_tensor.cc.
"""

import base64
import binascii
import contextlib
import math
from array import array as c_array
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import orjson

from slipway_wire import dtypes, json_floats, json_text
from slipway_wire.dtypes import DataType
from slipway_wire.status import Internal, InvalidArgument, Unimplemented
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
        Unimplemented: If nothing in JSON stands for the type (uint16, complex…).
    """
    array = decode_numbers(value, data_type, booleans=booleans)
    return decode_elements(value, data_type) if array is None else array


def decode_numbers(value: Any, data_type: DataType, *, booleans: bool) -> Array | None:
    """Do what `decode` does if numpy alone can be trusted to; None if elements must be looked at one by one."""
    if data_type.json in (None, "string") or (booleans and data_type.json != "bool"):
        return None
    if data_type is dtypes.FLOAT and isinstance(value, list) and value:
        # The commonest of small requests, at a fraction of what numpy takes to find out what it is.
        with suppress(TypeError, OverflowError):
            if type(value[0]) is not list:
                return np.frombuffer(c_array("f", value), np.float32)
            columns = len(value[0])
            if columns and all(type(row) is list and len(row) == columns for row in value):
                return np.frombuffer(c_array("f", chain.from_iterable(value)), np.float32).reshape(-1, columns)
    try:
        numbers = np.array(value)
    except (ValueError, OverflowError):  # lists of different lengths, or nested too deeply
        return None
    if data_type.json == "bool":
        # Nothing but lists got here if there is no element: an empty object would be one.
        return numbers.astype(bool) if numbers.size == 0 or numbers.dtype.kind == "b" else None
    return cast_numbers(numbers, data_type)


def cast_numbers(array: Array, data_type: DataType) -> Array | None:
    """
    Convert numbers as JSON has them to the declared type.

    Args:
        array: int64, uint64 or float64, of any shape.
        data_type: The declared type of the tensor.

    Returns:
        None if there is an element the type does not take, or JSON has nothing for the type.
    """
    kind = array.dtype.kind
    if data_type.json == "float" and kind in "fiu":
        # Through double, as in C++, where a number too large for an exact one is rounded twice; beyond float32 is infinity.
        with np.errstate(over="ignore"):
            return array.astype(np.float64, copy=False).astype(data_type.numpy, copy=False)
    if data_type.json == "int":
        if array.size == 0:
            return array.astype(data_type.numpy)
        if kind in "iu":
            low, high = _INTEGER_RANGE[data_type.name]
            if low <= int(array.min()) and int(array.max()) <= high:
                return array.astype(data_type.numpy, copy=False)
    return None


def decode_elements(value: Any, data_type: DataType) -> Array:
    """Do what `decode` does, element by element and in order, so that the first fault is the one that is told."""
    shape = shape_of_first(value)
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


def shape_of_first(value: Any) -> tuple[int, ...]:
    """Follow the first elements of nested lists down; InvalidArgument if there are more dimensions than a tensor may have."""
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


def decode_string(value: Any) -> bytes:
    """Read a string, or raise InvalidArgument."""
    if type(value) is dict and len(value) == 1:
        with suppress(binascii.Error, ValueError, LookupError, TypeError):
            # Whole, and nothing else: white space and what may be missing are seen to below.
            return binascii.a2b_base64(value["b64"], strict_mode=True)
    data: bytes = _element(value, dtypes.STRING)
    return data


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

Digits = Literal["fewest", "tf_serving"]
"""How floats are written: in the fewest digits that read back to the same number, or in those of TF Serving's answers."""

NonFinite = Literal["tokens", "null", "error"]
"""What stands for NaN and infinities: `NaN`, `Infinity`, `-Infinity`, which TensorFlow's clients know and strict parsers refuse; null; nothing."""

# Of larger arrays pieces are written, one after the other, so that no single call holds up other threads for long.
PIECE = 2**14
# Rows of more elements are written faster one by one, those of fewer all at once.
_NARROW = 48


@dataclass(frozen=True, slots=True)
class Style:
    """How a tensor is written; what is not said about a type has only one form."""

    strings: Strings = "text"
    digits: Digits = "fewest"
    non_finite: NonFinite = "tokens"


FEWEST_DIGITS = Style()


def encode(array: Array, style: Style = FEWEST_DIGITS) -> bytes:
    """
    Write a tensor as nested lists, or as a bare value if it has no dimensions.

    Floats always have a point or an exponent.

    Raises:
        InvalidArgument: If the type cannot be written (uint16, complex…).
        Internal: A value is not finite, and *style* has nothing for it.
    """
    data_type = _writable(array, style)
    if array.size > PIECE and len(array) > 1:
        return b"[" + b",".join(_encode(piece, data_type, style)[1:-1] for piece in _pieces(array)) + b"]"
    return _encode(array, data_type, style)


def encode_rows(array: Array, style: Style = FEWEST_DIGITS) -> list[bytes]:
    """Write each index of dimension 0 by itself; see `encode`."""
    data_type = _writable(array, style)
    if array.ndim == 1:
        return _tokens(array, data_type, style)
    if not 0 < array.size <= min(PIECE, _NARROW * len(array)):
        return [encode(row, style) for row in array]
    tokens = _tokens(array, data_type, style)
    row = structure(array.shape[1:], b"%b")
    size = len(tokens) // len(array)
    return [row % tuple(tokens[start : start + size]) for start in range(0, len(tokens), size)]


def _pieces(array: Array) -> Iterator[Array]:
    rows = max(PIECE // (array.size // len(array)), 1)
    for start in range(0, len(array), rows):
        yield array[start : start + rows]


def _encode(array: Array, data_type: DataType, style: Style) -> bytes:
    if array.size <= json_floats.FEW and data_type.json == "float" and style.digits == "tf_serving":
        values = json_floats.as_floats(array)
        if math.isfinite(sum(values)):
            return _nest(json_floats.few(values, data_type.numpy), array.shape)
    if array.ndim and array.size and data_type is not dtypes.STRING:
        if data_type.json != "float":
            return _dump(array, data_type)
        finite, words = _split(array, style)
        if style.digits == "tf_serving" or array.dtype.itemsize == 2:
            return json_floats.nested(finite, words)
        if not words:
            return _dump(array, data_type)
    return _nest(_tokens(array, data_type, style), array.shape)


def _writable(array: Array, style: Style) -> DataType:
    data_type = dtypes.from_numpy(array.dtype)
    if data_type.json is None:
        raise InvalidArgument(f"Failed to write JSON value for tensor type: {data_type.name}")
    if style.non_finite == "error" and data_type.json == "float" and not _is_finite(array):
        place = tuple(np.argwhere(~_finite(array))[0].tolist())
        raise Internal(
            f"The model's output has {_word(array[place], 'tokens').decode()} at {list(place)}, and --json_non_finite=error "
            "has no JSON for it"
        )
    return data_type


def _is_finite(array: Array) -> bool:
    return array.dtype.kind not in "fV" or bool(_finite(array).all())


def _finite(array: Array) -> npt.NDArray[np.bool_]:
    finite: npt.NDArray[np.bool_]
    if array.dtype.kind == "f":
        finite = np.isfinite(array)
    else:
        with np.errstate(invalid="ignore"):  # a signalling NaN of bfloat16 would warn
            finite = np.isfinite(array)
    return finite


def _dump(array: Array, data_type: DataType) -> bytes:
    return orjson.dumps(np.ascontiguousarray(array, data_type.numpy), option=orjson.OPT_SERIALIZE_NUMPY)


def _tokens(array: Array, data_type: DataType, style: Style) -> list[bytes]:
    flat = array.reshape(-1)
    if data_type is dtypes.STRING:
        return [_string(value, style.strings) for value in as_array(flat).tolist()]
    if flat.size == 0:
        return []
    if data_type.json != "float":
        return _dump(flat, data_type)[1:-1].split(b",")
    if flat.size <= json_floats.FEW and style.digits == "tf_serving":
        values = json_floats.as_floats(flat)
        if math.isfinite(sum(values)):
            return json_floats.few(values, data_type.numpy)
    finite, words = _split(flat, style)
    if style.digits == "tf_serving" or flat.dtype.itemsize == 2:
        return json_floats.tokens(finite, words)
    tokens = _dump(finite, data_type)[1:-1].split(b",")
    for index, word in words:
        tokens[index] = word
    return tokens


def _split(array: Array, style: Style) -> tuple[Array, json_floats.Words]:
    """Give *array* with zeros where it is not finite, and the words for those places."""
    is_finite = _finite(array)
    if is_finite.all():
        return array, ()
    bad = np.flatnonzero(~is_finite)
    words = [_word(value, style.non_finite) for value in array.reshape(-1)[bad].tolist()]
    return np.where(is_finite, array, array.dtype.type(0)), list(zip(bad.tolist(), words, strict=True))


def _word(value: float, non_finite: NonFinite) -> bytes:
    if non_finite == "null":
        return b"null"
    return b"NaN" if math.isnan(value) else b"Infinity" if value > 0 else b"-Infinity"


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
    if len(shape) == 1:
        return b"[" + b",".join(tokens) + b"]"
    if 0 in shape:
        return structure(shape)
    # One formatting of all tokens, instead of a join for every innermost list.
    return structure(shape, b"%b") % tuple(tokens)


def structure(shape: tuple[int, ...], element: bytes = b"") -> bytes:
    """Write nested lists of *shape* that hold *element* everywhere; `[[,],[,]]` for [2, 2] and no element."""
    text = element
    for axis in range(len(shape) - 1, -1, -1):
        size = shape[axis]
        text = b"[" + (text + b",") * (size - 1) + text + b"]" if size else b"[]"
    return text


def structure_bytes(shape: tuple[int, ...]) -> int:
    """
    Return the length of `structure(shape)`.

    Whoever takes a shape from the first elements of a text, without knowing that all others are like them, asks this first: a
    thousand bytes can ask for more than any memory holds.
    """
    length = 0
    for size in reversed(shape):
        length = size * (length + 1) + 1 if size else 2
    return length
