"""
Heads of HTTP/1.1 requests that were read before, byte for byte: clients send the same one again and again.

The parser tells each head in some ten calls, which cost more than all else that is done for a small request before its body is
looked at. What the same bytes mean does not change.
"""

from dataclasses import dataclass
from typing import Any

_MAX_HEAD_BYTES = 1024
_MAX_HEADS = 256
_END = b"\r\n\r\n"
# Who sends one of these gets more than an answer, has a body of another form, or sends another head each time.
_SPECIAL = (b"transfer-encoding", b"expect", b"upgrade", b"x-request-id", b"traceparent")


@dataclass(slots=True, eq=False)
class KnownHead:
    """
    The head of a request behind which its connection goes on.

    Attributes:
        size: In bytes.
        body_bytes: Size of the body that follows it.
        method: Its method.
        target: In origin form.
        headers: Lower-case name -> value; not to be changed.
        meaning: For whoever reads it to remember what it has made of it.
    """

    size: int
    body_bytes: int
    method: str
    target: str
    headers: dict[bytes, bytes]
    meaning: Any = None


class KnownHeads:
    """Those of all connections of a server."""

    def __init__(self) -> None:
        self._heads: dict[bytes, KnownHead] = {}

    def find(self, data: bytes) -> KnownHead | None:
        """Return the head of *data* if it is known, and *data* is one whole request with that head."""
        size = data.find(_END, 0, _MAX_HEAD_BYTES) + len(_END)
        head = self._heads.get(data[:size])
        return head if head is not None and len(data) == size + head.body_bytes else None

    def remember(self, data: bytes, method: str, target: str, headers: dict[bytes, bytes], body_bytes: int) -> None:
        """Keep the head of *data*, one whole request behind which the connection goes on, unless it is a special one."""
        size = data.find(_END, 0, _MAX_HEAD_BYTES) + len(_END)
        if len(data) != size + body_bytes or any(name in headers for name in _SPECIAL):
            return
        if len(self._heads) >= _MAX_HEADS:
            # The first that came is not the last that is asked for: what is, is soon back.
            self._heads.pop(next(iter(self._heads)))
        self._heads[data[:size]] = KnownHead(size, body_bytes, method, target, headers)
