import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.detection.fields import Malformed
from slipway.detection.snappy import unpack
from slipway_wire.protobuf import varint


def literal(data):
    if len(data) <= 60:
        return bytes([len(data) - 1 << 2]) + data
    width = (len(data) - 1).bit_length() + 7 >> 3
    return bytes([59 + width << 2]) + (len(data) - 1).to_bytes(width, "little") + data


@given(st.lists(st.binary(min_size=1, max_size=300)))
def test_literals_of_every_length_come_out(parts):
    assert unpack(varint(sum(map(len, parts))) + b"".join(map(literal, parts))) == b"".join(parts)


@pytest.mark.parametrize(
    ("copy", "expected"),
    [
        (bytes([1 | (4 - 4) << 2, 3]), b"abcabca"),  # one byte of offset, length 4..11; overlaps what it makes
        (bytes([2 | (6 - 1) << 2, 2, 0]), b"abcbcbcbc"),
        (bytes([3 | (2 - 1) << 2, 1, 0, 0, 0]), b"abccc"),
    ],
)
def test_copies_of_every_form_come_out(copy, expected):
    assert unpack(varint(len(expected)) + literal(b"abc") + copy) == expected


@pytest.mark.parametrize(
    "packed",
    [
        varint(4) + literal(b"abc"),
        varint(2) + literal(b"abc"),
        varint(3) + literal(b"abc")[:-1],
        varint(9) + literal(b"abc") + bytes([2 | 5 << 2, 9, 0]),
        varint(9) + literal(b"abc") + bytes([2 | 5 << 2, 0, 0]),
        varint(9) + literal(b"abc") + bytes([2 | 5 << 2]),
        varint(1 << 40),
        b"",
    ],
)
def test_what_does_not_add_up_is_malformed(packed):
    with pytest.raises(Malformed):
        unpack(packed)
