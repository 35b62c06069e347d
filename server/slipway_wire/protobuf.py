"""
Protobuf's encoding by hand, for the two places where building messages would cost more than the model.

What is written here is byte for byte what protobuf writes for the same message (fields in order of number,
scalars of a list packed); the tests compare.

Source: https://protobuf.dev/programming-guides/encoding/.
"""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Chunk: TypeAlias = "bytes | memoryview[int]"
"""Bytes to be joined later; a view (of unsigned bytes) saves the copy."""

_LENGTH_DELIMITED = 2


def varint(value: int) -> bytes:
    """Encode a number of 0 to 2**64 - 1; a negative one as its two's complement in 64 bits."""
    value &= 0xFFFF_FFFF_FFFF_FFFF
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data: Chunk, at: int) -> tuple[int, int]:
    """
    Read the number that begins at *at*; return it and where it ends.

    Raises:
        IndexError: It is cut off.
        ValueError: It is longer than ten bytes.
    """
    value = 0
    for shift in range(0, 70, 7):
        octet = data[at]
        at += 1
        value |= (octet & 0x7F) << shift
        if octet < 0x80:
            return value, at
    raise ValueError(at)


def varint_field(number: int, value: int) -> bytes:
    """Encode a scalar field; nothing for 0, as proto3 has it."""
    return varint(number << 3) + varint(value) if value else b""


def length_prefix(number: int, length: int) -> bytes:
    """Encode what stands in front of the *length* bytes of a string, message or packed list."""
    return varint(number << 3 | _LENGTH_DELIMITED) + varint(length)


def bytes_field(number: int, value: bytes) -> bytes:
    """Encode a bytes, string or message field, present even if it is empty."""
    return length_prefix(number, len(value)) + value


def packed_varints(values: npt.NDArray[Any]) -> bytes:
    """
    Encode integers as a packed list's content.

    Args:
        values: Any integer dtype, any shape; negative ones take ten bytes each, as in protobuf.
    """
    flat = values.ravel()
    if flat.size == 0:
        return b""
    low, high = int(flat.min()), int(flat.max())
    if low >= 0 and high <= 0x7F:
        return flat.astype(np.uint8).tobytes()
    wide = flat.astype(np.int64).view(np.uint64) if flat.dtype.kind == "i" else flat.astype(np.uint64)
    groups = 10 if low < 0 else (high.bit_length() + 6) // 7
    shifts = np.arange(groups, dtype=np.uint64) * np.uint64(7)
    columns = wide[:, None] >> shifts  # [values, groups]
    # A group is written if it or a higher one is not zero; the lowest always is.
    written = columns != 0
    written[:, 0] = True
    # Any group but the last written one carries the continuation bit.
    continued = np.zeros_like(written)
    continued[:, :-1] = written[:, 1:]
    octets = (columns & np.uint64(0x7F)).astype(np.uint8) | (continued.astype(np.uint8) << 7)
    packed: bytes = octets[written].tobytes()
    return packed
