import asyncio
import importlib
import statistics
from pathlib import Path

import httptools
import pytest

from slipway_server.transports.http2.server import start_server
from slipway_server.transports.rpc import Unary

BENCH = Path(__file__).parents[3] / "server" / "bench"
PER_S = 1000.0


@pytest.fixture
def calls(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module("harness.calls")


@pytest.fixture
def started(monkeypatch):
    """`started(rest_port=…)`: where a server listens."""
    monkeypatch.syspath_prepend(str(BENCH))
    processes = importlib.import_module("harness.processes")
    return lambda **ports: processes.Started(None, **ports)


@pytest.fixture
def request_(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(BENCH))
    loads = importlib.import_module("harness.loads")
    return loads.Request(
        "m", loads.rest_file("m", b"{}", tmp_path), "/p", loads.grpc_file("m", b"message", tmp_path), "/t.S/Take"
    )


class Answers(asyncio.Protocol):
    """Answers each request with *status*; ends the connection behind each answer if *ends*."""

    def __init__(self, seen, status, *, ends):
        self.seen, self.status, self.ends = seen, status, ends

    def connection_made(self, transport):
        self.seen["connections"] += 1
        self.transport, self.parser = transport, httptools.HttpRequestParser(self)

    def data_received(self, data):
        self.parser.feed_data(data)

    def on_body(self, body):
        self.seen["bodies"].append(body)

    def on_message_complete(self):
        self.transport.write(b"HTTP/1.1 %b\r\nContent-Length: 6\r\n\r\nanswer" % self.status)
        if self.ends:
            self.transport.close()


@pytest.fixture
def rest_server(serve):
    """`rest_server(status, ends=…)` starts a server, and gives its port and what it saw."""

    def start(status=b"200 OK", *, ends=False):
        seen = {"connections": 0, "bodies": []}
        return serve(lambda: Answers(seen, status, ends=ends)), seen

    return start


def test_arrivals_are_those_of_their_seed(calls):
    one, again, other = (calls.arrivals(3.0, 300, seed) for seed in (1, 1, 2))

    assert one == again != other
    assert one == sorted(one)
    gaps = [after - before for before, after in zip([0.0, *one], one, strict=False)]
    # Of 300 exponential gaps the mean is within 3 standard errors, 1 / (3 * sqrt(300)) each; they are as wide as their mean.
    assert statistics.mean(gaps) == pytest.approx(1 / 3, abs=3 / (3 * 300**0.5))
    assert statistics.stdev(gaps) == pytest.approx(1 / 3, rel=0.3)


def test_a_tail_is_called_what_it_is(calls):
    assert calls.tail(300) == "p99 of 300 answers"
    assert calls.tail(5) == "slowest of 5 answers"
    assert calls.p99([5.0, 1.0, 4.0, 2.0, 3.0]) == 5.0
    assert calls.p99([float(value) for value in range(99)]) == 98.0
    assert calls.p99([float(value) for value in range(300, 0, -1)]) == 297.0


def test_rest_keeps_a_connection_for_each_thread(calls, started, request_, rest_server):
    port, seen = rest_server()

    found = calls.calls_at_rate("rest", started(rest_port=port), request_, PER_S, 20, seed=1, callers=2)

    assert seen["bodies"] == [b"{}"] * 21, "and one beforehand"
    assert seen["connections"] <= 3
    assert found["answers"] == 20
    assert found["per_s"] > 0
    assert 0 < found["p50_ms"] <= found["p99_ms"]
    assert 0 <= found["late_p99_ms"] <= found["p99_ms"]


def test_a_connection_that_the_server_has_closed_is_opened_again(calls, started, request_, rest_server):
    port, seen = rest_server(ends=True)

    calls.calls_at_rate("rest", started(rest_port=port), request_, PER_S, 10, seed=1, callers=2)

    assert seen["bodies"] == [b"{}"] * 11
    assert seen["connections"] == 11


def test_an_answer_that_is_an_error_ends_the_run(calls, started, request_, rest_server):
    port, _ = rest_server(b"503 Service Unavailable")

    with pytest.raises(SystemExit, match=r"/p answered 503: b'answer'"):
        calls.calls_at_rate("rest", started(rest_port=port), request_, PER_S, 1, seed=1)


def test_grpc_sends_the_same_message_again_and_again(calls, started, request_, loop_thread):
    bodies = []

    async def take(body, _incoming):
        bodies.append(bytes(body))
        return b"answer"

    server, (port,) = loop_thread.run(
        start_server({"t.S": {"Take": Unary(take, is_stepwise=True)}}, ["127.0.0.1:0"], {})
    )
    found = calls.calls_at_rate("grpc", started(grpc_port=port), request_, PER_S, 20, seed=1)
    loop_thread.run(server.stop(None))

    assert bodies == [b"message"] * 21
    assert found["answers"] == 20
