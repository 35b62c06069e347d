"""The whole transport under real clients: grpcio, sync and asyncio, curl, nghttp and h2load."""

import asyncio
import os
import re
import shutil
import socket
import struct
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from slipway_server.transports.http2.server import start_server
from slipway_server.transports.rpc import Bidirectional, Unary
from slipway_wire.status import Unavailable

WAIT_S = 90.0
UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]

# Around what cuts messages: gRPC's prefix, our read size, a frame of 16 KiB, the default window, our frames and windows.
BORDERS = [0, 5, 4096, 16_384, 65_535, 2**17, 2**18, 2**20, 2**20 + 2**14]
SIZES = sorted({size for border in BORDERS for size in range(max(border - 6, 0), border + 3)})
LARGE = [2**22 + 1, 2**24 + 2**16, 2**26]


class Service:
    def __init__(self):
        self.gate = threading.Event()
        self.started = threading.Semaphore(0)

    async def echo(self, body, incoming):
        return body

    async def wait(self, body, incoming):
        self.started.release()
        await asyncio.to_thread(self.gate.wait, WAIT_S)
        return body

    async def talk(self, messages, incoming):
        async for message in messages:
            yield message

    def services(self):
        return {
            "t.S": {
                "Echo": Unary(self.echo, is_stepwise=True),
                "Wait": Unary(self.wait),
                "Talk": Bidirectional(self.talk),
            }
        }


@pytest.fixture
def service():
    return Service()


@pytest.fixture
def serve(loop_thread, service):
    """`serve(options, *places)` gives the ports; the last server is its attribute."""
    started = []

    def start(options=None, places=("127.0.0.1:0",)):
        server, ports = loop_thread.run(start_server(service.services(), places, options or {}))
        started.append(server)
        start.server = server
        return ports

    yield start
    service.gate.set()
    for server in started:
        loop_thread.run(server.stop(None))


def channel_to(port, *options):
    return grpc.insecure_channel(f"127.0.0.1:{port}", options=[*UNLIMITED, *options])


def test_messages_of_every_size_around_every_border(serve):
    (port,) = serve()
    content = os.urandom(max(SIZES))
    with channel_to(port) as channel:
        echo = channel.unary_unary("/t.S/Echo")
        waiting = [(size, echo.future(content[:size], timeout=WAIT_S)) for size in SIZES]
        for size, answer in waiting:
            assert answer.result() == content[:size], size


@pytest.mark.parametrize("size", LARGE)
def test_large_messages_go_both_ways(serve, size):
    (port,) = serve()
    content = os.urandom(2**16) * (size // 2**16 + 1)
    with channel_to(port) as channel:
        assert channel.unary_unary("/t.S/Echo")(content[:size], timeout=WAIT_S) == content[:size]


def test_large_messages_among_small_ones_on_one_connection(serve):
    (port,) = serve()
    with channel_to(port) as channel, ThreadPoolExecutor(8) as pool:
        echo = channel.unary_unary("/t.S/Echo")
        bodies = [bytes([number]) * (3_000_000 if number % 4 == 0 else 10) for number in range(24)]
        assert list(pool.map(lambda body: echo(body, timeout=WAIT_S), bodies)) == bodies


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compressed_by_grpcio(serve, compression):
    (port,) = serve()
    with channel_to(port) as channel:
        echo = channel.unary_unary("/t.S/Echo")
        for body in (b"", b"a" * 100, bytes(3_000_000)):
            assert echo(body, compression=compression, timeout=WAIT_S) == body


def test_grpcio_on_asyncio(serve):
    (port,) = serve()

    async def main():
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            echo = channel.unary_unary("/t.S/Echo")
            bodies = [b"%d" % number for number in range(300)]
            assert await asyncio.gather(*(echo(body, timeout=WAIT_S) for body in bodies)) == bodies
            call = channel.stream_stream("/t.S/Talk")()
            for body in bodies[:20]:
                await call.write(body)
                assert await call.read() == body
            await call.done_writing()
            assert await call.code() is grpc.StatusCode.OK

    asyncio.run(main())


def test_keepalive_pings_of_clients_are_answered(serve, service):
    """A client that hears nothing for 1.5 s after its ping would end the connection and fail the call."""
    (port,) = serve()
    options = [
        ("grpc.keepalive_time_ms", 100),
        ("grpc.keepalive_timeout_ms", 1500),
        ("grpc.http2.max_pings_without_data", 0),
    ]
    with channel_to(port, *options) as channel:
        call = channel.unary_unary("/t.S/Wait").future(b"x", timeout=WAIT_S)
        assert service.started.acquire(timeout=WAIT_S)
        timer = threading.Timer(2.0, service.gate.set)
        timer.start()
        assert call.result() == b"x"
        timer.join()


def test_a_connection_that_is_to_end_finishes_its_calls_and_clients_notice_nothing(serve):
    """The age of 50 ms ends connections again and again under a client that knows no retry."""
    (port,) = serve({"grpc.max_connection_age_ms": 50})
    with channel_to(port) as channel:
        echo = channel.unary_unary("/t.S/Echo")
        for number in range(300):
            body = b"%d" % number
            assert echo(body, timeout=WAIT_S, wait_for_ready=True) == body
            if number % 50 == 49:
                threading.Event().wait(0.06)


def test_stop_waits_for_calls_and_then_cuts_off(serve, service, loop_thread):
    (port,) = serve()
    with channel_to(port) as channel:
        finished = channel.unary_unary("/t.S/Wait").future(b"x", timeout=WAIT_S)
        assert service.started.acquire(timeout=WAIT_S)
        stopping = asyncio.run_coroutine_threadsafe(serve.server.stop(WAIT_S), loop_thread.loop)
        service.gate.set()
        assert finished.result() == b"x"
        stopping.result(WAIT_S)
    service.gate.clear()
    (port,) = serve()
    with channel_to(port) as channel:
        cut_off = channel.unary_unary("/t.S/Wait").future(b"x", timeout=WAIT_S)
        assert service.started.acquire(timeout=WAIT_S)
        loop_thread.run(serve.server.stop(0.05))
        with pytest.raises(grpc.RpcError) as raised:
            cut_off.result()
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_unix_socket_goes_with_its_server(serve, loop_thread, tmp_path):
    path = tmp_path / "socket"
    assert serve(None, [f"unix:{path}"]) == [0]
    with grpc.insecure_channel(f"unix:{path}") as channel:
        assert channel.unary_unary("/t.S/Echo")(b"x", timeout=WAIT_S) == b"x"
    loop_thread.run(serve.server.stop(None))
    assert not path.exists()
    with pytest.raises(Unavailable, match="grpc_socket_path"):
        serve(None, [f"unix:{tmp_path}/not/there"])


def test_arguments_that_mean_nothing_here_are_named(serve, caplog):
    serve({"grpc.so_reuseport": 0})
    assert "grpc.so_reuseport" in caplog.text


def test_a_socket_that_was_bound_before_is_taken_over(serve):
    bound = socket.create_server(("127.0.0.1", 0))
    port = bound.getsockname()[1]
    assert serve(None, [bound]) == [port]
    with channel_to(port) as channel:
        assert channel.unary_unary("/t.S/Echo")(b"x", timeout=WAIT_S) == b"x"


@pytest.fixture
def body_file(tmp_path):
    file = tmp_path / "body"
    file.write_bytes(struct.pack(">BL", 0, 100_000) + bytes(100_000))
    return file


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl(serve, body_file, tmp_path):
    (port,) = serve()
    done = subprocess.run(
        ["curl", "-sS", "--noproxy", "*", "--http2-prior-knowledge", "-m", "90", "-D", "-", "-o", tmp_path / "out",
         "-H", "content-type: application/grpc", "-H", "te: trailers", "--data-binary", f"@{body_file}",
         f"http://127.0.0.1:{port}/t.S/Echo"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert done.stdout.startswith("HTTP/2 200")
    assert "grpc-status: 0" in done.stdout
    assert (tmp_path / "out").read_bytes() == body_file.read_bytes()


@pytest.mark.skipif(shutil.which("nghttp") is None, reason="nghttp2-client is not installed")
def test_nghttp(serve, body_file):
    (port,) = serve()
    done = subprocess.run(
        ["nghttp", "-v", "-t", "90", "-w", "16", "-W", "16", "-m", "3", "--header-table-size", "0",
         "-H", "content-type: application/grpc", "-d", body_file, f"http://127.0.0.1:{port}/t.S/Echo"],
        capture_output=True, check=True,
    )  # fmt: skip

    assert done.stdout.count(b"grpc-status: 0") == 3
    assert b"GOAWAY" not in re.sub(rb"send GOAWAY", b"", done.stdout)


@pytest.mark.skipif(shutil.which("h2load") is None, reason="nghttp2-client is not installed")
def test_h2load(serve, body_file):
    (port,) = serve()
    done = subprocess.run(
        ["h2load", "-n", "400", "-c", "4", "-m", "20", "-w", "16", "-d", body_file,
         "-H", "content-type: application/grpc", f"http://127.0.0.1:{port}/t.S/Echo"],
        capture_output=True, text=True, check=True, timeout=200,
    )  # fmt: skip

    assert "400 succeeded, 0 failed" in done.stdout
