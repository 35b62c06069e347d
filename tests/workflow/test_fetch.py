"""Downloads from real servers on the loopback: they cut off, stall, lie, redirect and fail as asked."""

import hashlib
import http.server
import sys
import threading
import time

import pytest

from slipway.errors import SourceError
from slipway.fetch import Patience, fetch, shown

CONTENT = bytes(range(256)) * 40_000  # 10 MB: more than one piece
SHA256 = hashlib.sha256(CONTENT).hexdigest()
QUICK = Patience(connect_s=20, read_s=20, attempts=3, pause_s=0.01, longest_pause_s=0.05)


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers by the list of plans of its server, one for each request; the last one stays."""

    def do_GET(self):
        self.server.seen.append((self.path, dict(self.headers)))
        plan = self.server.plans.pop(0) if len(self.server.plans) > 1 else self.server.plans[0]
        plan(self)

    def log_message(self, *_):
        pass


def whole(handler, content=CONTENT, headers=()):
    handler.send_response(200)
    for name, value in (("Content-Length", str(len(content))), *headers):
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(content)


def ranged(handler):
    start = int(handler.headers["Range"].removeprefix("bytes=").rstrip("-")) if "Range" in handler.headers else 0
    handler.send_response(206 if start else 200)
    if start:
        handler.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
    handler.send_header("Content-Length", str(len(CONTENT) - start))
    handler.end_headers()
    handler.wfile.write(CONTENT[start:])


def cut(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(CONTENT)))
    handler.end_headers()
    handler.wfile.write(CONTENT[: 3 << 20])


def status(code, **headers):
    def answer(handler):
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


@pytest.fixture
def serve():
    servers = []

    def start(*plans):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.plans, server.seen = list(plans), []
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        servers.append(server)
        return server, f"http://127.0.0.1:{server.server_port}/model.tar.gz"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def left(cache):
    return sorted(path.name for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock")


def refused(url, cache, patience=QUICK, sha256=SHA256):
    with pytest.raises(SourceError) as caught:
        fetch(url, sha256, cache, lambda _: None, patience)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_is_fetched_once_and_then_found_without_the_network(serve, tmp_path):
    server, url = serve(whole)

    path = fetch(url, SHA256, tmp_path, lambda _: None, QUICK)
    server.plans[:] = [status(500)]
    again = fetch(url, SHA256, tmp_path, lambda _: None, QUICK)
    offline = fetch("https://nowhere.invalid/model", SHA256, tmp_path, lambda _: None, QUICK)

    assert path == again == offline
    assert path.read_bytes() == CONTENT
    assert len(server.seen) == 1
    assert left(tmp_path) == [SHA256]


def test_a_file_that_was_damaged_in_the_cache_is_fetched_again(serve, tmp_path):
    _, url = serve(whole)
    path = fetch(url, SHA256, tmp_path, lambda _: None, QUICK)
    path.write_bytes(CONTENT[:-1])
    said = []

    assert fetch(url, SHA256, tmp_path, said.append, QUICK).read_bytes() == CONTENT
    assert any("damaged in the cache" in line for line in said)


def test_another_digest_is_refused_and_nothing_is_kept(serve, tmp_path):
    server, url = serve(whole)

    message = refused(url, tmp_path, sha256="0" * 64)

    assert f"expected SHA-256 {'0' * 64}, found {SHA256}; nothing is kept." in message
    assert left(tmp_path) == []
    assert len(server.seen) == 1


def test_a_download_that_is_cut_off_goes_on_where_it_stopped(serve, tmp_path):
    server, url = serve(cut, status(503), ranged)
    said = []

    assert fetch(url, SHA256, tmp_path, said.append, QUICK).read_bytes() == CONTENT

    assert [headers.get("Range") for _, headers in server.seen] == [None, f"bytes={3 << 20}-", f"bytes={3 << 20}-"]
    assert sum("trying again" in line for line in said) == 2


def test_a_server_without_ranges_starts_again(serve, tmp_path):
    _, url = serve(cut, whole)

    assert fetch(url, SHA256, tmp_path, lambda _: None, QUICK).read_bytes() == CONTENT


def test_what_a_killed_process_left_is_gone_on_with_or_forgotten(serve, tmp_path):
    server, url = serve(ranged)
    (tmp_path / "sources").mkdir()
    partial = tmp_path / f"sources/{SHA256}.partial"

    partial.write_bytes(CONTENT[:1000])
    assert fetch(url, SHA256, tmp_path, lambda _: None, QUICK).read_bytes() == CONTENT
    (tmp_path / "sources" / SHA256).unlink()
    partial.write_bytes(b"x" * 1000)  # of another file: its digest shows it
    assert fetch(url, SHA256, tmp_path, lambda _: None, QUICK).read_bytes() == CONTENT

    assert [headers.get("Range") for _, headers in server.seen] == ["bytes=1000-", "bytes=1000-", None]
    assert left(tmp_path) == [SHA256]


def test_patience_ends(serve, tmp_path):
    server, url = serve(status(503, Retry_After="7"))
    began = time.monotonic()

    message = refused(url, tmp_path)

    assert "cannot be fetched: status 503 Service Unavailable (3 tries)" in message
    assert len(server.seen) == 3
    assert time.monotonic() - began < 14  # a server does not decide how long we wait


def test_a_server_that_is_silent_is_given_up(serve, tmp_path):
    done = threading.Event()
    _, url = serve(lambda _: done.wait(10))

    message = refused(url, tmp_path, Patience(connect_s=1, read_s=0.05, attempts=2, pause_s=0.01))
    done.set()

    assert "(2 tries)" in message


def test_a_trickle_is_given_up_too(serve, tmp_path):
    done = threading.Event()

    def trickle(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(CONTENT)))
        handler.end_headers()
        while not done.wait(0.01):
            handler.wfile.write(b"x")

    _, url = serve(trickle)
    patience = Patience(read_s=0.1, attempts=1, pause_s=0.01, slowest_bytes_per_s=1000)

    message = refused(url, tmp_path, patience)
    done.set()

    assert "stalled at" in message


@pytest.mark.parametrize(
    ("plan", "expected", "requests"),
    [
        (status(404), "answered 404 Not Found. Has it moved, or is a token missing?", 1),
        (status(302, Location="file:///etc/passwd"), "redirects from http to file:///etc/passwd: refused.", 1),
        (status(302, Location="ftp://a/b"), "redirects from http to ftp://a/b: refused.", 1),
        (status(302, Location="/again"), "redirects more than 5 times.", 6),
    ],
)
def test_what_will_not_get_better_is_not_tried_again(plan, expected, requests, serve, tmp_path):
    server, url = serve(plan)

    assert refused(url, tmp_path).endswith(expected)
    assert len(server.seen) == requests
    assert left(tmp_path) == []


def test_a_redirect_is_followed(serve, tmp_path):
    _, target = serve(whole)
    _, url = serve(status(302, Location=target))

    assert fetch(url, SHA256, tmp_path, lambda _: None, QUICK).read_bytes() == CONTENT


@pytest.mark.parametrize("told", [True, False])
def test_a_file_that_is_too_large_is_refused(told, serve, tmp_path):
    def untold(handler):
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(CONTENT)

    _, url = serve(whole if told else untold)

    message = refused(url, tmp_path, Patience(most_bytes=1 << 20))

    assert "larger than 1048576 bytes" in message
    assert left(tmp_path) == []


def test_what_is_packed_stays_packed(serve, tmp_path):
    """Servers that call a .tar.gz `Content-Encoding: gzip` are many; unpacking it would give another digest."""
    _, url = serve(lambda handler: whole(handler, headers=[("Content-Encoding", "gzip")]))

    assert fetch(url, SHA256, tmp_path, lambda _: None, QUICK).read_bytes() == CONTENT


def test_a_proxy_is_used(serve, tmp_path, monkeypatch):
    server, url = serve(whole)
    monkeypatch.setenv("http_proxy", url.removesuffix("/model.tar.gz"))
    monkeypatch.setenv("no_proxy", "")

    fetch("http://models.invalid/a.tar", SHA256, tmp_path, lambda _: None, QUICK)

    assert [path for path, _ in server.seen] == ["http://models.invalid/a.tar"]


def test_two_that_want_it_fetch_it_once(serve, tmp_path):
    server, url = serve(whole)
    threads = [
        threading.Thread(target=fetch, args=(url, SHA256, tmp_path, lambda _: None, QUICK), daemon=True)
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert len(server.seen) == 1
    assert left(tmp_path) == [SHA256]


@pytest.fixture
def store():
    """An object store in memory, under the name of a real one."""
    import fsspec
    from fsspec.implementations.memory import MemoryFileSystem

    class Store(MemoryFileSystem):
        protocol = "s3"
        store = {}  # noqa: RUF012 - as its parent has it
        pseudo_dirs = [""]  # noqa: RUF012

        @classmethod
        def _strip_protocol(cls, path):
            return super()._strip_protocol(path.removeprefix("s3://"))

    fsspec.register_implementation("s3", Store, clobber=True)
    yield Store()
    sys.modules["fsspec.registry"]._registry.pop("s3")


def test_an_object_store_is_read(store, tmp_path):
    store.pipe("/bucket/model.tar", CONTENT)

    assert fetch("s3://bucket/model.tar", SHA256, tmp_path, lambda _: None, QUICK).read_bytes() == CONTENT
    assert "nothing is kept" in refused("s3://bucket/model.tar", tmp_path, sha256="0" * 64)
    assert "s3://bucket/none.tar: FileNotFoundError: " in refused("s3://bucket/none.tar", tmp_path, sha256="1" * 64)


def test_a_store_that_fails_in_between_is_gone_on_with(store, tmp_path, monkeypatch):
    from fsspec.implementations.memory import MemoryFile

    store.pipe("/bucket/model.tar", CONTENT)
    places = []

    def read(file, size):
        places.append(file.tell())
        if len(places) == 4:
            raise TimeoutError("the store is tired")
        return super(MemoryFile, file).read(size)

    monkeypatch.setattr(MemoryFile, "read", read)
    said = []

    assert fetch("s3://bucket/model.tar", SHA256, tmp_path, said.append, QUICK).read_bytes() == CONTENT
    assert any("TimeoutError: the store is tired; trying again" in line for line in said)
    assert places[4] == 3 << 20  # on from where it was, not from the start


def test_a_store_without_its_library_says_which(tmp_path):
    assert "pip install 'slipway[gs]'" in refused("gs://bucket/model.tar", tmp_path)


def test_secrets_in_addresses_are_not_shown():
    assert shown("https://me:word@host:1/a.tar?X-Amz-Signature=abc#x") == "https://host:1/a.tar?…"
