"""
Protobuf's encoding read field by field, without a schema: enough to tell messages apart by what they hold.

Nothing is copied, so that a file of gigabytes, mapped into memory, is told by the pages that are looked at.
"""

from collections.abc import Iterator
from typing import TypeAlias

from slipway_wire import protobuf

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_FIXED = {FIXED64: 8, FIXED32: 4}

View: TypeAlias = "memoryview[int]"
Field: TypeAlias = tuple[int, int, "int | View"]
"""Number, wire type, and the value: an int, or what a string, message or fixed number is made of."""


class Malformed(ValueError):
    """The bytes are no protobuf message."""


def fields(message: "bytes | View") -> Iterator[Field]:
    """
    Walk the fields of *message* in the order in which they stand.

    Raises:
        Malformed: Where the message ends within a field, or has what no message has.

    Source: https://protobuf.dev/programming-guides/encoding/.
    """
    view, at = memoryview(message), 0
    while at < len(view):
        tag, at = varint(view, at)
        number, wire_type = tag >> 3, tag & 7
        if not 1 <= number < 1 << 29:
            raise Malformed(f"no field has the number {number}")
        if wire_type == VARINT:
            value, at = varint(view, at)
            yield number, wire_type, value
            continue
        if wire_type == BYTES:
            length, at = varint(view, at)
        elif wire_type in _FIXED:
            length = _FIXED[wire_type]
        else:
            raise Malformed(f"wire type {wire_type}")
        if at + length > len(view):
            raise Malformed(f"field {number} ends {at + length - len(view)} bytes behind the end")
        yield number, wire_type, view[at : at + length]
        at += length


def varint(view: "bytes | View", at: int) -> tuple[int, int]:
    """Read a number of up to 64 bits at *at*; give it and the place behind it, or raise Malformed."""
    try:
        value, at = protobuf.read_varint(view, at)
    except IndexError:
        raise Malformed("ends within a number") from None
    except ValueError:
        raise Malformed("a number of more than 64 bits") from None
    return value & 0xFFFF_FFFF_FFFF_FFFF, at


def first_text(message: "bytes | View", wanted: int) -> str | None:
    """Give field *wanted* as text, or None where it is absent or not text."""
    for number, wire_type, value in fields(message):
        if number == wanted and wire_type == BYTES:
            assert isinstance(value, memoryview)
            try:
                return bytes(value).decode()
            except UnicodeDecodeError:
                return None
    return None
