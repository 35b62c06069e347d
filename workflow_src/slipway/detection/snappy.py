"""
Snappy's block format, unpacked: older versions of TensorFlow packed the index of a checkpoint with it.

An index has a few kilobytes: a library for this alone would be more than these lines.
Source: https://github.com/google/snappy/blob/main/format_description.txt.
"""

from slipway.detection.fields import Malformed, View, varint

_MOST_BYTES = 1 << 26


def unpack(packed: "bytes | View") -> bytes:
    """Give what *packed* holds, or raise Malformed."""
    view = memoryview(packed)
    length, at = varint(view, 0)
    if length > _MOST_BYTES:
        raise Malformed(f"a packed block of {length} bytes")
    out = bytearray()
    while at < len(view):
        tag = view[at]
        at += 1
        if tag & 3 == 0:
            size, at = _literal(view, tag >> 2, at)
            out += view[at : at + size]
            at += size
        else:
            width = (1, 2, 4)[(tag & 3) - 1]
            if at + width > len(view):
                raise Malformed("a packed block is cut off")
            offset = int.from_bytes(view[at : at + width], "little")
            at += width
            if width == 1:
                size, offset = (tag >> 2 & 7) + 4, offset | (tag >> 5) << 8
            else:
                size = (tag >> 2) + 1
            if not 0 < offset <= len(out):
                raise Malformed("a packed block refers to what is not there")
            copied = out[len(out) - offset : len(out) - offset + size]
            # What is copied may overlap what it makes: then it repeats.
            out += (copied * (size // len(copied) + 1))[:size]
        if len(out) > length:
            raise Malformed("a packed block is longer than it says")
    if len(out) != length:
        raise Malformed("a packed block is shorter than it says")
    return bytes(out)


def _literal(view: View, code: int, at: int) -> tuple[int, int]:
    """Give the size of a literal and where it starts: up to 60 bytes in the tag, else in one to four bytes behind it."""
    size = code + 1
    if code >= 60:
        width = code - 59
        size = int.from_bytes(view[at : at + width], "little") + 1
        at += width
    if at + size > len(view):
        raise Malformed("a packed block is cut off")
    return size, at
