"""Real peers for the load generator's clients: grpcio's server, Python's own HTTP server, and sockets that follow a script."""

import contextlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc
import numpy as np
import pytest

from slipway_wire import json_predict, payloads, predict

PREDICT = "/tensorflow.serving.PredictionService/Predict"


class _Handler(grpc.GenericRpcHandler):
    def __init__(self, answer: Callable[[bytes, grpc.ServicerContext], bytes]) -> None:
        self._answer = answer

    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(self._answer) if details.method == PREDICT else None


@contextlib.contextmanager
def grpc_server(answer: Callable[[bytes, grpc.ServicerContext], bytes], **options: int) -> Iterator[int]:
    """Serve Predict with grpcio (C-core); give its port. Options are grpc's, without `grpc.`."""
    options = {"max_receive_message_length": -1, "max_send_message_length": -1} | options
    server = grpc.server(
        futures.ThreadPoolExecutor(8), options=[(f"grpc.{name}", value) for name, value in options.items()]
    )
    server.add_generic_rpc_handlers((_Handler(answer),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(0).wait(10)


@contextlib.contextmanager
def http_server(
    answer: Callable[[BaseHTTPRequestHandler, bytes], bytes | None],
    get: Callable[[BaseHTTPRequestHandler], bytes | None] = lambda _: None,
) -> Iterator[int]:
    """Serve HTTP/1.1 with keep-alive; *answer* gives the body of a 200 to a POST, or None if it wrote everything itself."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = 65536

        def do_POST(self):
            request = self.rfile.read(int(self.headers["Content-Length"]))
            self._finish(answer(self, request))

        def do_GET(self):
            self._finish(get(self) or b"")

        def _finish(self, body):
            if body is not None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # a client that hangs up is no news; anything else fails the client
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def scripted_peer(script: Callable[[socket.socket], None]) -> Iterator[int]:
    """Run *script* with every connection that is accepted; give the port. The connection is closed when it returns."""
    listener = socket.create_server(("127.0.0.1", 0))
    threads = []

    def serve(connection):
        with connection, contextlib.suppress(ConnectionError):
            connection.settimeout(90)
            script(connection)

    def accept():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=serve, args=(connection,)))
            threads[-1].start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        accepting.join()
        for thread in threads:
            thread.join()


@contextlib.contextmanager
def null_server(payload_file: Path, *flags: str) -> Iterator[dict[str, int]]:
    """Run the null server of the calibration for *payload_file*; give its ports, `rest_port` and `grpc_port`."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-m", "slipway_loadtests.null_server", "--payloads", payload_file, *flags],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        yield json.loads(process.stdout.readline())
        process.stdin.close()
        assert process.wait(90) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def refused_port() -> Iterator[int]:
    """A port that nobody listens on, and that nobody else gets while the test runs."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


# --- a model on these peers ------------------------------------------------------------------------


def half_plus_two_over_rest(_: BaseHTTPRequestHandler, body: bytes) -> bytes:
    x = np.array(json.loads(body)["instances"], np.float32)
    return json_predict.encode_response({"y": x / 2 + 2}, row_format=True)


def half_plus_two_over_grpc(message: bytes, _: grpc.ServicerContext) -> bytes:
    request = predict.decode_request(message)
    return predict.encode_response(request.spec, {"y": request.inputs["x"] / 2 + 2})


@pytest.fixture(scope="session")
def payload_file(tmp_path_factory) -> Path:
    """Four payloads for half_plus_two, with the right answers."""
    path = tmp_path_factory.mktemp("payloads") / "payloads.tfrecord"
    rows = [np.array([number, number / 3], np.float32) for number in range(4)]
    path.write_bytes(payloads.encode(payloads.make("m", {"x": x}, {"y": x / 2 + 2}) for x in rows))
    return path
