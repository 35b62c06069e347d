"""TensorProto <-> ndarray."""

import math
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError

from slipway_wire import dtypes, messages, protobuf
from slipway_wire.dtypes import DataType
from slipway_wire.status import InvalidArgument

Array = npt.NDArray[Any]

# TensorProto may state a large shape and carry one value that fills it. Up to this size we do so; beyond it
# a message of a few bytes would be able to take all memory. The array itself holds the value once only.
MAX_FILLED_BYTES = 64 * 1024 * 1024
# Several values, of which the last is repeated, do need that memory; nobody is known to send that, however.
MAX_FILLED_FROM_SEVERAL_BYTES = 4 * 1024 * 1024

# Longer shapes are read each time: what is remembered is chosen by clients.
_MAX_REMEMBERED_BYTES = 128

_VALUE_FIELD = {field.name: field.number for field in messages.TensorProto.DESCRIPTOR.fields}
_FIXED_DTYPE = {"float_val": "<f4", "double_val": "<f8", "scomplex_val": "<f4", "dcomplex_val": "<f8"}
_FIXED_WIDTH = {*_FIXED_DTYPE, "tensor_content"}


def as_array(values: npt.ArrayLike) -> Array:
    """
    Make an array that can cross the wire: strings become object arrays of bytes (UTF-8), byte order little-endian.

    Raises:
        InvalidArgument: If TensorFlow has no type for its elements.
    """
    array = np.asarray(values)
    if array.dtype.kind not in "OSU":
        data_type = dtypes.from_numpy(array.dtype)
        return np.ascontiguousarray(array, data_type.numpy).reshape(array.shape)
    strings = np.empty(array.size, object)
    for index, element in enumerate(array.ravel().tolist()):
        if isinstance(element, str):
            strings[index] = element.encode()
        elif isinstance(element, bytes):
            strings[index] = element
        else:
            raise InvalidArgument(f"a string tensor takes bytes or str, got {type(element).__name__}")
    return strings.reshape(array.shape)


def chunks(array: Array, *, as_content: bool) -> tuple[bytes, list[protobuf.Chunk], int]:
    """
    Encode *array* as a TensorProto without joining it.

    Args:
        array: Any shape; strings as object arrays of bytes.
        as_content: Values as raw bytes in `tensor_content`, else in the typed field (`float_val`, …).
            Strings are always typed: no client but TensorFlow's C++ reads them from `tensor_content`.

    Returns:
        The head (type and shape, and what stands in front of the values); the values; the length of both in bytes.

    Raises:
        InvalidArgument: If TensorFlow has no type for the elements.
    """
    data_type = dtypes.from_numpy(array.dtype)
    if data_type is dtypes.STRING:
        head = _head(data_type.number, array.shape, 0, 0)
        values = _string_chunks(as_array(array))
        return head, values, len(head) + sum(map(len, values))
    field = "tensor_content" if as_content else data_type.field
    assert field is not None  # every type with a numpy dtype has a field
    content = _content(np.ascontiguousarray(array, data_type.numpy), field)
    head = _head(data_type.number, array.shape, _VALUE_FIELD[field], len(content))
    return head, [content] if content else [], len(head) + len(content)


def plain_head(dtype: "np.dtype[Any]", shape: tuple[int, ...], *, as_content: bool) -> tuple[bytes, int] | None:
    """
    Make the head of TensorProtos whose values are simply the bytes of the array.

    Args:
        dtype: Of the array.
        shape: Likewise.
        as_content: See `chunks`.

    Returns:
        What stands in front of the values, and the length of both in bytes; None for types that are written otherwise.

    Raises:
        InvalidArgument: If TensorFlow has no type for the elements.
    """
    data_type = dtypes.from_numpy(dtype)
    field = "tensor_content" if as_content else data_type.field
    is_plain = field in _FIXED_WIDTH or data_type is dtypes.BOOL
    if data_type is dtypes.STRING or field is None or not is_plain or dtype != data_type.numpy:
        return None
    size = math.prod(shape) * dtype.itemsize
    head = _head(data_type.number, shape, _VALUE_FIELD[field], size)
    return head, len(head) + size


def _content(array: Array, field: str) -> protobuf.Chunk:
    """The bytes of the packed list (or of tensor_content), as a view where numpy's memory already has them."""
    if field == "half_val":
        return protobuf.packed_varints(array.view(np.uint16))
    if field in _FIXED_WIDTH or array.dtype.kind == "b":
        return array.reshape(-1).view(np.uint8).data
    return protobuf.packed_varints(array)


@lru_cache(maxsize=4096)
def _head(number: int, shape: tuple[int, ...], field: int, length: int) -> bytes:
    dims = b"".join(protobuf.bytes_field(2, protobuf.varint_field(1, size)) for size in shape)
    head = protobuf.varint_field(1, number) + protobuf.bytes_field(2, dims)
    return head + protobuf.length_prefix(field, length) if length else head


def _string_chunks(strings: Array) -> list[protobuf.Chunk]:
    out: list[protobuf.Chunk] = []
    for value in strings.ravel().tolist():
        out += (protobuf.length_prefix(_VALUE_FIELD["string_val"], len(value)), value)
    return out


def to_proto(array: npt.ArrayLike, *, as_content: bool) -> Any:
    """Make the TensorProto of *array*; see `chunks` for *as_content*."""
    head, values, _ = chunks(as_array(array), as_content=as_content)
    return messages.TensorProto.FromString(b"".join([head, *values]))


def from_bytes(serialized: bytes) -> Array:
    """Read a serialized TensorProto; see `from_proto`."""
    try:
        return from_proto(messages.TensorProto.FromString(serialized))
    except DecodeError as error:
        raise InvalidArgument("not a TensorProto") from error


def from_proto(proto: Any) -> Array:
    """
    Read a TensorProto as TensorFlow does: missing values repeat the last one, no value at all means zeros, surplus values are dropped.

    Returns:
        An array in the declared dtype and shape; strings as an object array of bytes. Values from
        `tensor_content` are not copied and cannot be written to, see `read_content`.

    Raises:
        InvalidArgument: If the type cannot be held, the shape is not fully defined, `tensor_content` has not
            exactly the declared size, or a few values are to fill more than MAX_FILLED_BYTES (or _FROM_SEVERAL_BYTES).

    Source: tensorflow/core/framework/tensor.cc (Tensor::FromProto), tensorflow/core/framework/tensor_shape.cc.
    """
    data_type = dtypes.from_number(proto.dtype)
    if data_type.numpy is None:
        raise InvalidArgument(f"tensors of type {data_type.name} are not supported")
    serialized = proto.tensor_shape.SerializeToString()
    shape, elements = (
        _remembered_shape(serialized) if len(serialized) <= _MAX_REMEMBERED_BYTES else _shape(proto.tensor_shape)
    )
    if proto.tensor_content:
        return _from_content(proto.tensor_content, data_type, shape, elements)
    assert data_type.field is not None  # every type with a numpy dtype has a field
    field = getattr(proto, data_type.field)
    if data_type is dtypes.STRING:
        return _fill(_objects(list(field)), data_type, shape, elements)
    if data_type.field == "half_val":
        # The lower 16 bits of each value are the number's own bits.
        values = np.array(field, np.int32).astype(np.uint16).view(data_type.numpy)
    elif data_type.field in _FIXED_DTYPE:
        values = np.array(field, _FIXED_DTYPE[data_type.field])
        if data_type.numpy.kind == "c":
            values = values[: len(values) // 2 * 2].view(data_type.numpy)
    else:
        values = np.array(field, data_type.numpy if data_type.field != "int_val" else np.int32)
        values = values.astype(data_type.numpy, copy=False)
    return _fill(values, data_type, shape, elements)


@lru_cache(maxsize=4096)
def _remembered_shape(serialized: bytes) -> tuple[tuple[int, ...], int]:
    """Read a TensorShapeProto as it was read before: a model's requests have few shapes."""
    return _shape(messages.TensorShapeProto.FromString(serialized))


def _shape(proto: Any) -> tuple[tuple[int, ...], int]:
    """Return the shape, and its number of elements."""
    if proto.unknown_rank:
        raise InvalidArgument("the shape of a value must be known, got unknown rank")
    shape = tuple([dim.size for dim in proto.dim])
    if shape and min(shape) < 0:
        raise InvalidArgument(f"the sizes of a value must not be negative, got shape {list(shape)}")
    if len(shape) > 64:  # numpy's limit; TensorFlow's own is 254
        raise InvalidArgument(f"a value may have up to 64 dimensions, got {len(shape)}")
    # Zeros aside, as numpy wants it: shape [0, 2**62, 2**62] has no element and still cannot be an array.
    if math.prod([size for size in shape if size]) > 2**48:
        raise InvalidArgument(f"shape {list(shape)} has too many elements")
    return shape, math.prod(shape)


def _from_content(content: bytes, data_type: DataType, shape: tuple[int, ...], elements: int) -> Array:
    if data_type is dtypes.STRING:
        return _strings_from_content(content, elements).reshape(shape)
    assert data_type.numpy is not None  # checked by the caller
    wanted = elements * data_type.numpy.itemsize
    if len(content) != wanted:
        raise InvalidArgument(
            f"tensor_content has {len(content)} bytes, but shape {list(shape)} of {data_type.name} takes {wanted}"
        )
    values = read_content(content, data_type.numpy)
    return values if len(shape) == 1 else values.reshape(shape)


def read_content(content: bytes, dtype: "np.dtype[Any]") -> Array:
    """
    Read a flat array from its bytes, of which there are as many as whole elements take.

    Every byte but 0 is true, as in `bool_val`: a bool of another byte than 0 and 1 would be a number to a model's arithmetic,
    and in a typed answer a varint that others cannot read.

    Args:
        content: Little-endian, row-major.
        dtype: Not strings.

    Returns:
        A view that cannot be written to; bools are copied.
    """
    return np.frombuffer(content, np.uint8) != 0 if dtype.kind == "b" else np.frombuffer(content, dtype)


def _strings_from_content(content: bytes, elements: int) -> Array:
    # Lengths of all strings as varints, then all strings (tensorflow/core/platform/tensor_coding.cc, EncodeStringList).
    fault = InvalidArgument(f"tensor_content does not hold {elements} strings")
    if elements > len(content):
        raise fault
    lengths, at = [], 0
    for _ in range(elements):
        length = shift = 0
        while True:
            if at >= len(content) or shift > 28:
                raise fault
            octet = content[at]
            at += 1
            length |= (octet & 0x7F) << shift
            shift += 7
            if octet < 0x80:
                break
        lengths.append(length)
    if at + sum(lengths) != len(content):
        raise fault
    strings = []
    for length in lengths:
        strings.append(content[at : at + length])
        at += length
    return _objects(strings)


def _objects(values: list[bytes]) -> Array:
    out = np.empty(len(values), object)
    out[:] = values
    return out


def _fill(values: Array, data_type: DataType, shape: tuple[int, ...], elements: int) -> Array:
    given = len(values)
    if given >= elements:
        return values[:elements].reshape(shape)
    assert data_type.numpy is not None  # checked by the caller
    limit = MAX_FILLED_BYTES if given < 2 else MAX_FILLED_FROM_SEVERAL_BYTES
    if elements * data_type.numpy.itemsize > limit:
        raise InvalidArgument(
            f"shape {list(shape)} of {data_type.name} has {elements} elements, but {given} values were sent "
            f"(filling up is limited to {limit} bytes)"
        )
    if given < 2:
        one = values if given else _objects([b""]) if data_type is dtypes.STRING else np.zeros(1, data_type.numpy)
        return np.broadcast_to(one.reshape(()), shape)
    filled = np.empty(elements, data_type.numpy)
    filled[:given] = values
    filled[given:] = values[-1]
    return filled.reshape(shape)
