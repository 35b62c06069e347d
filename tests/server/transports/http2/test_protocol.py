"""One real socket: what only the operating system can show."""

import itertools
import socket
import ssl
import struct
import threading
import time

import pytest
import trustme

from slipway_server.transports.held import Held
from slipway_server.transports.http2 import frames
from slipway_server.transports.http2.frames import ErrorCode
from slipway_server.transports.http2.limits import Limits
from slipway_server.transports.http2.protocol import peer_of
from slipway_server.transports.http2.server import Http2Server
from slipway_server.transports.rpc import Unary

from .conftest import REQUEST, Client, read_frames

WAIT_S = 90.0
GREETING = (
    frames.PREFACE + frames.settings_frame({frames.INITIAL_WINDOW_SIZE: 2**31 - 1}) + frames.window_update(0, 2**30)
)


def request(stream, method, message):
    """Write a call; its block stands for itself."""
    block = b"".join(
        b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value for name, value in REQUEST if name != b":path"
    )
    path = b"/t.S/" + method
    return frames.frame(
        frames.HEADERS, frames.END_HEADERS, stream, b"\x04" + bytes([len(path)]) + path + block
    ) + frames.frame(frames.DATA, frames.END_STREAM, stream, struct.pack(">BL", 0, len(message)) + message)


class Wire:
    """A socket that reads frames."""

    def __init__(self, made):
        self.socket = made
        made.settimeout(WAIT_S)
        self.rest = b""

    def send(self, data):
        self.socket.sendall(data)

    def frames_until(self, is_last):
        """Read frames up to the one that *is_last*, or to the end of the connection."""
        got = []
        while not any(map(is_last, got)):
            found, self.rest = read_frames(self.rest)
            got += found
            if not found:
                data = self.socket.recv(65_536)
                if not data:
                    break
                self.rest += data
        return got


def never(_frame):
    return False


def is_end_of(*streams):
    left = set(streams)

    def is_last(frame):
        if frame.kind == frames.HEADERS and frame.flags & frames.END_STREAM:
            left.discard(frame.stream)
        return not left

    return is_last


@pytest.fixture
def serve(loop_thread):
    """`serve(limits, tls)` serves an echo and large answers; gives the port, and the server as its attribute."""
    started = []
    calls = threading.Semaphore(0)

    async def echo(body, incoming):
        calls.release()
        return body

    async def large(body, incoming):
        calls.release()
        return bytes(2**20)

    async def make(limits, context, max_connections, held):
        services = {"t.S": {"Echo": Unary(echo, is_stepwise=True), "Large": Unary(large, is_stepwise=True)}}
        server = Http2Server(services, limits, tls=context, max_connections=max_connections, held=held)
        bound = socket.create_server(("127.0.0.1", 0))
        await server.start([bound])
        return server, bound.getsockname()[1]

    def start(limits=None, context=None, max_connections=None, held=None):
        server, port = loop_thread.run(make(limits or Limits(), context, max_connections, held))
        started.append(server)
        start.server, start.calls = server, calls
        return port

    yield start
    for server in started:
        loop_thread.run(server.stop(None))


@pytest.fixture
def connect():
    made = []

    def open_socket(port, **options):
        one = socket.socket()
        for option, value in options.items():
            one.setsockopt(socket.SOL_SOCKET, getattr(socket, option), value)
        one.connect(("127.0.0.1", port))
        made.append(one)
        return Wire(one)

    yield open_socket
    for one in made:
        one.close()


def test_calls_that_come_together_are_answered_together(serve, connect):
    wire = connect(serve())
    wire.send(GREETING + b"".join(request(stream, b"Echo", b"x") for stream in range(1, 201, 2)))

    got = wire.frames_until(is_end_of(*range(1, 201, 2)))

    assert len([f for f in got if f.kind == frames.DATA]) == 100


def test_a_connection_that_breaks_the_rules_learns_why_before_it_is_closed(serve, connect, caplog):
    """Though it goes on sending, so that closing the socket at once would reset it under the last frame."""
    wire = connect(serve())
    wire.send(GREETING + frames.frame(frames.PING, 0, 3, bytes(8)) + request(1, b"Echo", bytes(10_000)))

    got = wire.frames_until(never)

    assert got[-1].kind == frames.GOAWAY
    assert got[-1].payload[8:] == b"PING on stream 3"
    assert "PROTOCOL_ERROR: PING on stream 3" in caplog.text
    assert ErrorCode(int.from_bytes(got[-1].payload[4:8], "big")) is ErrorCode.PROTOCOL_ERROR


def test_http_1_is_told_that_this_is_another_protocol(serve, connect):
    wire = connect(serve())
    wire.send(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    assert b"gRPC" in wire.frames_until(never)[-1].payload


def test_a_client_that_does_not_read_is_not_read_from(serve, connect):
    """Answers of 1 MiB to a client that takes none: the server must stop at some megabytes, not at all of them."""
    wire = connect(serve(Limits(max_concurrent_streams=100, reset_burst=10**6)), SO_RCVBUF=65_536)
    wire.send(GREETING)
    wire.socket.settimeout(1.0)
    sent = 0
    try:
        for stream in range(1, 2**20, 2):
            wire.send(request(stream, b"Large", bytes(1000)))
            sent += 1
    except TimeoutError:
        pass

    begun = 0
    while serve.calls.acquire(blocking=False):
        begun += 1
    # The first answers may have gone into the kernel's buffers, and made room for as many.
    assert begun <= 110
    assert sent < 50_000
    wire.socket.settimeout(WAIT_S)
    assert len([f for f in wire.frames_until(is_end_of(1)) if f.kind == frames.DATA]) >= 64


def test_a_client_that_never_reads_is_closed(serve, connect):
    """A slow reader costs memory only for as long as `stall_s`."""
    wire = connect(serve(Limits(stall_s=0.4)), SO_RCVBUF=65_536)
    wire.send(GREETING + b"".join(request(stream, b"Large", b"") for stream in range(1, 101, 2)))

    serve.calls.acquire(timeout=WAIT_S)
    closed = threading.Event()

    def watch():
        while serve.server.connections:
            closed.wait(0.01)
        closed.set()

    watching = threading.Thread(target=watch)
    watching.start()
    watching.join(WAIT_S)
    assert closed.is_set()


def test_a_client_that_says_nothing_is_closed(serve, connect):
    wire = connect(serve(Limits(handshake_s=0.2)))
    got = wire.frames_until(never)
    assert ErrorCode(int.from_bytes(got[-1].payload[4:8], "big")) is ErrorCode.SETTINGS_TIMEOUT


def test_a_connection_too_many_is_sent_away_and_whoever_is_idle_longest_makes_room(serve, connect, fakes, caplog):
    """Idle connections would use up all descriptors, and then no port is open to anybody."""
    port = serve(max_connections=2)
    first, second = connect(port), connect(port)
    for wire in (first, second):
        wire.send(GREETING + request(1, b"Echo", b"x"))
        wire.frames_until(is_end_of(1))
    # The loop's clock counts milliseconds: the second goes on until the first has been idle for longer beyond doubt.
    later = time.monotonic() + 0.05
    for stream in itertools.count(3, 2):
        second.send(request(stream, b"Echo", b"x"))
        second.frames_until(is_end_of(stream))
        if time.monotonic() > later:
            break

    settings, goaway = connect(port).frames_until(never)

    assert settings.kind == frames.SETTINGS
    assert ErrorCode(int.from_bytes(goaway.payload[4:8], "big")) is ErrorCode.ENHANCE_YOUR_CALM
    assert goaway.payload[8:] == b"the server has 2 connections open, as many as it takes"
    assert "ENHANCE_YOUR_CALM: the server has 2 connections open" in caplog.text
    # Nobody loses a call: the first is asked to leave when it can, the second is not.
    ping = first.frames_until(lambda frame: frame.kind == frames.PING)[-1]
    first.send(request(3, b"Echo", b"x") + frames.frame(frames.PING, frames.ACK, 0, ping.payload))
    left = first.frames_until(never)
    assert [f.payload for f in left if f.kind == frames.DATA] == [b"\0\0\0\0\1x"]
    assert [f.number for f in left if f.kind == frames.GOAWAY] == [3]
    fakes.wait_for(lambda: serve.server.connections == 1, "the connection to end")
    third = connect(port)
    for wire, number in ((second, stream + 2), (third, 1)):
        wire.send((GREETING if wire is third else b"") + request(number, b"Echo", b"x"))
        assert not [f for f in wire.frames_until(is_end_of(number)) if f.kind == frames.GOAWAY]


def test_what_others_hold_counts_here_too(serve, connect):
    held = Held(1000)
    wire = connect(serve(held=held))
    held.now = 1001
    wire.send(GREETING + request(1, b"Echo", b"x"))
    assert any(b"1000 are allowed" in f.payload for f in wire.frames_until(is_end_of(1)))
    held.now = 0
    wire.send(request(3, b"Echo", b"x"))
    assert [f.payload for f in wire.frames_until(is_end_of(3)) if f.kind == frames.DATA] == [b"\0\0\0\0\1x"]


def test_silent_clients_are_pinged_and_closed(serve, connect):
    wire = connect(serve(Limits(keepalive_time_s=0.2, keepalive_timeout_s=0.2)))
    wire.send(GREETING)
    got = wire.frames_until(never)
    assert [f.kind for f in got[-2:]] == [frames.PING, frames.GOAWAY]


def test_old_connections_are_asked_to_leave(serve, connect):
    wire = connect(serve(Limits(max_age_s=0.5)))
    wire.send(GREETING + request(1, b"Echo", b"x"))
    got = wire.frames_until(never)
    assert [f.number for f in got if f.kind == frames.GOAWAY] == [2**31 - 1, 1]


@pytest.mark.parametrize(("offered", "is_served"), [(["h2"], True), (["http/1.1"], False), ([], False)])
def test_tls_needs_h2_by_alpn(serve, connect, offered, is_served):
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    context.set_alpn_protocols(["h2"])
    client = ssl.create_default_context()
    authority.configure_trust(client)
    if offered:
        client.set_alpn_protocols(offered)
    wire = connect(serve(context=context))

    with client.wrap_socket(wire.socket, server_hostname="localhost") as secured:
        wire = Wire(secured)
        if is_served:
            wire.send(GREETING + request(1, b"Large", b"x"))
            got = wire.frames_until(is_end_of(1))
            assert sum(len(f.payload) for f in got if f.kind == frames.DATA) == 2**20 + 5
        else:
            assert wire.frames_until(never) == []


@pytest.mark.parametrize(
    ("name", "peer"),
    [
        (("1.2.3.4", 5), "ipv4:1.2.3.4:5"),
        (("::1", 5, 0, 0), "ipv6:[::1]:5"),
        ("", "unix:"),
        (b"", "unix:"),
        (None, "unix:"),
    ],
)
def test_peers_are_written_as_grpc_writes_them(name, peer):
    assert peer_of(name) == peer


def test_the_client_of_these_tests_reads_what_it_writes():
    client = Client(echoes=True)
    client.send(request(1, b"Echo", b"abc"))
    assert client.answers() == {1: b"\0\0\0\0\x03abc"}
