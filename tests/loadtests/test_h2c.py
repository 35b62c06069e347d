import socket
import struct

import grpc
import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.loadtests.conftest import PREDICT, grpc_server, scripted_peer

from slipway_loadtests import h2c
from slipway_loadtests.connections import RequestFailed
from slipway_loadtests.h2c import GrpcConnection, frame, message

DATA, HEADERS, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = 0, 1, 3, 4, 5, 6, 7, 8, 9
GOOD_HEADERS = b"\x88" + b"\x00\x0ccontent-type\x10application/grpc"  # :status 200
GOOD_TRAILERS = b"\x00\x0bgrpc-status\x010"


class Peer:
    """The server's side of HTTP/2, spelled out frame by frame."""

    def __init__(self, connection: socket.socket, settings: bytes = b"") -> None:
        self.connection = connection
        assert self.exactly(24) == b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        self.send(SETTINGS, 0, 0, settings)
        self.send(SETTINGS, 1, 0)

    def exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self.connection.recv(size - len(data))
            if not part:
                raise ConnectionError("the client hung up")
            data += part
        return data

    def send(self, kind: int, flags: int, stream: int, payload: bytes = b"") -> None:
        self.connection.sendall(frame(kind, flags, stream, payload))

    def read(self, wanted: int) -> tuple[int, int, bytes]:
        """Give flags, stream and payload of the next frame of that kind."""
        while True:
            head = self.exactly(9)
            payload = self.exactly(int.from_bytes(head[:3], "big"))
            if head[3] == wanted:
                return head[4], int.from_bytes(head[5:], "big"), payload

    def read_request(self) -> tuple[int, bytes, bytes]:
        """Give stream, header block and body of a request that fits in the windows."""
        _, stream, block = self.read(HEADERS)
        body, ended = b"", False
        while not ended:
            flags, _, part = self.read(DATA)
            body += part
            ended = bool(flags & 1)
        return stream, block, body

    def answer(self, stream: int, payload: bytes = b"pong") -> None:
        self.send(HEADERS, 4, stream, GOOD_HEADERS)
        self.send(DATA, 0, stream, message(payload))
        self.send(HEADERS, 5, stream, GOOD_TRAILERS)


def call_peer(script, request=b"ping", calls=1):
    """Make calls to a peer that follows *script*; give the last answer and the connection's fate."""
    with scripted_peer(script) as port:
        connection = GrpcConnection("127.0.0.1", port, PREDICT)
        try:
            for _ in range(calls):
                answer = connection.call(message(request))
            return answer, connection.usable
        finally:
            connection.close()


def test_messages_of_every_size_go_there_and_back():
    """Past frame sizes, past the initial windows of both sides, against gRPC's own server."""
    with grpc_server(lambda request, _: request) as port:
        connection = GrpcConnection("127.0.0.1", port, PREDICT)
        for size in (0, 1, 16378, 16379, 16380, 65530, 65531, 200_000, 5_000_000, 3):
            payload = (b"0123456789abcdef" * (size // 16 + 1))[:size]

            assert connection.call(message(payload)) == payload
        connection.close()


def test_thousands_of_calls_share_one_connection():
    peers = set()

    def answer(request, context):
        peers.add(context.peer())
        return request[::-1]

    with grpc_server(answer) as port:
        connection = GrpcConnection("127.0.0.1", port, PREDICT)
        for number in range(2000):
            payload = str(number).encode()
            assert connection.call(message(payload)) == payload[::-1]
        connection.close()

    assert len(peers) == 1


def test_a_status_other_than_ok_fails_with_its_message_and_keeps_the_connection():
    def answer(request, context):
        if request == b"bad":
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "queue is full: 100 %")
        return b"good"

    with grpc_server(answer) as port:
        connection = GrpcConnection("127.0.0.1", port, PREDICT)
        for _ in range(3):
            with pytest.raises(RequestFailed, match="grpc-status 8: queue is full: 100 %") as failure:
                connection.call(message(b"bad"))
            assert failure.value.kind == "grpc-status 8"
            assert failure.value.reusable
            assert connection.call(message(b"fine")) == b"good"
        connection.close()


def test_a_method_that_is_not_there_is_unimplemented():
    with grpc_server(lambda request, _: request) as port:
        connection = GrpcConnection("127.0.0.1", port, "/tensorflow.serving.PredictionService/Nothing")
        with pytest.raises(RequestFailed, match="grpc-status 12"):
            connection.call(message(b""))
        connection.close()


def test_a_request_larger_than_the_server_takes_ends_with_its_status():
    """The server answers in the middle of the upload and stops reading: nobody may wait for a window then."""
    with grpc_server(lambda request, _: request, max_receive_message_length=100_000) as port:
        connection = GrpcConnection("127.0.0.1", port, PREDICT)
        with pytest.raises(RequestFailed, match=r"grpc-status 8|RST_STREAM"):
            connection.call(message(bytes(3_000_000)))
        connection.close()


def test_a_server_that_stops_is_an_error_or_a_polite_goodbye():
    with grpc_server(lambda request, _: request) as port:
        connection = GrpcConnection("127.0.0.1", port, PREDICT)
        assert connection.call(message(b"a")) == b"a"
    with pytest.raises(RequestFailed):
        connection.call(message(b"b"))
    connection.close()


def test_goaway_for_later_calls_lets_this_one_finish():
    def script(connection):
        peer = Peer(connection)
        stream, _, _ = peer.read_request()
        peer.send(GOAWAY, 0, 0, struct.pack(">II", stream, 0))
        peer.answer(stream)

    assert call_peer(script) == (b"pong", False)


def test_goaway_for_this_call_is_an_error():
    def script(connection):
        peer = Peer(connection)
        peer.read_request()
        peer.send(GOAWAY, 0, 0, struct.pack(">II", 0, 11) + b"too_many_pings")
        peer.exactly(1 << 20)

    with pytest.raises(RequestFailed, match="GOAWAY: code 11 too_many_pings"):
        call_peer(script)


def test_a_reset_stream_is_an_error():
    def script(connection):
        peer = Peer(connection)
        stream, _, _ = peer.read_request()
        peer.send(RST, 0, stream, struct.pack(">I", 8))
        stream, _, _ = peer.read_request()
        peer.answer(stream)

    with scripted_peer(script) as port:
        connection = GrpcConnection("127.0.0.1", port, PREDICT)
        with pytest.raises(RequestFailed, match="RST_STREAM 8") as failure:
            connection.call(message(b""))
        assert failure.value.reusable
        assert connection.call(message(b"")) == b"pong"
        connection.close()


@pytest.mark.parametrize("parts", [0, 1, 2, 3])
def test_a_connection_closed_in_mid_answer_is_an_error(parts):
    def script(connection):
        peer = Peer(connection)
        stream, _, _ = peer.read_request()
        if parts > 0:
            peer.send(HEADERS, 4, stream, GOOD_HEADERS)
        if parts > 1:
            peer.send(DATA, 0, stream, message(b"pong")[:6])
        if parts > 2:
            peer.connection.sendall(frame(DATA, 0, stream, b"ong")[:-2])

    with pytest.raises(RequestFailed, match="connection") as failure:
        call_peer(script)
    assert not failure.value.reusable


def test_windows_are_respected_to_the_byte():
    """A server that gives little by little gets no byte more; shrinking settings count for the open stream."""
    seen = []

    def script(connection):
        peer = Peer(connection, struct.pack(">HI", 4, 10))
        _, stream, _ = peer.read(HEADERS)
        body = b""
        while len(body) < 105:
            flags, _, part = peer.read(DATA)
            seen.append(len(part))
            body += part
            peer.send(WINDOW, 0, stream, struct.pack(">I", 7))
        assert flags & 1
        peer.answer(stream, body[5:])

    answer, _ = call_peer(script, request=b"x" * 100)

    assert answer == b"x" * 100
    assert seen[0] == 10
    assert set(seen[1:-1]) == {7}


def test_frames_are_no_longer_than_the_server_takes_and_the_connection_window_holds():
    sizes = []

    def script(connection):
        peer = Peer(connection, struct.pack(">HIHI", 4, 2**31 - 1, 5, 20_000))
        _, stream, _ = peer.read(HEADERS)
        got = 0
        while got < 100_005:
            _, _, part = peer.read(DATA)
            sizes.append(len(part))
            got += len(part)
            if got == 65535:
                peer.send(WINDOW, 0, 0, struct.pack(">I", 2**20))
        peer.answer(stream)

    call_peer(script, request=bytes(100_000))

    assert max(sizes) == 20_000
    assert sum(sizes[:4]) == 65535


def test_pings_and_settings_are_acknowledged_in_the_middle_of_a_call():
    acknowledged = []

    def script(connection):
        peer = Peer(connection)
        stream, _, _ = peer.read_request()
        peer.send(PING, 0, 0, b"8 octets")
        peer.send(SETTINGS, 0, 0, struct.pack(">HI", 3, 100))
        peer.send(WINDOW, 0, 0, struct.pack(">I", 1))
        peer.send(0xFA, 0, 0, b"a frame of a kind nobody knows")
        acknowledged.append(peer.read(PING))
        acknowledged.append(peer.read(SETTINGS))
        peer.answer(stream)

    assert call_peer(script)[0] == b"pong"
    assert acknowledged == [(1, 0, b"8 octets"), (1, 0, b"")]


def test_padding_priority_and_continuation_are_understood():
    def script(connection):
        peer = Peer(connection)
        stream, _, _ = peer.read_request()
        peer.send(HEADERS, 0x8 | 0x20, stream, b"\x03" + bytes(5) + GOOD_HEADERS[:4] + bytes(3))
        peer.send(CONTINUATION, 4, stream, GOOD_HEADERS[4:])
        peer.send(DATA, 0x8, stream, b"\x02" + message(b"pong") + bytes(2))
        peer.send(HEADERS, 1, stream, GOOD_TRAILERS[:5])
        peer.send(CONTINUATION, 0, stream, GOOD_TRAILERS[5:9])
        peer.send(CONTINUATION, 4, stream, GOOD_TRAILERS[9:])

    assert call_peer(script)[0] == b"pong"


def test_leave_to_send_is_renewed_before_it_is_used_up(monkeypatch):
    monkeypatch.setattr(h2c, "_RENEW_AFTER", 1000)
    renewed = []

    def script(connection):
        peer = Peer(connection)
        for _ in range(2):
            stream, _, _ = peer.read_request()
            peer.answer(stream, bytes(600))
        renewed.append(peer.read(WINDOW))

    with scripted_peer(script) as port:
        connection = GrpcConnection("127.0.0.1", port, PREDICT)
        for _ in range(2):
            connection.call(message(b""))
        connection.close()

    assert renewed == [(0, 0, struct.pack(">I", 1210))]


def trailers_only(headers):
    def script(connection):
        peer = Peer(connection)
        stream, _, _ = peer.read_request()
        peer.send(HEADERS, 5, stream, headers)

    return script


def headers_and(*frames):
    def script(connection):
        peer = Peer(connection)
        stream, _, _ = peer.read_request()
        peer.send(HEADERS, 4, stream, GOOD_HEADERS)
        for kind, flags, payload in frames:
            peer.send(kind, flags, stream, payload)

    return script


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        (trailers_only(b"\x8d"), "HTTP 404"),
        (trailers_only(GOOD_HEADERS), "trailers without grpc-status"),
        (trailers_only(b"\xff\xff\xff"), "headers cannot be decoded"),
        (trailers_only(GOOD_HEADERS + GOOD_TRAILERS), "without a message"),
        (headers_and((HEADERS, 5, GOOD_TRAILERS)), "without a message"),
        (headers_and((DATA, 1, message(b"pong"))), "ended without trailers"),
        (headers_and((DATA, 0, b"\1\0\0\0\1x"), (HEADERS, 5, GOOD_TRAILERS)), "compressed"),
        (headers_and((DATA, 0, b"\0\0\0\0\2x"), (HEADERS, 5, GOOD_TRAILERS)), "of 2 bytes came as 1"),
        (headers_and((CONTINUATION, 4, b"")), "frame of type 9"),
        (headers_and((PUSH, 4, bytes(4))), "frame of type 5"),
    ],
)
def test_what_breaks_the_protocol_is_never_an_answer(script, complaint):
    with pytest.raises(RequestFailed, match=complaint):
        call_peer(script)


@pytest.mark.parametrize("table_size", [4096, 100, 0])
def test_request_headers_decode_to_the_same_with_every_table_the_server_grants(table_size):
    """From the second call on, four bytes of the server's dynamic table stand for four headers, if it has one."""
    blocks = []

    def script(connection):
        peer = Peer(connection, struct.pack(">HI", 1, table_size))
        for _ in range(3):
            stream, block, _ = peer.read_request()
            blocks.append(block)
            peer.answer(stream)

    call_peer(script, calls=3)

    decoder = hpack.Decoder()
    decoder.max_allowed_table_size = table_size
    decoded = [decoder.decode(block) for block in blocks]
    assert decoded[0] == decoded[1] == decoded[2]
    headers = dict(decoded[0])
    assert headers.pop(":authority").startswith("127.0.0.1:")
    assert headers == {
        ":method": "POST",
        ":scheme": "http",
        ":path": PREDICT,
        "content-type": "application/grpc",
        "te": "trailers",
    }
    assert len(blocks[2]) == (6 if table_size == 4096 else len(blocks[1]))


@given(st.binary(max_size=300))
def test_strings_of_every_length_are_hpack(value):
    block = b"\x00\x01n" + h2c._string(value)

    assert hpack.Decoder().decode(block, raw=True) == [(b"n", value)]


def test_nobody_listening_is_told(refused_port):
    with pytest.raises(RequestFailed, match="connection refused"):
        GrpcConnection("127.0.0.1", refused_port, PREDICT)
