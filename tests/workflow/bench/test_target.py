"""What is spoken at a port: servers of real sockets, good and bad."""

import contextlib
import socket
import ssl
import threading

import pytest
import trustme
from tests.workflow.test_bench import Running

from slipway.bench import target
from slipway.errors import ServerError, SettingsError


@contextlib.contextmanager
def answering(answer, wrap=lambda connection: connection):
    """Listen; send *answer* to whatever is asked first, and hang up."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with contextlib.suppress(OSError), wrap(connection) as wrapped:
                    wrapped.recv(65536)
                    wrapped.sendall(answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


@pytest.fixture(scope="module")
def server():
    with Running() as running:
        yield running


def test_each_port_says_what_it_speaks(server):
    assert target.spoken_protocols("127.0.0.1", server.rest) == ["rest"]
    assert target.spoken_protocols("127.0.0.1", server.grpc) == ["grpc"]


def test_ports_are_found_by_what_they_speak_or_as_they_are_named(server):
    rest, grpc = f"127.0.0.1:{server.rest}", f"127.0.0.1:{server.grpc}"
    both = ["rest", "grpc"]

    assert list(target.find([grpc], rest)) == both
    assert list(target.find([f"grpc://{grpc}", f"http://{rest}"], None)) == both
    assert list(target.find([rest, grpc], None)) == both
    assert target.find([rest], None)["rest"].port == server.rest
    assert list(target.find([grpc], None)) == ["grpc"]


def test_a_port_of_the_other_protocol_is_told(server):
    with pytest.raises(ServerError, match=rf"^grpc://127.0.0.1:{server.rest}: expected gRPC, found REST\.$"):
        target.find([f"grpc://127.0.0.1:{server.rest}"], None)
    with pytest.raises(ServerError, match=rf"^http://127.0.0.1:{server.grpc}: expected REST, found gRPC\.$"):
        target.find([f"127.0.0.1:{server.grpc}"], f"127.0.0.1:{server.grpc}")


def test_tls_is_recognised_at_the_port_and_refused_in_a_url():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    with (
        answering(b"", lambda plain: context.wrap_socket(plain, server_side=True)) as port,
        pytest.raises(
            ServerError, match=r"speaks TLS, which the load generator does not. Name the server's plain port"
        ),
    ):
        target.find([f"127.0.0.1:{port}"], None)
    with pytest.raises(SettingsError, match=r"https://h:443: the load generator speaks no TLS"):
        target.find(["https://h"], None)


def test_what_is_no_model_server_is_told_by_what_it_says():
    with answering(b"220 mail.example ESMTP\r\n") as port, pytest.raises(ServerError, match=r"answered b'220 mail"):
        target.find([f"127.0.0.1:{port}"], None)
    with (
        answering(b"") as port,
        pytest.raises(ServerError, match=r"took the connection and answered nothing; expected"),
    ):
        target.find([f"127.0.0.1:{port}"], None)
    with socket.socket() as held:
        # Bound, and nobody listens.
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        with pytest.raises(ServerError, match=rf"^127.0.0.1:{port}: no connection \(Connection refused\). Is the"):
            target.find([f"127.0.0.1:{port}"], None)


def test_a_named_process_is_watched(server):
    known = target.TargetServer({}, server.process.pid)

    known.check_alive()
    assert known.pids()[0] == server.process.pid
    with pytest.raises(ServerError, match="its process 999999999 is gone"):
        target.TargetServer({}, 999_999_999).check_alive()
    assert target.TargetServer({}).pids() == []
