"""Certificates of both sides, against a server of real TLS; what cannot be used is one line."""

import argparse
import contextlib
import http.server
import ssl
import threading

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from slipway import security, server_metrics, servers
from slipway.errors import SettingsError
from slipway.security import Security, headers, http_connection
from slipway_wire.loads import Tls


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """An authority, a server's identity for the name model.example alone, and a client's."""
    directory = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(directory / "ca.pem")
    authority.issue_cert("model.example").private_key_and_cert_chain_pem.write_to_path(directory / "server.pem")
    client = authority.issue_cert("client@example.org")
    client.private_key_and_cert_chain_pem.write_to_path(directory / "client.pem")
    client.private_key_pem.write_to_path(directory / "key.pem")
    client.cert_chain_pems[0].write_to_path(directory / "cert.pem")
    return directory


@pytest.fixture(scope="module")
def server(files):
    """Ask for a client certificate, and tell who asked what."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers["Host"], self.connection.getpeercert()["subjectAltName"][0][1]))
            body = b"m 1\n" if self.path.endswith("metrics") else b'{"model_version_status": []}'
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files / "server.pem")
    context.load_verify_locations(files / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.socket = context.wrap_socket(made.socket, server_side=True)
    made.handle_error = lambda *_: None
    thread = threading.Thread(target=made.serve_forever, args=(0.01,))
    thread.start()
    yield made.server_port, asked
    made.shutdown()
    made.server_close()
    thread.join()


@pytest.mark.parametrize("own", [("client.pem", None), ("cert.pem", "key.pem")])
def test_name_authority_and_own_certificate_reach_the_server(files, server, own):
    port, asked = server
    certificate, key = own
    known = Security(
        tls=True,
        authorities=files / "ca.pem",
        certificate=files / certificate,
        key=files / key if key else None,
        server_name="model.example",
    )

    assert servers.version_states("127.0.0.1", port, "m", known) == {}
    assert asked[-1] == ("/v1/models/m", f"model.example:{port}", "client@example.org")
    assert server_metrics.scrape("127.0.0.1", port, known) == {("m", frozenset()): 1.0}
    # The certificate is for the name, not for the address.
    assert servers.version_states("127.0.0.1", port, "m", Security(tls=True, authorities=files / "ca.pem")) is None


def test_what_cannot_be_used_is_named(files, tmp_path):
    with pytest.raises(SettingsError, match=r"cert.pem: no certificate with its own key in PEM"):
        Security(tls=True, certificate=files / "cert.pem").context()
    with pytest.raises(SettingsError, match=r"none.pem: no certificates in PEM"):
        http_connection("h", 1, Security(tls=True, authorities=tmp_path / "none.pem"), timeout_s=1)
    key = serialization.load_pem_private_key((files / "key.pem").read_bytes(), None)
    (tmp_path / "locked.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(SettingsError, match=r"the key is encrypted"):
        security.grpc_channel("h", 1, Security(tls=True, certificate=files / "cert.pem", key=tmp_path / "locked.pem"))


def test_the_load_generator_hears_of_it_by_whole_paths(files, monkeypatch):
    monkeypatch.chdir(files)
    parser = argparse.ArgumentParser()
    security.add_arguments(parser)
    words = ["--ca", "ca.pem", "--cert-file", "cert.pem", "--key-file", "key.pem", "--server-name", "n"]
    given = parser.parse_args(words)
    known = security.of_arguments(given, tls=True)

    assert known.of_load() == Tls(
        authorities=str(files / "ca.pem"),
        certificate=str(files / "cert.pem"),
        key=str(files / "key.pem"),
        server_name="n",
    )
    assert headers(8501, known) == {"Host": "n:8501"}
    assert security.named(given) == ["--ca-file", "--cert-file", "--key-file", "--server-name"]
    assert Security(token="t").of_load() is None
    with pytest.raises(SettingsError, match=r"--key-file: which certificate is it of\?"):
        security.of_arguments(parser.parse_args(["--key-file", "k"]), tls=True)
    for odd in (".x", "a..b", 70 * "x", "two words", "line\nfeed"):
        with pytest.raises(SettingsError, match=r"--server-name: .*: no name of a host"):
            security.of_arguments(parser.parse_args(["--server-name", odd]), tls=True)
    with contextlib.closing(security.grpc_channel("127.0.0.1", 1, known)):
        pass
