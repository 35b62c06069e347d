import asyncio
import importlib
from pathlib import Path

import httptools
import pytest

from slipway_server.transports.http2.server import start_server
from slipway_server.transports.rpc import Unary

BENCH = Path(__file__).parents[3] / "server" / "bench"
# Requests at this rate for so long, from one seed: 18, however fast the machine is.
PER_S, SECONDS, REQUESTS = 100.0, 0.2, 18


@pytest.fixture
def paced(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module("harness.paced")


@pytest.fixture
def grpc_port(loop_thread):
    """A server that answers every call, and `bodies` that it got."""
    bodies = []

    async def take(body, _incoming):
        bodies.append(bytes(body))
        return b"answer"

    server, (port,) = loop_thread.run(
        start_server({"t.S": {"Take": Unary(take, is_stepwise=True)}}, ["127.0.0.1:0"], {})
    )
    yield port, bodies
    loop_thread.run(server.stop(None))


class Answers(asyncio.Protocol):
    """Answers each request in two pieces, as a socket may bring them."""

    def __init__(self, status, bodies):
        self.status, self.bodies = status, bodies

    def connection_made(self, transport):
        self.transport, self.parser = transport, httptools.HttpRequestParser(self)

    def data_received(self, data):
        self.parser.feed_data(data)

    def on_body(self, body):
        self.bodies.append(body)

    def on_message_complete(self):
        self.transport.write(b"HTTP/1.1 %b\r\nContent-Length: 6\r\n\r\nan" % self.status)
        asyncio.get_running_loop().call_soon(self.transport.write, b"swer")


@pytest.fixture
def rest_port(serve):
    """`rest_port(status)` starts a server, and gives its port."""

    def start(status=b"200 OK"):
        bodies = []
        return serve(lambda: Answers(status, bodies)), bodies

    return start


def closed(connections):
    for one in connections:
        one.socket.close()


def test_every_grpc_call_is_sent_and_waited_for_whatever_the_windows_allow(paced, grpc_port):
    """Bodies of 20 kB: a connection's first window has room for three."""
    port, bodies = grpc_port
    body = b"\0" + (20_000).to_bytes(4) + b"x" * 20_000
    connections = paced.connected("grpc", port, "/t.S/Take", body, 2)

    found = paced.paced(connections, PER_S, SECONDS, seed=0)

    closed(connections)
    assert bodies == [b"x" * 20_000] * REQUESTS
    assert found["answers"] == REQUESTS
    assert found["per_s"] == pytest.approx(REQUESTS / SECONDS)
    assert 0 <= found["late_p99_ms"] <= found["p99_ms"]
    assert 0 < found["p50_ms"] <= found["p99_ms"]


def test_rest_requests_wait_for_a_connection_that_is_free(paced, rest_port):
    port, bodies = rest_port()
    connections = paced.connected("rest", port, "/p", b'{"a":1}', 2)

    found = paced.paced(connections, PER_S, SECONDS, seed=0)

    closed(connections)
    assert bodies == [b'{"a":1}'] * REQUESTS
    assert found["per_s"] == pytest.approx(REQUESTS / SECONDS)


def test_an_answer_that_is_an_error_ends_the_run(paced, rest_port):
    port, _ = rest_port(b"503 Service Unavailable")
    connections = paced.connected("rest", port, "/p", b"{}", 1)

    with pytest.raises(SystemExit, match=r"the server answered b'HTTP/1\.1 503"):
        paced.paced(connections, PER_S, SECONDS, seed=0)

    closed(connections)


class Refuses(asyncio.Protocol):
    def connection_made(self, transport):
        transport.write(b"\0\0\4\3\0\0\0\0\1\0\0\0\7")


def test_a_call_that_is_refused_ends_the_run(paced, serve):
    connections = paced.connected("grpc", serve(Refuses), "/t.S/Take", b"\0\0\0\0\0", 1)

    with pytest.raises(SystemExit, match="the server ended a call or the connection: frame 3"):
        paced.paced(connections, PER_S, SECONDS, seed=0)

    closed(connections)
