"""Certificates are made anew for every run; nothing here is a secret."""

import datetime as dt
import logging
import socket
import ssl
import threading

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from slipway_server.transports import tls
from slipway_wire.status import InvalidArgument

WAIT_S = 90.0


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def ours(authority):
    return authority.issue_cert("localhost")


def text(pem):
    return b"".join(one.bytes() for one in pem).decode() if isinstance(pem, list) else pem.bytes().decode()


@pytest.fixture
def write(tmp_path):
    """`write(server_key=..., ...)` writes an SSLConfig file."""

    def write(**fields):
        lines = []
        for name, value in fields.items():
            escaped = value.replace("\\", "\\\\").replace("\n", "\\n") if isinstance(value, str) else ""
            lines.append(f'{name}: "{escaped}"' if isinstance(value, str) else f"{name}: {str(value).lower()}")
        path = tmp_path / "ssl.config"
        path.write_text("\n".join(lines))
        return path

    return write


@pytest.fixture
def good(ours):
    return {"server_key": text(ours.private_key_pem), "server_cert": text(ours.cert_chain_pems)}


def test_pem_text_is_taken_as_it_is(write, good, authority):
    read = tls.read(write(**good, custom_ca=text(authority.cert_pem), client_verify=True))

    assert (read.key, read.certificate, read.client_authority) == (*good.values(), text(authority.cert_pem))
    assert "PRIVATE" not in repr(read)


def test_paths_are_read_beside_the_config_file(write, good, authority, tmp_path):
    for name, content in good.items():
        (tmp_path / f"{name}.pem").write_text("made by hand\n" + content)
    absolute = tmp_path / "ca.pem"
    absolute.write_text(text(authority.cert_pem))

    read = tls.read(
        write(server_key="server_key.pem", server_cert="server_cert.pem", custom_ca=str(absolute), client_verify=True)
    )

    assert read.key.endswith(good["server_key"])
    assert read.client_authority == text(authority.cert_pem)


def test_without_client_verify_nobody_is_asked_for_a_certificate(write, good):
    assert tls.read(write(**good, custom_ca="not looked at")).client_authority is None


def damaged(kind):
    return f"-----BEGIN {kind}-----\nAAAA\n-----END {kind}-----\n"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"server_key": ""}, "server_key is missing"),
        ({"server_cert": " "}, "server_cert is missing"),
        ({"server_cert": "nope.pem"}, "nope.pem): No such file or directory; give PEM text"),
        ({"server_cert": "."}, "Is a directory"),
        ({"server_cert": damaged("CERTIFICATE")}, "server_key or server_cert is damaged"),
        ({"server_key": damaged("PRIVATE KEY")}, "server_key or server_cert is damaged"),
        ({"server_key": damaged("CERTIFICATE")}, "expected a PEM block PRIVATE KEY, found CERTIFICATE"),
        ({"server_cert": damaged("RSA PRIVATE KEY")}, "expected a PEM block CERTIFICATE, found RSA PRIVATE KEY"),
        ({"server_key": damaged("ENCRYPTED PRIVATE KEY")}, "the key is encrypted"),
        ({"client_verify": True}, "client_verify needs custom_ca"),
        ({"client_verify": True, "custom_ca": damaged("CERTIFICATE")}, "custom_ca is damaged"),
        ({"client_verify": True, "custom_ca": "nope.pem"}, "custom_ca"),
    ],
)
def test_what_cannot_work_is_told_in_one_line_before_any_port_opens(write, good, changes, message):
    path = write(**{**good, **changes})

    with pytest.raises(InvalidArgument) as refusal:
        tls.read(path)

    assert message in refusal.value.message
    assert str(path) in refusal.value.message
    assert "\n" not in refusal.value.message


def test_a_key_of_another_certificate_is_told(write, good, authority):
    stranger = authority.issue_cert("localhost")

    with pytest.raises(InvalidArgument, match="server_key does not belong to server_cert"):
        tls.read(write(**{**good, "server_key": text(stranger.private_key_pem)}))


def test_an_encrypted_key_does_not_ask_for_a_password(write, good):
    key = serialization.load_pem_private_key(good["server_key"].encode(), None)
    encrypted = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.BestAvailableEncryption(b"secret"),
    ).decode()

    with pytest.raises(InvalidArgument, match="the key is encrypted"):
        tls.read(write(**{**good, "server_key": encrypted}))


@pytest.mark.parametrize(
    ("years", "said"), [((2001, 2002), "certificate has expired"), ((2901, 2902), "certificate is not yet valid")]
)
def test_a_certificate_out_of_its_time_is_warned_of(write, authority, caplog, years, said):
    """Clients that do not check go on working; those that do would tell nobody but themselves."""
    start, end = (dt.datetime(year, 1, 1, tzinfo=dt.UTC) for year in years)
    old = authority.issue_cert("localhost", not_before=start, not_after=end)

    with caplog.at_level(logging.WARNING):
        tls.read(write(server_key=text(old.private_key_pem), server_cert=text(old.cert_chain_pems)))

    assert said in caplog.text


def test_a_good_certificate_is_not(write, good, caplog):
    tls.read(write(**good))

    assert not caplog.records


def shake_hands(server_context, client_context):
    """Return what both sides say of their handshake over a real connection: a protocol or an error."""
    said = {}

    def shake(name, context, end, **options):
        try:
            with context.wrap_socket(end, **options) as stream:
                stream.settimeout(WAIT_S)
                if name == "server":
                    stream.sendall(b"hello")
                else:
                    # With TLS 1.3 a client learns of its refusal by what it reads.
                    assert stream.recv(5) == b"hello"
                said[name] = stream.selected_alpn_protocol()
        except (OSError, AssertionError) as error:
            said[name] = error

    ends = socket.socketpair()
    server = threading.Thread(target=shake, args=("server", server_context, ends[0]), kwargs={"server_side": True})
    server.start()
    shake("client", client_context, ends[1], server_hostname="localhost")
    server.join(WAIT_S)
    return said


def client(authority, identity=None):
    context = ssl.create_default_context()
    authority.configure_trust(context)
    context.set_alpn_protocols(["h2"])
    if identity:
        identity.configure_cert(context)
    return context


def test_the_context_serves_who_trusts_us(write, good, authority):
    said = shake_hands(tls.read(write(**good)).context(["h2"]), client(authority))

    assert said == {"server": "h2", "client": "h2"}


def test_the_context_refuses_clients_without_a_certificate_of_the_authority(write, good, authority):
    context = tls.read(write(**good, custom_ca=text(authority.cert_pem), client_verify=True)).context(["h2"])
    friend, stranger = authority.issue_cert("me"), trustme.CA().issue_cert("me")

    assert shake_hands(context, client(authority, friend)) == {"server": "h2", "client": "h2"}
    assert isinstance(shake_hands(context, client(authority))["server"], ssl.SSLError)
    assert isinstance(shake_hands(context, client(authority, stranger))["server"], ssl.SSLError)
