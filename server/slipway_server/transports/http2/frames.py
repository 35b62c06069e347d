"""
The frames of HTTP/2 as bytes and numbers: no state, no socket.

Source: RFC 9113, sections 4, 6, 7 and 11.
"""

import struct
from enum import IntEnum

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)

END_STREAM = ACK = 0x1
END_HEADERS, PADDED, PRIORITISED = 0x4, 0x8, 0x20

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = (
    range(1, 7)
)

HEAD_BYTES = 9
DEFAULT_WINDOW = 65_535
DEFAULT_MAX_FRAME = 16_384
DEFAULT_TABLE = 4_096
MAX_WINDOW = MAX_STREAM_ID = 2**31 - 1
# Six are defined, and each once is enough; nghttp2 takes as many.
MAX_SETTINGS = 32
SETTING_BYTES = 6

# Length (its upper byte, its lower two), type, flags, stream id with the reserved bit.
read_head = struct.Struct(">BHBBL").unpack_from
_write_head = struct.Struct(">LBL").pack
_SETTING = struct.Struct(">HL")


class ErrorCode(IntEnum):
    """Why a stream or a connection ends. Source: RFC 9113, section 7."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


class ConnectionFault(Exception):
    """The peer broke a rule that the whole connection rests on, or took more than its share."""

    def __init__(self, code: ErrorCode, reason: str) -> None:
        super().__init__(f"{code.name}: {reason}")
        self.code = code
        self.reason = reason


class StreamFault(Exception):
    """The peer broke a rule that concerns one stream only."""

    def __init__(self, code: ErrorCode, reason: str) -> None:
        super().__init__(f"{code.name}: {reason}")
        self.code = code
        self.reason = reason


def frame_head(length: int, kind: int, flags: int, stream: int) -> bytes:
    """Write the nine bytes in front of a payload of *length* bytes."""
    return _write_head(length << 8 | kind, flags, stream)


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Write one frame."""
    return _write_head(len(payload) << 8 | kind, flags, stream) + payload


def settings_frame(settings: dict[int, int]) -> bytes:
    """Write a SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(*setting) for setting in settings.items()))


def read_settings(payload: bytes) -> list[tuple[int, int]]:
    """
    Read the payload of a SETTINGS frame, in its order.

    Raises:
        ConnectionFault: A value is outside its range; settings that nobody knows may have any. Or they are too many.
    """
    if len(payload) % SETTING_BYTES:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, f"SETTINGS of {len(payload)} bytes")
    if len(payload) > MAX_SETTINGS * SETTING_BYTES:
        raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, f"SETTINGS with {len(payload) // SETTING_BYTES} entries")
    settings = [(name, value) for name, value in _SETTING.iter_unpack(payload)]
    for name, value in settings:
        if name == ENABLE_PUSH and value > 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"SETTINGS_ENABLE_PUSH of {value}")
        if name == INITIAL_WINDOW_SIZE and value > MAX_WINDOW:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, f"SETTINGS_INITIAL_WINDOW_SIZE of {value}")
        if name == MAX_FRAME_SIZE and not DEFAULT_MAX_FRAME <= value < 2**24:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"SETTINGS_MAX_FRAME_SIZE of {value}")
    return settings


def window_update(stream: int, increment: int) -> bytes:
    """Write a WINDOW_UPDATE frame."""
    return frame(WINDOW_UPDATE, 0, stream, increment.to_bytes(4, "big"))


def rst_stream(stream: int, code: int) -> bytes:
    """Write a RST_STREAM frame."""
    return frame(RST_STREAM, 0, stream, code.to_bytes(4, "big"))


def goaway(last_stream: int, code: int, debug: str = "") -> bytes:
    """Write a GOAWAY frame."""
    return frame(GOAWAY, 0, 0, last_stream.to_bytes(4, "big") + code.to_bytes(4, "big") + debug.encode())
