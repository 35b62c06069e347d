import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from slipway import png

PIXELS = st.sampled_from([1, 3, 4]).flatmap(
    lambda channels: arrays.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(channels)))
)


def decode(data):
    """Read what `png.encode` writes, by the specification: chunks with checksums, lines with a filter byte."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        content = data[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", data, at + 8 + length) == (zlib.crc32(kind + content),)
        chunks[kind] = content
        at += length + 12
    width, height, depth, colour, *rest = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert (depth, *rest) == (8, 0, 0, 0)
    assert list(chunks) == [b"IHDR", b"IDAT", b"IEND"]
    channels = {0: 1, 2: 3, 6: 4}[colour]
    lines = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, 1 + width * channels)
    assert not lines[:, 0].any()
    return lines[:, 1:].reshape(height, width, channels)


@settings(max_examples=50)
@given(PIXELS)
def test_a_decoder_finds_the_same_pixels(pixels):
    np.testing.assert_array_equal(decode(png.encode(pixels)), pixels)


@pytest.mark.parametrize("height", [1, 682, 683, 2000])
def test_pictures_of_several_blocks(height):
    """A stored block holds 65,535 bytes: 682 lines of 32 colour pixels and a filter are one short of it."""
    pixels = np.arange(height * 32 * 3).astype(np.uint8).reshape(height, 32, 3)

    np.testing.assert_array_equal(decode(png.encode(pixels)), pixels)
