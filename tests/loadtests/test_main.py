"""The load generator as the benchmark runs it: a process, orders in, outcomes and sample files out."""

import contextlib
import itertools
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

import grpc
import numpy as np
import pytest
from tests.loadtests.conftest import (
    grpc_server,
    half_plus_two_over_grpc,
    half_plus_two_over_rest,
    http_server,
    null_server,
    scripted_peer,
)

from slipway_loadtests.arrivals import poisson
from slipway_wire import predict, samples
from slipway_wire.loads import LoadOrder, LoadOutcome, LoadWindow
from slipway_wire.tolerances import Tolerances


class Generator:
    def __init__(self, payload_file, directory):
        self._directory = directory
        tolerances = directory / "tolerances.json"
        tolerances.write_bytes(Tolerances().to_json())
        self._process = subprocess.Popen(
            [sys.executable, "-m", "slipway_loadtests", "--tolerances", tolerances, "--payloads", payload_file],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def run(self, protocol, port, *, name="samples", later_ns=0, **order):
        """Give window, outcome and samples. One of several is told to begin *later_ns* later than it could."""
        path = self._directory / f"{name}.npz"
        given = {"users": 2, "warmup_s": 0.1, "window_s": 0.3, "drain_s": 10.0} | order
        self._process.stdin.write(
            LoadOrder(protocol=protocol, host="127.0.0.1", port=port, samples=str(path), **given).to_line()
        )
        self._process.stdin.flush()
        window = LoadWindow.from_line(self._process.stdout.readline())
        if given.get("generators", 1) > 1:
            window = LoadWindow(**{name: at + later_ns for name, at in asdict(window).items()})
            self._process.stdin.write(window.to_line())
            self._process.stdin.flush()
        outcome = LoadOutcome.from_line(self._process.stdout.readline())
        return window, outcome, samples.read(path)

    def order(self, **order):
        """Only say what is wanted, and hear of the window."""
        self._process.stdin.write(LoadOrder(samples=str(self._directory / "samples.npz"), **order).to_line())
        self._process.stdin.flush()
        return LoadWindow.from_line(self._process.stdout.readline())

    def close(self):
        self._process.stdin.close()
        self._process.stdout.close()
        assert self._process.wait(90) == 0


@pytest.fixture(scope="module")
def generator(payload_file, tmp_path_factory):
    started = Generator(payload_file, tmp_path_factory.mktemp("samples"))
    yield started
    started.close()


@contextlib.contextmanager
def server(protocol, before=lambda: None):
    """Serve half_plus_two over *protocol*; *before* runs in front of every answer."""

    def over_rest(handler, body):
        before()
        return half_plus_two_over_rest(handler, body)

    def over_grpc(message, context):
        before()
        return half_plus_two_over_grpc(message, context)

    with http_server(over_rest) if protocol == "rest" else grpc_server(over_grpc) as port:
        yield port


protocols = pytest.mark.parametrize("protocol", ["rest", "grpc"])
clients = pytest.mark.parametrize(
    ("protocol", "tier"), [(protocol, tier) for protocol in ("rest", "grpc") for tier in ("wire", "library")]
)


def test_connections_opened_again_are_counted(generator):
    """A server that hangs up after each answer costs its callers a handshake each: not what keep-alive is measured by."""

    def hang_up(handler, body):
        handler.close_connection = True
        answer = half_plus_two_over_rest(handler, body)
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(answer)))
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.wfile.write(answer)

    for order in ({"users": 2}, {"users": 2, "rate": 50.0}, {"users": 2, "tier": "library"}):
        with http_server(hang_up) as port:
            _, outcome, _ = generator.run("rest", port, **order)

        assert not outcome.errors
        assert 0 < outcome.reconnects <= outcome.requests
    with server("rest") as port:
        _, outcome, _ = generator.run("rest", port)
    assert (outcome.reconnects, outcome.bytes_sent_again is None) == (0, False)


@clients
def test_closed_loop_counts_what_the_server_counts(generator, protocol, tier):
    answered, threads = [], set()

    def count():
        answered.append(None)
        threads.add(threading.get_ident())

    with server(protocol, count) as port:
        window, outcome, found = generator.run(protocol, port, users=3, tier=tier)

    assert outcome.requests == len(answered) == len(found.planned_us) > 0
    assert outcome.checked_answers == outcome.requests
    assert (outcome.wrong_answers, outcome.errors, outcome.connections) == (0, {}, 3)
    assert found.end_us - found.begin_us == 300_000
    assert found.origin_ns == window.origin_ns
    assert not found.failed.any()
    # Nothing leaves before the load begins or after the window ends.
    assert found.planned_us.min() >= 0
    assert found.planned_us.max() < found.end_us


@clients
def test_a_latency_ends_with_the_answer_not_with_the_submission(generator, protocol, tier):
    """A server that thinks for 50 ms cannot be reported faster than that."""
    for rate in (None, 60.0):
        with server(protocol, lambda: time.sleep(0.05)) as port:
            _, outcome, found = generator.run(protocol, port, tier=tier, rate=rate, warmup_s=0.0, window_s=0.2)

        assert len(found.service_us) >= 2
        assert found.service_us.min() >= 50_000
        assert outcome.checked_answers == outcome.requests


@clients
def test_closed_loop_has_as_many_requests_in_flight_as_users(generator, protocol, tier):
    """Not one after the other, as gRPC's own client does under gevent if one call is forgotten."""
    inside, most, lock, all_there = [0], [0], threading.Lock(), threading.Event()

    def think():
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            if inside[0] == 5:
                all_there.set()
        # However long a busy machine takes to send all five: nobody is answered before.
        all_there.wait(5)
        time.sleep(0.01)
        with lock:
            inside[0] -= 1

    with server(protocol, think) as port:
        generator.run(protocol, port, users=5, tier=tier)

    assert most == [5]


@clients
def test_a_stall_is_in_the_latency_of_all_who_were_due_during_it(generator, protocol, tier):
    """A closed loop would have sent nothing meanwhile, and reported one slow request."""
    stall_s, began = 0.3, [0.0]
    lock = threading.Lock()

    def stall_once():
        with lock:
            if not began[0]:
                began[0] = time.monotonic()
                time.sleep(stall_s)

    with server(protocol, stall_once) as port:
        load = {"rate": 200.0, "seed": "s", "warmup_s": 0.0, "window_s": 1.0}
        _, outcome, found = generator.run(protocol, port, users=4, tier=tier, **load)

    response_us = found.slip_us + found.service_us
    due_us = (began[0] * 1e9 - found.origin_ns) / 1000
    meanwhile = (found.planned_us > due_us + 1000) & (found.planned_us < due_us + stall_s * 1e6)
    assert meanwhile.sum() > 20
    assert (response_us >= due_us + stall_s * 1e6 - found.planned_us - 1000)[meanwhile].all()
    assert outcome.errors == {}


def test_a_stall_that_comes_again_is_hidden_from_a_closed_loop(generator, payload_file):
    """Nobody asks while the server stalls: one request of each user is slow, and all that were due meanwhile are missing."""
    slow = {}
    with null_server(payload_file, "--delay-ms", "1", "--stall-ms", "300", "--stall-every-ms", "800") as ports:
        for rate in (None, 200.0):
            load = {"users": 1, "rate": rate, "warmup_s": 0.0, "window_s": 1.0}
            _, outcome, found = generator.run("rest", ports["rest_port"], **load)
            took = found.slip_us + found.service_us
            slow[rate] = np.mean(took >= 100_000)
            assert outcome.errors == {}
            if rate:
                assert np.percentile(took, 99) >= 200_000

    assert slow[200.0] > 0.1
    assert slow[200.0] > slow[None] > 0


def test_both_protocols_meet_the_same_arrivals(generator):
    planned = []
    for protocol in ("rest", "grpc"):
        with server(protocol) as port:
            _, _, found = generator.run(protocol, port, rate=300.0, seed="7/arrivals/0")
        planned.append(found.planned_us.tolist())

    assert planned[0] == planned[1]
    assert len(planned[0]) > 50


@protocols
def test_wrong_answers_are_counted(generator, protocol):
    """A fast wrong answer is not fast."""

    def wrong_over_rest(handler, body):
        return half_plus_two_over_rest(handler, body).replace(b"2.5", b"2.6")

    def wrong_over_grpc(message, context):
        request = predict.decode_request(message)
        y = request.inputs["x"] / 2 + 2
        return predict.encode_response(request.spec, {"y": np.where(y == 2.5, np.float32(2.6), y)})

    with http_server(wrong_over_rest) if protocol == "rest" else grpc_server(wrong_over_grpc) as port:
        _, outcome, _ = generator.run(protocol, port, users=1)

    # Two of four payloads: 1/2 + 2 is in both.
    assert abs(outcome.wrong_answers - outcome.requests / 2) <= 1
    assert outcome.checked_answers == outcome.requests
    assert outcome.first_wrong.startswith("payload 1: y[0]: expected 2.5, got 2.5999")


@pytest.mark.parametrize("tier", ["wire", "library"])
def test_errors_are_counted_by_kind_and_the_first_is_told(generator, tier):
    turn = iter(range(10**9))

    def sometimes(handler, body):
        if next(turn) % 3:
            return half_plus_two_over_rest(handler, body)
        handler.send_response(503)
        handler.send_header("Content-Length", "4")
        handler.end_headers()
        handler.wfile.write(b"busy")
        return None

    with http_server(sometimes) as port:
        _, outcome, found = generator.run("rest", port, users=1, tier=tier)

    assert outcome.first_error == "HTTP 503: busy"
    assert outcome.errors == {"HTTP 503": found.failed.sum()}
    assert outcome.connections == 1
    assert 0 < found.failed.sum() < outcome.requests


def test_errors_of_calls_keep_their_status_and_their_channel(generator):
    turn = iter(range(10**9))

    def sometimes(message, context):
        if next(turn) % 3 == 0:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy")
        return half_plus_two_over_grpc(message, context)

    found = []
    for tier in ("wire", "library"):
        with grpc_server(sometimes) as port:
            _, outcome, raw = generator.run("grpc", port, users=1, tier=tier)
        found.append((outcome.first_error, set(outcome.errors), outcome.connections))
        assert 0 < raw.failed.sum() == outcome.errors["grpc-status 8"] < outcome.requests

    assert found == [("grpc-status 8: busy", {"grpc-status 8"}, 1)] * 2


@pytest.mark.parametrize(
    ("rate", "protocol", "tier"),
    [(None, "rest", "wire"), (100.0, "rest", "wire"), (100.0, "rest", "library"), (100.0, "grpc", "library")],
)
def test_an_answer_that_never_comes_is_a_timeout(generator, rate, protocol, tier):
    """Dropped, it would make a dead server look fast."""
    over = threading.Event()

    def silent(peer):
        while peer.recv(65536):
            pass

    # A server of gRPC has to say something before it is silent.
    with scripted_peer(silent) if protocol == "rest" else grpc_server(lambda *_: over.wait() and b"") as port:
        _, outcome, found = generator.run(protocol, port, users=2, rate=rate, drain_s=0.2, tier=tier)
        over.set()

    assert outcome.errors == {"timeout": outcome.requests}
    assert found.failed.all()
    assert outcome.requests == 2 if rate is None else outcome.requests > 10
    last = found.planned_us + found.slip_us + found.service_us
    assert (last >= found.end_us).all()


@clients
def test_a_server_that_is_not_there_is_an_error_not_a_crash(generator, refused_port, protocol, tier):
    for rate in (None, 50.0):
        _, outcome, _ = generator.run(protocol, refused_port, rate=rate, drain_s=0.1, tier=tier)
        assert outcome.errors.get("connection refused")


def test_first_requests_end_the_load_before_its_window(generator):
    began = time.monotonic()
    with server("rest") as port:
        _, outcome, found = generator.run("rest", port, users=1, requests=20, warmup_s=0.0, window_s=60.0)

    assert outcome.requests == len(found.planned_us) == 20
    assert time.monotonic() - began < 55


def test_libraries_ask_for_no_compression_and_their_bytes_are_known(generator):
    """Compressed answers would be another load; and libraries do not tell which connection is theirs."""
    heads = set()

    def over_rest(handler, body):
        heads.add((handler.path, handler.headers["Accept-Encoding"], handler.headers["Content-Type"], len(body)))
        return half_plus_two_over_rest(handler, body)

    with http_server(over_rest) as rest, grpc_server(half_plus_two_over_grpc) as calls:
        for protocol, port in (("rest", rest), ("grpc", calls)):
            _, outcome, _ = generator.run(protocol, port, tier="library", users=3)
            assert outcome.bytes_sent > 50 * outcome.requests
            assert outcome.bytes_received > 20 * outcome.requests
    assert {head[:3] for head in heads} == {("/v1/models/m:predict", "identity", "application/json")}


def test_bytes_on_the_wire_are_what_the_server_read_and_wrote(generator, payload_file):
    read = [0]

    def script(peer):
        answer = b'HTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\n{"predictions":[2,2]}'
        while data := peer.recv(65536):
            read[0] += len(data)
            if data.endswith(b"}"):
                peer.sendall(answer)

    with scripted_peer(script) as port:
        _, outcome, _ = generator.run("rest", port, users=1)

    assert outcome.bytes_sent == read[0]
    assert outcome.bytes_received == outcome.requests * 60


def test_cpu_and_lag_are_those_of_the_window(generator):
    with server("rest") as port:
        window, outcome, _ = generator.run("rest", port, window_s=1.0)

    assert window.begin_ns <= outcome.cpu_from_ns < window.end_ns <= outcome.cpu_to_ns
    assert 0 < outcome.cpu_ns <= 1.5 * (outcome.cpu_to_ns - outcome.cpu_from_ns)
    assert 0 <= outcome.lag_p99_us <= outcome.lag_max_us


def test_two_generators_make_one_load(generator, payload_file, tmp_path):
    other = Generator(payload_file, tmp_path)
    with server("rest") as port, ThreadPoolExecutor(2) as pool:
        origin = time.monotonic_ns() + 3_000_000_000
        orders = [(generator, "a"), (other, "b")]
        running = [
            pool.submit(one.run, "rest", port, rate=100.0, seed=seed, origin_ns=origin, name=seed)
            for one, seed in orders
        ]
        found = [each.result()[2] for each in running]
    other.close()

    together = samples.merged(found)

    assert len(together.planned_us) == sum(len(each.planned_us) for each in found)
    assert (np.diff(together.planned_us) >= 0).all()
    assert together.origin_ns == origin


def test_one_of_several_begins_when_it_is_told_to(generator):
    """All have to be connected before any of them sends."""
    with server("rest") as port:
        window, outcome, found = generator.run("rest", port, generators=2, later_ns=300_000_000)

    assert found.origin_ns == window.origin_ns
    assert (found.begin_us, found.end_us) == (100_000, 400_000)
    assert outcome.requests == len(found.planned_us) > 0


def test_one_of_several_has_arrivals_of_its_own_and_begins_with_another_payload(generator):
    """What is sent in a drawn order would come in pairs, if all began at its begin."""
    load = {"rate": 200.0, "seed": "s", "generators": 2, "first_user": 1, "numbered": True}
    with server("rest") as port:
        _, _, found = generator.run("rest", port, **load)

    due_us = [at // 1000 for at in itertools.islice(poisson(200.0, "s/user1"), len(found.planned_us))]
    np.testing.assert_array_equal(found.planned_us, due_us)
    # The second half of four begins with the third.
    np.testing.assert_array_equal(found.payload, (2 + np.arange(len(due_us))) % 4)


def test_one_of_several_that_is_never_told_ends_with_who_ordered_it(payload_file, tmp_path):
    with server("rest") as port:
        waiting = Generator(payload_file, tmp_path)
        waiting.order(protocol="rest", host="127.0.0.1", port=port, users=1, warmup_s=0.1, window_s=60.0, generators=2)
        waiting.close()

    assert not (tmp_path / "samples.npz").exists()
