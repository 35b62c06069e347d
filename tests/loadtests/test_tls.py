"""TLS against real peers: the null server, grpcio, Python's own ssl; and everything that keeps it from coming about."""

import contextlib
import json
import socket
import ssl
import subprocess
import sys
from concurrent import futures

import grpc
import numpy as np
import pytest
import trustme
from tests.loadtests.conftest import PREDICT, _Handler, half_plus_two_over_grpc, scripted_peer

from slipway_loadtests import h2c, http1
from slipway_loadtests.connections import RequestFailed, transferred
from slipway_loadtests.tls import handshake
from slipway_wire import payloads, predict
from slipway_wire.loads import LoadOrder, Tls

X = np.arange(6, dtype=np.float32).reshape(2, 3)
# Many records of TLS in each direction.
LARGE = np.random.default_rng(3).random((4, 50_000), np.float32)
SENT = [payloads.make("m", {"x": x}, {"y": x / 2 + 2}) for x in (X, LARGE)]


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def trusted(authority, tmp_path_factory):
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return str(path)


@pytest.fixture(scope="module")
def identity(authority, tmp_path_factory):
    """The server's, for 127.0.0.1 and a name."""
    path = tmp_path_factory.mktemp("server") / "server.pem"
    authority.issue_cert("127.0.0.1", "model.example").private_key_and_cert_chain_pem.write_to_path(path)
    return path


@pytest.fixture(scope="module")
def ports(identity):
    file = identity.parent / "payloads.tfrecord"
    file.write_bytes(payloads.encode(SENT))
    words = ["--payloads", file, "--certificate", identity, "--tls", "rest", "grpc"]
    process = subprocess.Popen(
        [sys.executable, "-I", "-m", "slipway_loadtests.null_server", *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    yield json.loads(process.stdout.readline())
    process.stdin.close()
    assert process.wait(90) == 0
    process.stdout.close()


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
@pytest.mark.parametrize("name", [None, "model.example"])
def test_the_null_server_answers_over_tls_as_it_does_in_plain(ports, trusted, protocol, name):
    port, tls = ports[f"{protocol}_port"], Tls(authorities=trusted, server_name=name)
    if protocol == "rest":
        connection = http1.HttpConnection("127.0.0.1", port, handshake(tls, "127.0.0.1", "http/1.1"))
    else:
        connection = h2c.GrpcConnection("127.0.0.1", port, PREDICT, handshake(tls, "127.0.0.1", "h2"))
    before = transferred(connection.socket)
    for payload in SENT * 2:
        if protocol == "rest":
            answer = connection.call(http1.post("127.0.0.1", port, payload.rest_path, payload.rest_body))
            found = payloads.decode_rest_answer(payload, answer)
        else:
            found = predict.decode_response(connection.call(h2c.message(payload.grpc_message)))[1]
        np.testing.assert_array_equal(found["y"], payload.expected["y"])
    sent, received = (now - then for now, then in zip(transferred(connection.socket), before, strict=True))

    assert connection.socket.version() == "TLSv1.3"
    # The kernel sees what TLS adds.
    assert min(sent, received) > 2 * LARGE.nbytes
    connection.close()


def test_grpcio_takes_our_calls_over_tls(authority, trusted):
    server = grpc.server(futures.ThreadPoolExecutor(2), options=[("grpc.max_receive_message_length", -1)])
    server.add_generic_rpc_handlers((_Handler(half_plus_two_over_grpc),))
    issued = authority.issue_cert("127.0.0.1")
    chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
    credentials = grpc.ssl_server_credentials([(issued.private_key_pem.bytes(), chain)])
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    connection = h2c.GrpcConnection("127.0.0.1", port, PREDICT, handshake(Tls(authorities=trusted), "127.0.0.1", "h2"))
    for payload in SENT:
        _, outputs = predict.decode_response(connection.call(h2c.message(payload.grpc_message)))
        np.testing.assert_array_equal(outputs["y"], payload.expected["y"])
    connection.close()
    server.stop(0).wait(10)


@contextlib.contextmanager
def secured(identity, alpn=(), **changes):
    """Listen with Python's own TLS and answer nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity)
    if alpn:
        context.set_alpn_protocols(alpn)
    for name, value in changes.items():
        setattr(context, name, value)

    def serve(plain):
        with contextlib.suppress(OSError), context.wrap_socket(plain, server_side=True) as connection:
            connection.recv(65536)

    with scripted_peer(serve) as port:
        yield port


def test_a_server_that_agrees_to_no_http2_is_no_grpc_server(identity, trusted):
    with secured(identity) as port, pytest.raises(RequestFailed, match=r"^TLS handshake failed.*ALPN h2"):
        h2c.GrpcConnection("127.0.0.1", port, PREDICT, handshake(Tls(authorities=trusted), "127.0.0.1", "h2"))


def test_a_server_whose_authority_is_unknown_or_whose_name_is_another_is_not_talked_to(identity, trusted):
    with secured(identity) as port:
        for tls, said in (
            (Tls(), "CERTIFICATE_VERIFY_FAILED"),
            (Tls(authorities=trusted, server_name="other.example"), "Hostname mismatch"),
        ):
            with pytest.raises(RequestFailed, match=rf"^TLS handshake failed.*{said}"):
                http1.HttpConnection("127.0.0.1", port, handshake(tls, "127.0.0.1", "http/1.1"))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_certificate_is_shown_where_one_is_asked_for(authority, identity, trusted, tmp_path, version):
    issued = authority.issue_cert("client@example.org")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    for blob in issued.cert_chain_pems:
        blob.write_to_path(tmp_path / "cert.pem", append=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity)
    context.load_verify_locations(trusted)
    context.verify_mode, context.maximum_version = ssl.CERT_REQUIRED, version
    shown = []

    def serve(plain):
        with contextlib.suppress(OSError), context.wrap_socket(plain, server_side=True) as connection:
            shown.append(connection.getpeercert()["subjectAltName"])
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    def ask(port, **identity):
        known = handshake(Tls(authorities=trusted, **identity), "127.0.0.1", "http/1.1")
        with contextlib.closing(http1.HttpConnection("127.0.0.1", port, known)) as connection:
            return connection.call(http1.get("127.0.0.1", port, "/"))

    with scripted_peer(serve) as port:
        own = {"certificate": str(tmp_path / "cert.pem"), "key": str(tmp_path / "key.pem")}
        assert ask(port, **own) == b"{}"
        # TLS 1.3 tells a client so when it reads; a hang-up may come before the words.
        with pytest.raises(RequestFailed, match=r"^(TLS handshake failed|connection (lost|closed))"):
            ask(port)
    assert shown == [(("email", "client@example.org"),)]


def test_plain_and_tls_do_not_meet(ports, trusted):
    with (
        contextlib.closing(http1.HttpConnection("127.0.0.1", ports["rest_port"])) as plain_client,
        pytest.raises(RequestFailed, match=r"connection closed|protocol error|connection lost"),
    ):
        plain_client.call(http1.get("127.0.0.1", ports["rest_port"], "/"))

    def serve(plain: socket.socket):
        plain.recv(65536)
        plain.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with scripted_peer(serve) as port, pytest.raises(RequestFailed, match=r"^TLS handshake failed"):
        http1.HttpConnection("127.0.0.1", port, handshake(Tls(authorities=trusted), "127.0.0.1", "http/1.1"))


def test_an_order_carries_tls_through_its_line(tmp_path):
    order = LoadOrder(
        protocol="rest",
        host="h",
        port=1,
        users=1,
        warmup_s=0.0,
        window_s=1.0,
        samples="s",
        tls=Tls(authorities="ca.pem", server_name="n"),
    )

    assert LoadOrder.from_line(order.to_line()) == order
    with pytest.raises(FileNotFoundError):
        handshake(Tls(authorities=str(tmp_path / "none.pem")), "h", "h2")
