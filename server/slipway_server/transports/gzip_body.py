"""A gzip body, decompressed piece by piece, so that whoever asks for the pieces can stop in time."""

import zlib
from io import BytesIO
from typing import Any

from slipway_wire.status import InvalidArgument

# bgzip, the tool that writes the smallest members, makes 1,600 of 100 MiB. An empty one is 20 bytes that give nothing.
MAX_MEMBERS = 4096
# zlib copies what is left of its input behind each member, and whenever it has given as much as it was asked for.
INPUT_BYTES = 64 * 1024
# Of one piece: what takes some milliseconds at most, whatever it is.
_INPUTS = 16

_GZIP = 16 + zlib.MAX_WBITS


class GzipBody:
    """
    A body of one gzip member or several, one after the other (RFC 1952, 2.2).

    Attributes:
        size: Bytes that have been decompressed.
        is_done: Whether those are all.
    """

    def __init__(self, body: bytes, most: int) -> None:
        """Begin with *body*, which may become *most* bytes; an empty one is done."""
        self.size = 0
        self.is_done = not body
        self._body = memoryview(body)
        self._most = most
        self._at = 0
        # An object of zlib's, whose type has no name.
        self._member: Any = None
        self._members = 0
        # Its last value shares the memory; joining parts would need it twice.
        self._plain = BytesIO()

    def go_on(self, most: int) -> int:
        """
        Decompress a piece of *most* bytes, or less.

        Returns:
            Its size; it may be 0 though there is more.

        Raises:
            InvalidArgument: The body is damaged, cut off, too large or in too many members.
        """
        before = self.size
        for _ in range(_INPUTS):
            room = most - (self.size - before)
            if self.is_done or room <= 0:
                break
            self._read_on(room)
        return self.size - before

    def plain(self) -> bytes:
        """Return all that has been decompressed."""
        return self._plain.getvalue()

    def _read_on(self, room: int) -> None:
        member = self._member or self._next_member()
        data = member.unconsumed_tail
        if not data:
            data = self._body[self._at : self._at + INPUT_BYTES]
            self._at += len(data)
        try:
            plain = member.decompress(data, room)
        except zlib.error as error:
            raise InvalidArgument(f"The body is not gzip, though Content-Encoding says so: {error}") from error
        self._plain.write(plain)
        self.size += len(plain)
        if self.size > self._most:
            raise InvalidArgument(f"The decompressed body exceeds {self._most} bytes")
        if member.eof:
            self._at -= len(member.unused_data)
            self._member = None
            self.is_done = self._at == len(self._body)
        elif not data and not plain:
            raise InvalidArgument("The gzip body is cut off")

    def _next_member(self) -> Any:
        self._members += 1
        if self._members > MAX_MEMBERS:
            raise InvalidArgument(f"The gzip body has more than {MAX_MEMBERS} members; compress it as one")
        self._member = zlib.decompressobj(_GZIP)
        return self._member
