"""
One table of element types: TensorFlow's number and names, numpy's dtype, the field of TensorProto, the kind of JSON value.

A type TensorFlow knows and we cannot hold in an array (resource, variant, quantised, 8 bits and less of float)
is in the table too, with `numpy` None, so that it can be named in an error and shown in metadata.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from slipway_wire import messages
from slipway_wire.status import InvalidArgument

try:
    import ml_dtypes
except ImportError:  # comes with TensorFlow; a client without it cannot hold bfloat16
    _BFLOAT16 = None
else:
    _BFLOAT16 = np.dtype(ml_dtypes.bfloat16)

JsonKind = Literal["float", "int", "bool", "string"]


@dataclass(frozen=True, slots=True)
class DataType:
    """
    An element type.

    Attributes:
        number: The value of `tensorflow.DataType`.
        name: TensorFlow's short name, e.g. `float` (its error texts use it).
        numpy: Little-endian dtype; object for strings (elements are bytes); None if arrays cannot hold it.
        field: The typed value field of TensorProto; None if there is none for it.
        json: What JSON carries for it, both ways; None if nothing. TF Serving has nothing for half and bfloat16 either.
    """

    number: int
    name: str
    numpy: "np.dtype[Any] | None" = None
    field: str | None = None
    json: JsonKind | None = None

    @property
    def enum_name(self) -> str:
        """The name in `tensorflow.DataType`, e.g. `DT_FLOAT`."""
        return f"DT_{self.name.upper()}"


def _row(
    name: str, numpy: npt.DTypeLike | None = None, field: str | None = None, json: JsonKind | None = None
) -> DataType:
    number = messages.DataType.Value(f"DT_{name.upper()}")
    return DataType(number, name, None if numpy is None else np.dtype(numpy), field, json)


INVALID = _row("invalid")
FLOAT = _row("float", "<f4", "float_val", "float")
DOUBLE = _row("double", "<f8", "double_val", "float")
INT32 = _row("int32", "<i4", "int_val", "int")
UINT8 = _row("uint8", "u1", "int_val", "int")
INT16 = _row("int16", "<i2", "int_val", "int")
INT8 = _row("int8", "i1", "int_val", "int")
STRING = _row("string", object, "string_val", "string")
COMPLEX64 = _row("complex64", "<c8", "scomplex_val")
INT64 = _row("int64", "<i8", "int64_val", "int")
BOOL = _row("bool", "?", "bool_val", "bool")
BFLOAT16 = _row("bfloat16", _BFLOAT16, "half_val", "float")
UINT16 = _row("uint16", "<u2", "int_val")
COMPLEX128 = _row("complex128", "<c16", "dcomplex_val")
HALF = _row("half", "<f2", "half_val", "float")
UINT32 = _row("uint32", "<u4", "uint32_val", "int")
UINT64 = _row("uint64", "<u8", "uint64_val", "int")

_HELD = (
    INVALID, FLOAT, DOUBLE, INT32, UINT8, INT16, INT8, STRING, COMPLEX64, INT64, BOOL, BFLOAT16, UINT16, COMPLEX128,
    HALF, UINT32, UINT64,
)  # fmt: skip
_NAMED_ONLY = tuple(
    _row(name.removeprefix("DT_").lower())
    for name, number in messages.DataType.items()
    if number not in {held.number for held in _HELD}
)
_BY_NUMBER = {data_type.number: data_type for data_type in (*_HELD, *_NAMED_ONLY)}
_BY_NUMPY = {data_type.numpy: data_type for data_type in _HELD if data_type.numpy is not None}

# numpy's and Python's names where they differ from TensorFlow's.
_ALIASES = {"float32": "float", "float64": "double", "float16": "half", "bytes": "string", "str": "string"}
_BY_NAME = {data_type.name: data_type for data_type in _BY_NUMBER.values()}


def from_number(number: int) -> DataType:
    """Look up the type with this value of `tensorflow.DataType`, or raise InvalidArgument."""
    try:
        return _BY_NUMBER[number]
    except KeyError:
        raise InvalidArgument(f"unknown data type number {number}") from None


def from_name(name: str) -> DataType:
    """
    Look up a type by any name in use: `float`, `float32`, `DT_FLOAT`; `string`, `bytes`.

    Raises:
        InvalidArgument: If nobody uses that name.
    """
    short = name.removeprefix("DT_").lower()
    try:
        return _BY_NAME[_ALIASES.get(short, short)]
    except KeyError:
        raise InvalidArgument(f"unknown data type {name!r}; known are {', '.join(sorted(_BY_NAME))}") from None


def from_numpy(dtype: "np.dtype[Any]") -> DataType:
    """
    Look up the type that holds arrays of *dtype*; object, bytes and str arrays are strings.

    Raises:
        InvalidArgument: If TensorFlow has none, e.g. for datetime64.
    """
    found = _BY_NUMPY.get(dtype)
    if found is not None:
        return found
    if dtype.kind in "OSU":
        return STRING
    try:
        return _BY_NUMPY[dtype.newbyteorder("<")]
    except KeyError:
        raise InvalidArgument(f"numpy dtype {dtype} has no counterpart in TensorFlow") from None
