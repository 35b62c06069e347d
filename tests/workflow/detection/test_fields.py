import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.detection.fields import BYTES, FIXED32, FIXED64, VARINT, Malformed, fields, first_text
from slipway_wire.protobuf import bytes_field, varint, varint_field

numbers = st.integers(1, (1 << 29) - 1)
FIELDS = st.lists(
    st.one_of(
        st.tuples(numbers, st.just(VARINT), st.integers(1, 2**64 - 1)),
        st.tuples(numbers, st.just(BYTES), st.binary(max_size=40)),
        st.tuples(numbers, st.just(FIXED32), st.binary(min_size=4, max_size=4)),
        st.tuples(numbers, st.just(FIXED64), st.binary(min_size=8, max_size=8)),
    ),
    max_size=8,
)


def encoded(number, wire_type, value):
    if wire_type == VARINT:
        return varint_field(number, value)
    return bytes_field(number, value) if wire_type == BYTES else varint(number << 3 | wire_type) + value


@given(FIELDS)
def test_what_was_written_is_read(written):
    message = b"".join(encoded(*field) for field in written)

    read = [(n, t, bytes(v) if isinstance(v, memoryview) else v) for n, t, v in fields(message)]

    assert read == written


@given(FIELDS.filter(bool), st.data())
def test_a_message_that_is_cut_off_within_a_field_is_malformed(written, data):
    *before, last = [encoded(*field) for field in written]
    cut = data.draw(st.integers(1, len(last) - 1))

    with pytest.raises(Malformed):
        list(fields(b"".join(before) + last[:cut]))


@given(st.binary(max_size=200))
def test_any_bytes_are_fields_or_malformed(junk):
    try:
        found = list(fields(junk))
    except Malformed:
        return
    assert all(1 <= number < 1 << 29 for number, _, _ in found)


@pytest.mark.parametrize("junk", [b"\x00", b"\x07\x00", b"\x0b", b"\x08" + b"\xff" * 11, b"\x0a\xff\xff\xff\xff\x0f"])
def test_what_no_message_has_is_malformed(junk):
    with pytest.raises(Malformed):
        list(fields(junk))


def test_text_is_found_by_its_number():
    message = bytes_field(1, b"a") + bytes_field(2, "é".encode()) + bytes_field(3, b"\xff")

    assert [first_text(message, number) for number in (1, 2, 3, 4)] == ["a", "é", None, None]
