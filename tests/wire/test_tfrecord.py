import contextlib
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_wire import tfrecord
from slipway_wire.status import DataLoss

RECORDS = st.lists(st.binary(max_size=40), max_size=5)


def read_all(data):
    return list(tfrecord.read(io.BytesIO(data)))


@given(RECORDS)
def test_records_come_back_as_they_were(records):
    assert read_all(tfrecord.frame_all(records)) == records


@given(RECORDS.filter(bool), st.data())
def test_a_cut_file_gives_its_whole_records_and_then_data_loss(records, data):
    whole = tfrecord.frame_all(records)
    left = whole[: data.draw(st.integers(0, len(whole) - 1))]
    complete = [record for end, record in enumerate(records, 1) if len(tfrecord.frame_all(records[:end])) <= len(left)]
    on_a_boundary = len(tfrecord.frame_all(complete)) == len(left)

    found = []
    expected = contextlib.nullcontext()
    if not on_a_boundary:
        expected = pytest.raises(DataLoss, match=rf"^record {len(complete)} at byte \d+: truncated: ")
    with expected:
        found.extend(tfrecord.read(io.BytesIO(left)))

    assert found == complete


@given(RECORDS.filter(bool), st.data())
def test_a_flipped_bit_is_never_read(records, data):
    damaged = bytearray(tfrecord.frame_all(records))
    position = data.draw(st.integers(0, len(damaged) - 1))
    damaged[position] ^= 1 << data.draw(st.integers(0, 7))

    with pytest.raises(DataLoss, match=r"^record \d+ at byte \d+: (corrupted|truncated): "):
        read_all(bytes(damaged))


def test_the_damaged_record_is_named_with_its_place():
    damaged = bytearray(tfrecord.frame_all([b"first", b"second"]))
    damaged[-6] ^= 1

    with pytest.raises(DataLoss, match=r"^record 1 at byte 21: corrupted: the checksum of its data does not match$"):
        read_all(bytes(damaged))


def test_a_length_beyond_all_memory_is_not_asked_for():
    """The checksum of the length is looked at before the length is believed; if both lie, the file ends first."""
    header = (2**62).to_bytes(8, "little")
    lying = header + tfrecord.masked_crc32c(header).to_bytes(4, "little") + b"some"

    with pytest.raises(DataLoss, match="truncated"):
        read_all(lying)


def test_a_record_larger_than_the_caller_has_room_for_is_not_read():
    content = tfrecord.frame_all([b"four", b"sixsix"])

    assert list(tfrecord.read(io.BytesIO(content), max_bytes=6)) == [b"four", b"sixsix"]
    with pytest.raises(DataLoss, match=r"^record 1 at byte 20: too large: its data take 6 bytes, at most 5 are read$"):
        list(tfrecord.read(io.BytesIO(content), max_bytes=5))


def test_the_checksum_is_the_published_one():
    """RFC 3720, B.4: 32 bytes of zeros have the CRC32C 8a9136aa; the mask is TensorFlow's."""
    rotated = (0x8A9136AA >> 15 | 0x8A9136AA << 17) & 0xFFFF_FFFF

    assert tfrecord.masked_crc32c(bytes(32)) == (rotated + 0xA282EAD8) & 0xFFFF_FFFF
