"""PNG pictures, written without a library: equal pixels, equal bytes, on every machine."""

import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPES = {1: 0, 3: 2, 4: 6}
_MOST_STORED = 0xFFFF


def encode(pixels: npt.NDArray[Any]) -> bytes:
    """
    Write a picture.

    Args:
        pixels: uint8 [height, width, channels]; 1 channel is grey, 3 are RGB, 4 are RGBA.

    Returns:
        The file, not compressed: what zlib makes of the same bytes differs from version to version.

    Source: the PNG specification (RFC 2083), with stored blocks of DEFLATE (RFC 1951, 3.2.4).
    """
    height, width, channels = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 8, _COLOUR_TYPES[channels], 0, 0, 0)
    # Each line begins with its filter: none.
    lines = np.zeros((height, 1 + width * channels), np.uint8)
    lines[:, 1:] = pixels.reshape(height, width * channels)
    parts = [(b"IHDR", header), (b"IDAT", _stored(lines.tobytes())), (b"IEND", b"")]
    return _SIGNATURE + b"".join(_chunk(kind, content) for kind, content in parts)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _stored(content: bytes) -> bytes:
    blocks = []
    for start in range(0, len(content), _MOST_STORED):
        block = content[start : start + _MOST_STORED]
        is_last = start + len(block) == len(content)
        blocks.append(struct.pack("<BHH", is_last, len(block), len(block) ^ 0xFFFF) + block)
    return b"\x78\x01" + b"".join(blocks) + struct.pack(">I", zlib.adler32(content))
