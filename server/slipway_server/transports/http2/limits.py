"""What one client may take of the server, and the counters that notice when it takes more."""

from collections.abc import Mapping
from dataclasses import dataclass

from slipway_server.transports.http2 import frames


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """
    Limits of a connection; those that gRPC has a channel argument for are set by it.

    Attributes:
        max_concurrent_streams: Calls of one connection at once.
        max_frame_bytes: Longest DATA frame that clients may send; no other frame that means something may be longer than
            `max_header_block_bytes`.
        initial_window_bytes: What a client may send of a message before we have looked at its length.
        connection_window_bytes: What it may send on all streams before it hears of us.
        max_message_bytes: Longest message taken, before and after decompression.
        max_decompressed_bytes: Longest message that a compressed one may become.
        max_sent_message_bytes: Longest answer given.
        max_header_list_bytes: Names and values of a request's headers, plus 32 bytes each (RFC 9113, section 6.5.2);
            a longer list is answered RESOURCE_EXHAUSTED.
        max_header_block_bytes: The same in encoded form; a longer one ends the connection, and so does a list
            four times as long as allowed.
        max_continuations: CONTINUATION frames of one header block.
        reset_burst, resets_per_s: Streams reset before their answer, by the client or through its fault.
        control_burst, controls_per_s: Frames that carry nothing forward: PING, SETTINGS, PRIORITY, empty DATA, ….
        handshake_s: From the connection to the client's SETTINGS.
        header_block_s: From the first frame of a header block to its end.
        stall_s: Without a byte of a request that has begun, or with answers that the client does not take.
        max_idle_s: Without any call, until the connection is ended.
        max_age_s, age_grace_s: Age of a connection at which it is ended, and how long its calls may take then.
        keepalive_time_s, keepalive_timeout_s: Without a byte from the client until a PING is sent, and until its
            answer must have come.
    """

    max_concurrent_streams: int = 1024
    max_frame_bytes: int = 2**20
    initial_window_bytes: int = 2**20
    connection_window_bytes: int = 2**26
    max_message_bytes: int = 2**31 - 1
    max_decompressed_bytes: int = 2**28
    max_sent_message_bytes: int = 2**31 - 1
    max_header_list_bytes: int = 16 * 1024
    max_header_block_bytes: int = 64 * 1024
    max_continuations: int = 32
    reset_burst: int = 1000
    resets_per_s: float = 200.0
    control_burst: int = 2000
    controls_per_s: float = 500.0
    handshake_s: float = 20.0
    header_block_s: float = 10.0
    stall_s: float = 60.0
    max_idle_s: float = float("inf")
    max_age_s: float = float("inf")
    age_grace_s: float = float("inf")
    keepalive_time_s: float = 7200.0
    keepalive_timeout_s: float = 20.0

    @property
    def tick_s(self) -> float:
        """How often times are looked at: often enough for the shortest of them, at most twenty times a second."""
        shortest = min(
            self.handshake_s,
            self.header_block_s,
            self.stall_s,
            self.max_idle_s,
            self.max_age_s,
            self.age_grace_s,
            self.keepalive_time_s,
            self.keepalive_timeout_s,
        )
        return min(max(shortest / 8, 0.05), 1.0)


# Channel argument -> field, and what its unit is multiplied by. Source: grpc/impl/channel_arg_names.h.
_ARGUMENTS = {
    "grpc.max_concurrent_streams": ("max_concurrent_streams", 1),
    "grpc.http2.max_frame_size": ("max_frame_bytes", 1),
    "grpc.http2.lookahead_bytes": ("initial_window_bytes", 1),
    "grpc.max_receive_message_length": ("max_message_bytes", 1),
    "grpc.max_send_message_length": ("max_sent_message_bytes", 1),
    "grpc.max_metadata_size": ("max_header_list_bytes", 1),
    "grpc.max_connection_idle_ms": ("max_idle_s", 1e-3),
    "grpc.max_connection_age_ms": ("max_age_s", 1e-3),
    "grpc.max_connection_age_grace_ms": ("age_grace_s", 1e-3),
    "grpc.keepalive_time_ms": ("keepalive_time_s", 1e-3),
    "grpc.keepalive_timeout_ms": ("keepalive_timeout_s", 1e-3),
}
_RANGES = {
    "max_concurrent_streams": (1, 2**31 - 1),
    "max_frame_bytes": (frames.DEFAULT_MAX_FRAME, 2**24 - 1),
    "initial_window_bytes": (1024, frames.MAX_WINDOW),
    "max_header_list_bytes": (1024, 2**20),
}
# gRPC's INT_MAX for "never".
_NEVER_MS = 2**31 - 1


def limits_of(arguments: Mapping[str, int | str]) -> tuple[Limits, list[str]]:
    """
    Read gRPC's channel arguments.

    Returns:
        The limits, and the arguments that mean nothing to this transport.
    """
    values: dict[str, float] = {}
    unknown = []
    for name, value in arguments.items():
        if name not in _ARGUMENTS or not isinstance(value, int):
            unknown.append(name)
            continue
        field, unit = _ARGUMENTS[name]
        if unit != 1:
            values[field] = float("inf") if value >= _NEVER_MS or value < 0 else value * unit
        elif value < 0:
            # -1: no limit of the user's; what a length of 32 bits can say remains.
            values[field] = 2**31 - 1
        else:
            lowest, highest = _RANGES.get(field, (0, 2**31 - 1))
            values[field] = min(max(value, lowest), highest)
    return Limits(**values), unknown  # type: ignore[arg-type]  # the fields of _ARGUMENTS are numbers


class Allowance:
    """A number of liberties that comes back with time, and with work that was of use: a token bucket."""

    __slots__ = ("_at", "_burst", "_left", "_per_s", "_useful")

    def __init__(self, burst: int, per_s: float, now: float) -> None:
        self._burst = burst
        self._per_s = per_s
        self._left = float(burst)
        self._at = now
        self._useful = 0

    def take(self, now: float, useful: int) -> bool:
        """
        Take one; False if none is left.

        Args:
            now: Monotonic time (s).
            useful: Pieces of useful work so far; each gives one liberty back.
        """
        if self._left < 1:
            back = (now - self._at) * self._per_s + useful - self._useful
            self._left = min(self._left + back, self._burst)
            self._at, self._useful = now, useful
            if self._left < 1:
                return False
        self._left -= 1
        return True
