"""What is spoken at a port: servers of real sockets, good and bad."""

import contextlib
import socket
import ssl
import threading
from dataclasses import replace

import pytest
import trustme
from tests.workflow.test_bench import Running

from slipway.bench import spoken
from slipway.errors import ServerError, SettingsError
from slipway.security import Security


@contextlib.contextmanager
def answering(answer, wrap=lambda connection: connection, choose=None):
    """Listen; send *answer*, or what *choose* says of the connection, to whatever is asked first, and hang up."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with contextlib.suppress(OSError), wrap(connection) as wrapped:
                    wrapped.recv(65536)
                    wrapped.sendall(choose(wrapped) if choose else answer)

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
    assert spoken.spoken_protocols("127.0.0.1", server.rest) == ["rest"]
    assert spoken.spoken_protocols("127.0.0.1", server.grpc) == ["grpc"]


def test_ports_are_found_by_what_they_speak_or_as_they_are_named(server):
    rest, grpc = f"127.0.0.1:{server.rest}", f"127.0.0.1:{server.grpc}"
    both = ["rest", "grpc"]

    assert list(spoken.find([grpc], rest)) == both
    assert list(spoken.find([f"grpc://{grpc}", f"http://{rest}"], None)) == both
    assert list(spoken.find([rest, grpc], None)) == both
    assert spoken.find([rest], None)["rest"].port == server.rest
    assert list(spoken.find([grpc], None)) == ["grpc"]


def test_a_port_of_the_other_protocol_is_told(server):
    with pytest.raises(ServerError, match=rf"^grpc://127.0.0.1:{server.rest}: expected gRPC, found REST\.$"):
        spoken.find([f"grpc://127.0.0.1:{server.rest}"], None)
    with pytest.raises(ServerError, match=rf"^http://127.0.0.1:{server.grpc}: expected REST, found gRPC\.$"):
        spoken.find([f"127.0.0.1:{server.grpc}"], f"127.0.0.1:{server.grpc}")


@contextlib.contextmanager
def secured(context, answer=lambda _: b""):
    """Listen with TLS; *answer* says what comes back to the first bytes of a connection."""
    with answering(None, lambda plain: context.wrap_socket(plain, server_side=True), answer) as port:
        yield port


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    made = trustme.CA()
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    made.cert_pem.write_to_path(path)
    return made, Security(tls=True, authorities=path)


def context_of(authority, name="127.0.0.1", *alpn):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    if alpn:
        context.set_alpn_protocols(alpn)
    return context


def speaks(connection):
    """Answer in what ALPN came to."""
    if connection.selected_alpn_protocol() == "h2":
        return bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
    return b"HTTP/1.1 404 Not Found\r\n\r\n"


def speaks_grpc(connection):
    """Answer in HTTP/2, or not at all."""
    return speaks(connection) if connection.selected_alpn_protocol() == "h2" else b""


@pytest.mark.parametrize(
    ("alpn", "found"),
    [(("h2",), ["grpc"]), (("http/1.1",), ["rest"]), ((), ["rest"]), (("h2", "http/1.1"), ["rest", "grpc"])],
)
def test_what_is_spoken_over_tls_is_what_alpn_comes_to(authority, alpn, found):
    made, trusted = authority
    speaking = speaks_grpc if alpn == ("h2",) else speaks
    with secured(context_of(made, "127.0.0.1", *alpn), speaking) as port:
        places = spoken.find([f"127.0.0.1:{port}"], None, trusted)
        said = [spoken.negotiated(place, trusted) for place in places.values()]

    assert list(places) == found
    assert all(place.tls for place in places.values())
    assert all(one.startswith("TLSv1.3, TLS_") for one in said)


def test_a_scheme_says_it_as_well(authority):
    made, trusted = authority
    with secured(context_of(made, "127.0.0.1", "h2"), speaks_grpc) as port:
        (place,) = spoken.find([f"grpcs://127.0.0.1:{port}"], None, replace(trusted, tls=False)).values()
        assert place.tls
        with pytest.raises(ServerError, match=rf"^https://127.0.0.1:{port}: expected REST, found gRPC\.$"):
            spoken.find([f"https://127.0.0.1:{port}"], None, trusted)
        with pytest.raises(SettingsError, match=r"says that it is plain, and --tls that it is not"):
            spoken.find([f"grpc://127.0.0.1:{port}"], None, trusted)


def test_plain_where_tls_is_meant_and_tls_where_it_is_not_are_one_line_each(authority, server):
    made, trusted = authority
    with pytest.raises(ServerError, match=rf"^127.0.0.1:{server.rest}: speaks REST without TLS; leave --tls out"):
        spoken.find([f"127.0.0.1:{server.rest}"], None, trusted)
    with pytest.raises(ServerError, match=rf"^127.0.0.1:{server.grpc}: speaks gRPC without TLS; leave --tls out"):
        spoken.find([f"127.0.0.1:{server.grpc}"], None, trusted)
    with (
        secured(context_of(made)) as port,
        pytest.raises(ServerError, match=rf"^127.0.0.1:{port}: speaks TLS\. Say --tls, and --ca-file FILE if"),
    ):
        spoken.find([f"127.0.0.1:{port}"], None)


def test_certificates_that_are_not_believed_say_what_to_name(authority):
    made, trusted = authority
    with secured(context_of(made, "model.example", "h2"), speaks_grpc) as port:
        with pytest.raises(ServerError, match=r"its certificate is not believed .*name who signed it with --ca-file"):
            spoken.spoken_protocols("127.0.0.1", port, Security(tls=True))
        with pytest.raises(ServerError, match=r"not believed .*mismatch.*; --server-name NAME says whose it is\.$"):
            spoken.spoken_protocols("127.0.0.1", port, trusted)
        named = replace(trusted, server_name="model.example")
        assert spoken.spoken_protocols("127.0.0.1", port, named) == ["grpc"]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_server_that_wants_to_know_its_clients_says_so(authority, version, tmp_path):
    made, trusted = authority
    context = context_of(made, "127.0.0.1", "h2")
    context.load_verify_locations(trusted.authorities)
    context.verify_mode, context.maximum_version = ssl.CERT_REQUIRED, version
    made.issue_cert("me@example.org").private_key_and_cert_chain_pem.write_to_path(tmp_path / "me.pem")
    with secured(context, speaks_grpc) as port:
        with pytest.raises(ServerError, match=r"asks for a client's certificate \(--cert-file FILE, --key-file FILE\)"):
            spoken.spoken_protocols("127.0.0.1", port, trusted)
        stranger = trustme.CA().issue_cert("me@example.org")
        stranger.private_key_and_cert_chain_pem.write_to_path(tmp_path / "stranger.pem")
        with pytest.raises(ServerError, match=r"does not believe the client's certificate"):
            spoken.spoken_protocols("127.0.0.1", port, replace(trusted, certificate=tmp_path / "stranger.pem"))
        known = replace(trusted, certificate=tmp_path / "me.pem")
        (place,) = spoken.find([f"127.0.0.1:{port}"], None, known).values()
        assert spoken.negotiated(place, known).endswith(", client certificate")


def test_what_is_no_model_server_is_told_by_what_it_says():
    with answering(b"220 mail.example ESMTP\r\n") as port, pytest.raises(ServerError, match=r"answered b'220 mail"):
        spoken.find([f"127.0.0.1:{port}"], None)
    with (
        answering(b"") as port,
        pytest.raises(ServerError, match=r"took the connection and answered nothing; expected"),
    ):
        spoken.find([f"127.0.0.1:{port}"], None)
    with socket.socket() as held:
        # Bound, and nobody listens.
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        with pytest.raises(ServerError, match=rf"^127.0.0.1:{port}: no connection \(Connection refused\). Is the"):
            spoken.find([f"127.0.0.1:{port}"], None)
