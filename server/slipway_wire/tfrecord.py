"""
TFRecord files: records framed by their length, each with a checksum.

A record is its length (8 bytes, little-endian), the masked CRC32C of those 8 bytes, the data, the masked CRC32C of
the data. Source: tensorflow/core/lib/io/record_writer.h, masking in tensorflow/core/lib/hash/crc32c.h.
"""

import struct
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import google_crc32c

from slipway_wire.status import DataLoss

_LENGTH = struct.Struct("<Q")
_CHECKSUM = struct.Struct("<I")
_HEADER_BYTES = _LENGTH.size + _CHECKSUM.size

# A checksum stored beside the data it covers would make checksums of checksums degenerate; TensorFlow rotates and adds this.
_MASK_DELTA = 0xA282EAD8


def masked_crc32c(data: bytes) -> int:
    """Compute the checksum as TFRecord stores it."""
    crc: int = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFF_FFFF


def frame(record: bytes) -> bytes:
    """Wrap one record for a file."""
    length = _LENGTH.pack(len(record))
    return b"".join([length, _CHECKSUM.pack(masked_crc32c(length)), record, _CHECKSUM.pack(masked_crc32c(record))])


def frame_all(records: Iterable[bytes]) -> bytes:
    """Write the whole content of an uncompressed TFRecord file."""
    return b"".join(map(frame, records))


def read(stream: BinaryIO, max_bytes: int | None = None) -> Iterator[bytes]:
    """
    Read the records of an uncompressed TFRecord file, one at a time.

    Args:
        stream: Open for reading bytes, at the start of a record.
        max_bytes: Most that one record may take in memory; None: what the file has.

    Raises:
        DataLoss: At the first record that is cut off, damaged or too large: which one, at which byte, and what is wrong.
    """
    index = offset = 0
    while header := stream.read(_HEADER_BYTES):
        where = f"record {index} at byte {offset}"
        if len(header) < _HEADER_BYTES:
            raise DataLoss(f"{where}: truncated: the header takes {_HEADER_BYTES} bytes, {len(header)} are left")
        length_bytes, checksum = header[: _LENGTH.size], header[_LENGTH.size :]
        if _CHECKSUM.unpack(checksum)[0] != masked_crc32c(length_bytes):
            raise DataLoss(f"{where}: corrupted: the checksum of its length does not match")
        (length,) = _LENGTH.unpack(length_bytes)
        if max_bytes is not None and length > max_bytes:
            raise DataLoss(f"{where}: too large: its data take {length} bytes, at most {max_bytes} are read")
        data = stream.read(length)
        checksum = stream.read(_CHECKSUM.size)
        left = len(data) + len(checksum)
        if left < length + _CHECKSUM.size:
            raise DataLoss(
                f"{where}: truncated: data and checksum take {length + _CHECKSUM.size} bytes, {left} are left"
            )
        if _CHECKSUM.unpack(checksum)[0] != masked_crc32c(data):
            raise DataLoss(f"{where}: corrupted: the checksum of its data does not match")
        yield data
        index += 1
        offset += _HEADER_BYTES + length + _CHECKSUM.size
