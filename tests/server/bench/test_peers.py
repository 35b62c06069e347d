"""Other servers: what they are asked and answer, without one of them; and a run in which one does not answer."""

import argparse
import asyncio
import importlib
import json
import os
import struct
import sys
from pathlib import Path
from types import SimpleNamespace

import httptools
import numpy as np
import pytest

from slipway_server.transports.http2.server import start_server
from slipway_server.transports.rpc import Unary

BENCH = Path(__file__).parents[3] / "server" / "bench"
SIZE = "Inference-Header-Content-Length"
# A serialized tf.Example holds floats, which are no UTF-8.
EXAMPLE = b"\x0a\x06\x12\x04\xcd\xcc\xcc\xbe\x00"
TRUTH = {"y": np.array([[2.5, 3.0]], np.float32)}


@pytest.fixture
def harness(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    rooms = ("beside", "loads", "peers", "processes")
    return SimpleNamespace(**{room: importlib.import_module(f"harness.{room}") for room in rooms})


@pytest.fixture
def triton_app(monkeypatch):
    """The adapter; what it imports of Triton, it imports where it is used."""
    monkeypatch.syspath_prepend(str(BENCH / "harness" / "adapters"))
    return importlib.import_module("triton_app")


class Http(asyncio.Protocol):
    """Answers each request with *status* and *content*, and keeps requests in *seen*."""

    def __init__(self, seen, status, content, headers):
        self.seen = seen
        head = {"Content-Length": len(content), **headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        self.answer = f"HTTP/1.1 {status} Said\r\n{lines}\r\n".encode() + content

    def connection_made(self, transport):
        self.transport, self.parser = transport, httptools.HttpRequestParser(self)
        self.headers, self.body = {}, b""

    def data_received(self, data):
        self.parser.feed_data(data)

    def on_header(self, name, value):
        self.headers[name.decode()] = value.decode()

    def on_body(self, body):
        self.body += body

    def on_message_complete(self):
        self.seen.append((self.headers, self.body))
        self.transport.write(self.answer)
        self.headers, self.body = {}, b""


@pytest.fixture
def rest(harness, serve):
    """`rest(status, content, headers)` starts a server; gives where, and the requests that it gets."""

    def start(status, content, headers=None):
        seen = []
        port = serve(lambda: Http(seen, status, content, headers or {}))
        return harness.processes.Started(SimpleNamespace(pid=os.getpid()), rest_port=port), seen

    return start


def in_binary(outputs):
    """Answer as Triton does: the JSON's size for the header, and the content."""
    told = [
        {"name": name, "datatype": "FP32", "shape": list(array.shape), "parameters": {"binary_data_size": array.nbytes}}
        for name, array in outputs.items()
    ]
    head = json.dumps({"model_name": "model", "outputs": told}).encode()
    return len(head), head + b"".join(array.tobytes() for array in outputs.values())


@pytest.fixture
def peer(harness):
    return harness.peers.OpenInference("triton", Path("python"), ("rest", "grpc"), ({"instances": 1},))


@pytest.fixture
def case(harness):
    return harness.peers.Case("recommender", Path(), None, None, TRUTH, 1)


@pytest.fixture
def servers(harness, tmp_path, triton_app):
    """Servers with what the adapter has written for the recommender, but for the message: Triton's client writes that."""
    body, headers = triton_app.over_http(*triton_app.in_binary(np.array([EXAMPLE], object)))
    for suffix, content in {"body": body, "headers": json.dumps(headers).encode(), "message": b"message"}.items():
        (tmp_path / f"triton-recommender.{suffix}").write_bytes(content)
    return harness.processes.Servers(tmp_path, [0])


def test_bytes_that_are_no_text_are_sent_as_they_are_each_behind_its_length(triton_app):
    tensor, raw = triton_app.in_binary(np.array([EXAMPLE, b""], object))
    body, headers = triton_app.over_http(tensor, raw)

    size = int(headers[SIZE])
    (described,) = json.loads(body[:size])["inputs"]
    assert (described["datatype"], described["shape"]) == ("BYTES", [2, 1])
    assert body[size:] == struct.pack("<I", len(EXAMPLE)) + EXAMPLE + struct.pack("<I", 0)
    assert described["parameters"]["binary_data_size"] == len(body) - size


def test_numbers_are_sent_as_they_lie(triton_app):
    array = np.arange(6, dtype=np.float32).reshape(1, 2, 3)

    tensor, raw = triton_app.in_binary(array)

    assert tensor == {"name": "x", "datatype": "FP32", "shape": [1, 2, 3]}
    assert raw == array.tobytes()


def test_an_answer_is_read_in_binary_and_in_json(harness):
    outputs = {"a": np.array([[0.5, -1.25]], np.float32), "b": np.array([[3.0]], np.float32)}
    size, content = in_binary(outputs)
    plain = json.dumps({"outputs": [{"name": "a", "data": [0.5, -1.25]}]}).encode()

    assert harness.peers.rest_outputs(content, size) == {"a": [0.5, -1.25], "b": [3.0]}
    assert harness.peers.rest_outputs(plain, len(plain)) == {"a": [0.5, -1.25]}


def test_what_was_checked_over_rest_is_what_the_load_generator_sends(harness, peer, case, servers, rest):
    size, content = in_binary(TRUTH)
    started, seen = rest(200, content, {SIZE: size})

    request = peer.request(servers, case, started, "rest")

    ((headers, body),) = seen
    assert body.endswith(struct.pack("<I", len(EXAMPLE)) + EXAMPLE)
    assert request.body("rest").read_bytes() == body
    script = request.rest.read_text()
    for name, value in request.rest_headers.items():
        assert headers[name] == value
        assert f'wrk.headers["{name}"] = "{value}"' in script
    assert int(request.rest_headers[SIZE]) == body.index(struct.pack("<I", len(EXAMPLE)))
    with pytest.raises(ValueError, match="no request over grpc"):
        request.body("grpc")


WRONG = in_binary({"y": np.array([[2.5, 3.1]], np.float32)})
SHORT = in_binary({"y": np.array([[2.5]], np.float32)})
OTHER = in_binary({"z": np.array([[2.5, 3.0]], np.float32)})


@pytest.mark.parametrize(
    ("status", "size", "content", "told"),
    [
        (
            501,
            None,
            b'{"error":"no such thing"}',
            """/v2/models/model/infer answered 501: b'{"error":"no such thing"}'""",
        ),
        (200, None, b"<html>", "answered 200, but nothing that can be read: b'<html>'"),
        (200, None, b'{"outputs":["y"]}', "answered 200, but nothing that can be read"),
        (200, *in_binary(TRUTH)[:1], in_binary(TRUTH)[1][:-3], "answered 200, but nothing that can be read"),
        (200, *WRONG, "triton answers recommender over rest with {'y': [2.5, 3.0999"),
        (200, *SHORT, "triton answers recommender over rest with {'y': [2.5]}"),
        (200, *OTHER, "triton answers recommender over rest with {'z'"),
    ],
    ids=["refused", "no-json", "no-protocol", "cut-off", "wrong", "too-few", "another-output"],
)
def test_who_answers_otherwise_is_told_with_what_it_answered(
    harness, peer, case, servers, rest, status, size, content, told
):
    """A server that is fast and wrong has won nothing."""
    started, _ = rest(status, content, {SIZE: size} if size else {})

    with pytest.raises(harness.processes.NoAnswer) as raised:
        peer.request(servers, case, started, "rest")

    assert told in str(raised.value)


def test_a_right_answer_may_differ_in_its_last_digit(harness, peer, case):
    peer._check(case, {"y": [[2.5, 3.0000001]]}, "rest")


def test_nobody_listens(harness, peer, case, servers):
    started = harness.processes.Started(None, rest_port=harness.processes.free_port())

    with pytest.raises(
        harness.processes.NoAnswer, match="/v2/models/model/infer was not answered: ConnectionRefusedError"
    ):
        peer.request(servers, case, started, "rest")


def test_who_does_not_start_is_told_with_its_log_and_ended(harness, case, tmp_path, monkeypatch):
    monkeypatch.setattr(harness.peers, "ADAPTERS", tmp_path)
    (tmp_path / "triton_app.py").write_text("raise SystemExit('no library')")
    servers = harness.processes.Servers(tmp_path, [0])
    peer = harness.peers.OpenInference("triton", Path(sys.executable), ("rest",), ())
    asked = harness.peers.Case("m", tmp_path, SimpleNamespace(signature="predict"), None, TRUTH, 1)

    with pytest.raises(harness.processes.NoAnswer, match=r"(?s)did not start.*no library"):
        peer.start(servers, asked, {})

    assert servers._all == []
    servers.close()


REFUSED = "  215488 requests in 2.00s, 21.37MB read\n  Non-2xx or 3xx responses: 215488\n"
H2LOAD = """finished in 1.00s, 20.00 req/s, 1.00KB/s
requests: 20 total, 20 started, 20 done, 20 succeeded, 0 failed, 0 errored, 0 timeout
traffic: 1.00KB (1000) total, 100B (100) headers (space savings 90.00%), 0B (0) data
"""


@pytest.mark.parametrize(
    ("status", "told"), [(405, "asked once more, /p answered 405: b'not so'"), (200, "one request alone is answered")]
)
def test_of_a_load_that_was_refused_is_told_what_one_request_is_answered(
    harness, monkeypatch, tmp_path, rest, status, told
):
    """Load generators count answers, and do not tell them."""
    monkeypatch.setattr(harness.loads, "load", lambda *_: (REFUSED, 0.5))
    started, seen = rest(status, b"not so")
    headers = {"Content-Type": "application/octet-stream"}
    request = harness.loads.Request(
        "m", harness.loads.rest_file("m", EXAMPLE, tmp_path, headers), "/p", rest_headers=headers
    )

    with pytest.raises(harness.processes.NoAnswer, match="Non-2xx or 3xx responses: 215488") as raised:
        harness.loads.drive("rest", started, request, 2.0, [0], 8)

    assert told in str(raised.value)
    assert seen[0][1] == EXAMPLE
    assert seen[0][0]["Content-Type"] == "application/octet-stream"


def test_of_calls_that_were_refused_is_told_what_one_call_is_answered(harness, monkeypatch, tmp_path, loop_thread):
    """To h2load every gRPC error is a success, of no bytes."""
    monkeypatch.setattr(harness.loads, "load", lambda *_: (H2LOAD, 0.5))

    async def take(body, _incoming):
        return bytes(body)

    server, (port,) = loop_thread.run(
        start_server({"t.S": {"Take": Unary(take, is_stepwise=True)}}, ["127.0.0.1:0"], {})
    )
    started = harness.processes.Started(SimpleNamespace(pid=os.getpid()), grpc_port=port)
    file = harness.loads.grpc_file("m", b"message", tmp_path)
    request = harness.loads.Request("m", grpc=file, grpc_path="/t.S/Give", answer_bytes=10)

    with pytest.raises(
        harness.processes.NoAnswer, match=r"0 bytes are no 20 answers of 10 bytes; .* answered UNIMPLEMENTED"
    ):
        harness.loads.drive("grpc", started, request, 1.0, [0], 8)

    loop_thread.run(server.stop(None))


class Another:
    """A server of others, of whose answers a table decides: (settings, protocol) -> why it is not answered."""

    name, protocols, settings = "another", ("rest", "grpc"), ({"wait": 1}, {"wait": 2})

    def __init__(self, harness, lost):
        self.harness, self.lost = harness, lost

    def start(self, servers, _case, settings):
        process = servers.start("another", ["-c", "import signal; signal.pause()"], is_pinned=False)
        return self.harness.processes.Started(process, rest_port=settings["wait"])

    def request(self, servers, case, started, protocol):
        if why := self.lost.get((started.rest_port, protocol)):
            raise self.harness.processes.NoAnswer(why)
        return self.harness.loads.Request(case.model, grpc_path=protocol)


@pytest.fixture
def run(harness, tmp_path, monkeypatch):
    """A run whose load generator finds 10 requests/s for each unit of the setting."""
    monkeypatch.setattr(harness.loads, "drive", lambda _protocol, started, *_: {"per_s": 10.0 * started.rest_port})
    made = harness.beside.Beside(argparse.Namespace(rounds=1, seconds=1.0, quick=False), tmp_path)
    yield made
    made.servers.close()


def test_a_protocol_that_is_not_answered_costs_neither_the_other_nor_the_run(harness, run, case):
    another = Another(harness, {(1, "rest"): "it answered 501", (2, "rest"): "it answered 502"})

    ((protocol, started, _),) = run._tuned(another, case)

    assert (protocol, started.rest_port) == ("grpc", 2), "at its best setting"
    assert run.results["skipped"] == {"recommender, beside other servers: another, rest": "it answered 501"}
    assert run.results["tuning"]["another, recommender, grpc"] == {"wait=1": 10.0, "wait=2": 20.0}
    assert [process.pid for process in run.servers._all] == [started.process.pid], "whoever is not measured has ended"


def test_a_setting_that_does_not_answer_is_told_and_another_taken(harness, run, case):
    another = Another(harness, {(2, "grpc"): "it answered 503"})

    found = {protocol: started.rest_port for protocol, started, _ in run._tuned(another, case)}

    assert found == {"rest": 2, "grpc": 1}
    assert run.results["skipped"] == {"recommender, beside other servers: another, grpc, wait=2": "it answered 503"}


def test_a_cell_that_is_lost_in_a_round_is_in_no_table_and_told(harness, run):
    cell = importlib.import_module("harness.rounds").Cell

    def refuse():
        raise harness.processes.NoAnswer("it answered 503")

    kept = run._measure(
        "m, beside other servers",
        {
            "another, rest": cell("another, rest", refuse, may_be_lost=True),
            "ours": cell("ours", lambda: {"per_s": 1.0}),
        },
    )

    assert list(kept) == list(run.results["tables"]["m, beside other servers"]) == ["ours"]
    assert run.results["skipped"] == {"m, beside other servers: another, rest": "in round 1 of 1, it answered 503"}


def test_a_window_without_an_answer_is_lost_and_what_one_request_is_answered_told(harness, run, monkeypatch, rest):
    """Of a server that is gone, h2load tells no error."""
    monkeypatch.setattr(harness.loads, "drive", lambda *_: {"per_s": 0.0})
    started, _ = rest(503, b"no more")
    request = harness.loads.Request("m", harness.loads.rest_file("m", b"{}", run.servers.directory), "/p")
    theirs, ours = (run._shared(name, "rest", started, request, 2.0) for name in ("triton, rest", "slipway, rest"))

    with pytest.raises(
        harness.processes.NoAnswer, match=r"no request was answered within 2 s; .* /p answered 503: b'no more'"
    ):
        theirs.measure()
    # A model that takes longer than a short window is not ours alone.
    assert ours.measure() == {"per_s": 0.0}


def test_what_servers_leave_is_removed_with_them(harness, tmp_path):
    servers = harness.processes.Servers(tmp_path, [0])
    left = servers.scratch / "copy"
    left.touch()

    assert servers.scratch == left.parent
    servers.close()

    assert not left.parent.exists()


def test_only_the_cells_of_others_may_be_lost(harness, run):
    others = [
        run._shared(name, "rest", harness.processes.Started(None), harness.loads.Request("m")).may_be_lost
        for name in ("slipway, rest", "slipway, frozen, grpc", "triton, rest")
    ]

    assert others == [False, False, True]
