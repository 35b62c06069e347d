"""
How much data a variables index promises: enough of TensorFlow's tensor bundle to tell a whole copy from half of one.

Source: tensorflow/core/util/tensor_bundle, and tensorflow/core/lib/io/table_format.txt for the table that the index is.
"""

import re
from collections.abc import Iterator

from slipway_wire.protobuf import read_varint

_FOOTER_BYTES = 48
_MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
# A block is followed by its type (1 byte; 0: not compressed) and a checksum (4 bytes).
_TRAILER_BYTES = 5
_SHARD, _OFFSET, _SIZE = 3, 4, 5

DATA_FILE = re.compile(r"variables\.data-(\d{5})-of-(\d{5})")


class DamagedIndex(Exception):
    """These bytes are not a whole index."""


class _Compressed(Exception):
    """A block that TensorFlow's releases do not write, but some builds do."""


def shard_sizes(index: bytes) -> dict[int, int]:
    """
    Find out how long each data file has to be at least.

    Args:
        index: The content of `variables.index`.

    Returns:
        Number of the data file -> bytes. One that holds no tensor is not named; of a compressed index, none is.

    Raises:
        DamagedIndex: It is cut off, or is something else.
    """
    if len(index) < _FOOTER_BYTES or not index.endswith(_MAGIC):
        raise DamagedIndex
    try:
        footer = index[-_FOOTER_BYTES:]
        _, place = read_varint(footer, 0)
        _, place = read_varint(footer, place)
        sizes: dict[int, int] = {}
        for _, handle in _entries(_block(index, footer[place:])):
            for key, value in _entries(_block(index, handle)):
                if key:  # The empty key is the header.
                    entry = _varint_fields(value)
                    shard = entry.get(_SHARD, 0)
                    sizes[shard] = max(sizes.get(shard, 0), entry.get(_OFFSET, 0) + entry.get(_SIZE, 0))
    except _Compressed:
        return {}
    except (IndexError, ValueError) as error:
        raise DamagedIndex from error
    return sizes


def _block(index: bytes, handle: bytes) -> bytes:
    offset, place = read_varint(handle, 0)
    size, _ = read_varint(handle, place)
    if offset + size + _TRAILER_BYTES > len(index):
        raise ValueError(offset)
    if index[offset + size] != 0:
        raise _Compressed
    return index[offset : offset + size]


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    restarts = int.from_bytes(block[-4:], "little")
    end = len(block) - 4 - 4 * restarts
    place, key = 0, b""
    while place < end:
        shared, place = read_varint(block, place)
        unshared, place = read_varint(block, place)
        length, place = read_varint(block, place)
        if place + unshared + length > end:
            raise ValueError(place)
        key = key[:shared] + block[place : place + unshared]
        place += unshared
        yield key, block[place : place + length]
        place += length


def _varint_fields(message: bytes) -> dict[int, int]:
    """Read the fields of a protobuf message that are numbers: varints of every size."""
    fields: dict[int, int] = {}
    place = 0
    while place < len(message):
        tag, place = read_varint(message, place)
        match tag & 7:
            case 0:
                fields[tag >> 3], place = read_varint(message, place)
            case 1:
                place += 8
            case 2:
                length, place = read_varint(message, place)
                place += length
            case 5:
                place += 4
            case _:
                raise ValueError(tag)
    return fields
