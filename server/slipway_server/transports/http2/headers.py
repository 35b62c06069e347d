"""
Header blocks: read by hpack and checked, or known already; ours are made once, without the dynamic table.

Source: RFC 7541 (HPACK); RFC 9113, sections 8.2 and 8.3.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import hpack
from hpack.table import HeaderTable

from slipway_server.transports.http2 import frames
from slipway_server.transports.http2.frames import ConnectionFault, ErrorCode, StreamFault
from slipway_server.transports.http2.limits import Limits

M = TypeVar("M")
Field = tuple[bytes, bytes]

# What is kept of blocks that were read: as many, and none longer.
_MAX_KNOWN = 64
_MAX_KNOWN_BYTES = 2048

_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_NOT_IN_VALUES = re.compile(rb"[\0\r\n]")
_PSEUDO = frozenset({b":method", b":scheme", b":path", b":authority"})
_OF_CONNECTIONS = frozenset({b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"})
# A list this many times as long as allowed is not even read to its end.
_HARD_LIMIT = 4


@dataclass(frozen=True, slots=True)
class Head:
    """
    The headers of a request.

    Attributes:
        method: `:method`.
        path: `:path`, with the query.
        fields: The others, in order, names in lower case.
        content_length: What the client says of the length of its body, or None.
        is_too_large: The list is longer than allowed; *fields* is empty then.
    """

    method: bytes
    path: bytes
    fields: Sequence[Field] = ()
    content_length: int | None = None
    is_too_large: bool = False


@dataclass(frozen=True, slots=True)
class Known(Generic[M]):
    """A head that was read, and what it means to the layer above."""

    meaning: M
    content_length: int | None


class _CountingTable(HeaderTable):
    """Counts its changes: as long as there are none, equal blocks mean the same."""

    def __init__(self) -> None:
        super().__init__()
        self.changes = 0

    def add(self, name: bytes, value: bytes) -> None:
        self.changes += 1
        super().add(name, value)

    @property
    def maxsize(self) -> int:
        return super().maxsize

    @maxsize.setter
    def maxsize(self, newmax: int) -> None:
        self.changes += 1
        HeaderTable.maxsize.fset(self, newmax)  # type: ignore[attr-defined]  # how a property is called by hand


class HeaderReader(Generic[M]):
    """Reads the header blocks of one connection, in their order."""

    def __init__(self, limits: Limits, interpret: Callable[[Head], M]) -> None:
        """
        Begin with an empty table.

        Args:
            limits: How long a list may be.
            interpret: From a head to what it means, purely: equal blocks are not read twice.
        """
        self._interpret = interpret
        self._max_list_bytes = limits.max_header_list_bytes
        self._decoder = hpack.Decoder(max_header_list_size=_HARD_LIMIT * limits.max_header_list_bytes)
        self._table = self._decoder.header_table = _CountingTable()
        self.known: dict[bytes, Known[M]] = {}

    def read(self, block: bytes) -> Known[M]:
        """
        Read the block of a request that is not in `known`.

        Raises:
            ConnectionFault: It cannot be decoded; the table is of no use any more.
            StreamFault: The request is malformed.
        """
        changes = self._table.changes
        fields = self._decode(block)
        is_pure = self._table.changes == changes
        if not is_pure:
            self.known.clear()
        head = _head(fields, self._max_list_bytes)
        known = Known(self._interpret(head), head.content_length)
        if is_pure and len(block) <= _MAX_KNOWN_BYTES:
            if len(self.known) >= _MAX_KNOWN:
                self.known.clear()
            self.known[block] = known
        return known

    def read_trailers(self, block: bytes) -> None:
        """
        Read the block behind a body; nothing in it is of use, but it may change the table.

        Raises:
            ConnectionFault: It cannot be decoded.
            StreamFault: It is malformed.
        """
        changes = self._table.changes
        fields = self._decode(block)
        if self._table.changes != changes:
            self.known.clear()
        for name, value in fields:
            _check(name, value)

    def _decode(self, block: bytes) -> list[Field]:
        if len(block) > 2 and block[0] & block[1] & block[2] & 0xE0 == 0x20:
            # One for the smallest and one for the last size that was allowed are enough (RFC 7541, section 4.2).
            raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, "too many changes of the table's size")
        try:
            return [(bytes(name), bytes(value)) for name, value in self._decoder.decode(block, raw=True)]
        except hpack.OversizedHeaderListError as error:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "header list far too large") from error
        except (hpack.HPACKError, IndexError, ValueError) as error:
            raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, str(error)[:100]) from error


def _head(fields: Sequence[Field], max_list_bytes: int) -> Head:
    pseudo: dict[bytes, bytes] = {}
    others: list[Field] = []
    content_length = None
    size = 0
    for name, value in fields:
        size += len(name) + len(value) + 32
        if name[:1] == b":":
            if others or name in pseudo or name not in _PSEUDO or _NOT_IN_VALUES.search(value):
                raise StreamFault(ErrorCode.PROTOCOL_ERROR, f"pseudo-header {name.decode('latin-1')} out of place")
            pseudo[name] = value
            continue
        _check(name, value)
        if name == b"content-length":
            if not value.isdigit() or len(value) > 19 or content_length not in {None, int(value)}:
                raise StreamFault(ErrorCode.PROTOCOL_ERROR, "content-length is no number")
            content_length = int(value)
        others.append((name, value))
    method, path = pseudo.get(b":method"), pseudo.get(b":path")
    if method == b"CONNECT" and path is None and b":scheme" not in pseudo and b":authority" in pseudo:
        # Well formed, and nothing that we do.
        path = b""
    elif not method or not path or not pseudo.get(b":scheme"):
        raise StreamFault(ErrorCode.PROTOCOL_ERROR, "a pseudo-header is missing")
    if size > max_list_bytes:
        return Head(method, path, (), content_length, is_too_large=True)
    return Head(method, path, others, content_length)


def _check(name: bytes, value: bytes) -> None:
    if (
        not _NAME.fullmatch(name)
        or _NOT_IN_VALUES.search(value)
        or name in _OF_CONNECTIONS
        or (name == b"te" and value.lower() != b"trailers")
    ):
        raise StreamFault(ErrorCode.PROTOCOL_ERROR, f"header {name[:50].decode('latin-1')} is malformed")


class Block:
    """A header block of ours as a frame whose stream id is still open; the same on every connection."""

    __slots__ = ("begin", "end", "ends_stream")

    def __init__(self, fields: Sequence[Field], *, ends_stream: bool) -> None:
        """
        Encode *fields*; each value in clear, none of them in the dynamic table.

        Args:
            fields: Lower-case names and values.
            ends_stream: Nothing follows on the stream.
        """
        self.end = b"".join(map(_literal, fields))
        self.ends_stream = ends_stream
        flags = frames.END_HEADERS | (frames.END_STREAM if ends_stream else 0)
        self.begin = frames.frame_head(len(self.end), frames.HEADERS, flags, 0)[:5]

    def split(self, stream: bytes, first: bytes, max_frame: int) -> bytes:
        """
        Write the block as HEADERS and as many CONTINUATION as it takes.

        Args:
            stream: The id, 4 bytes.
            first: Stands before the block: an instruction to the peer's decoder.
            max_frame: Longest payload that the peer takes.
        """
        block = first + self.end
        parts = [block[at : at + max_frame] for at in range(0, len(block), max_frame)] or [b""]
        kind, flags = frames.HEADERS, frames.END_STREAM if self.ends_stream else 0
        out = []
        for number, part in enumerate(parts, 1):
            last = frames.END_HEADERS if number == len(parts) else 0
            out += [frames.frame_head(len(part), kind, flags | last, int.from_bytes(stream, "big")), part]
            kind, flags = frames.CONTINUATION, 0
        return b"".join(out)


_STATIC = {field: index for index, field in enumerate(HeaderTable.STATIC_TABLE, 1)}
_STATIC_NAMES = {name: index for index, (name, _) in reversed(list(enumerate(HeaderTable.STATIC_TABLE, 1)))}


def _literal(field: Field) -> bytes:
    """Write one field: by its index in the static table, or as a literal that is not indexed."""
    if field in _STATIC:
        return bytes([0x80 | _STATIC[field]])
    name, value = field
    if name in _STATIC_NAMES:
        begin = bytes(hpack.hpack.encode_integer(_STATIC_NAMES[name], 4))
    else:
        begin = b"\0" + _string(name)
    return begin + _string(value)


def _string(text: bytes) -> bytes:
    return bytes(hpack.hpack.encode_integer(len(text), 7)) + text
