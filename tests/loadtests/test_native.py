"""h2load behind the orders of the load generator, on servers that answer, refuse, lie or are not there."""

import threading
import time

import grpc
import pytest
from tests.loadtests.conftest import grpc_server, half_plus_two_over_grpc, half_plus_two_over_rest, http_server
from tests.loadtests.test_main import Generator

from slipway_loadtests import h2load

needs_h2load = pytest.mark.skipif(not h2load.is_here(), reason="nghttp2-client is not installed")
SHORT = {"tier": "native", "users": 3, "warmup_s": 0.0, "window_s": 0.3}


@pytest.fixture(scope="module")
def generator(payload_file, tmp_path_factory):
    started = Generator(payload_file, tmp_path_factory.mktemp("samples"))
    yield started
    started.close()


@needs_h2load
@pytest.mark.parametrize(("protocol", "rate"), [("rest", None), ("grpc", None), ("rest", 30.0)])
def test_a_server_that_takes_50_ms_is_reported_so(generator, protocol, rate):
    answered, lock = [], threading.Lock()

    def think(answer, *arguments):
        time.sleep(0.05)
        with lock:
            answered.append(None)
        return answer(*arguments)

    def over_rest(*arguments):
        return think(half_plus_two_over_rest, *arguments)

    def over_grpc(*arguments):
        return think(half_plus_two_over_grpc, *arguments)

    with http_server(over_rest) if protocol == "rest" else grpc_server(over_grpc) as port:
        window, outcome, found = generator.run(protocol, port, rate=rate, **SHORT)

    assert outcome.errors == {}
    assert (outcome.checked_answers, outcome.wrong_answers, outcome.connections) == (1, 0, 3)
    assert outcome.requests == len(found.planned_us) >= 3
    assert found.service_us.min() >= 50_000
    # One was asked beforehand; what was under way at the end, or left after it, h2load or we leave out.
    assert outcome.requests < len(answered)
    assert found.planned_us.max() < found.end_us
    assert window.begin_ns <= outcome.cpu_from_ns < window.end_ns <= outcome.cpu_to_ns
    assert outcome.cpu_ns > 0


@needs_h2load
def test_calls_that_fail_later_are_found_out(generator):
    turn = iter(range(10**9))

    def first_only(message, context):
        if next(turn):
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy")
        return half_plus_two_over_grpc(message, context)

    with grpc_server(first_only) as port:
        _, outcome, _ = generator.run("grpc", port, **SHORT)

    assert outcome.errors == {"answers of another size": 1}
    assert outcome.first_error.startswith("0 bytes are no ")


@needs_h2load
def test_refusals_are_counted_by_their_status(generator):
    turn = iter(range(10**9))

    def first_only(handler, body):
        if not next(turn):
            return half_plus_two_over_rest(handler, body)
        handler.send_response(503)
        handler.send_header("Content-Length", "4")
        handler.end_headers()
        handler.wfile.write(b"busy")
        return None

    with http_server(first_only) as port:
        _, outcome, found = generator.run("rest", port, **SHORT)

    assert outcome.errors == {"HTTP 503": outcome.requests}
    assert found.failed.all()


@needs_h2load
def test_a_wrong_answer_is_one_before_any_load(generator):
    with http_server(lambda *_: b'{"predictions":[1.0,1.0]}') as port:
        _, outcome, _ = generator.run("rest", port, **SHORT)

    assert (outcome.checked_answers, outcome.wrong_answers) == (1, 1)
    assert outcome.first_wrong.startswith("payload 0: y[0]: expected 2.0, got 1.0")


def test_an_h2load_that_fails_is_an_error_of_its_order_and_the_next_one_is_served(generator, refused_port):
    """It takes no order of no users; a generator that ended with it would end the whole benchmark."""
    with http_server(half_plus_two_over_rest) as port:
        _, outcome, found = generator.run("rest", port, **SHORT | {"users": 0})
    _, next_outcome, _ = generator.run("rest", refused_port, **SHORT)

    assert outcome.errors == {"h2load failed": 1}
    assert outcome.first_error.startswith("h2load failed")
    assert (outcome.wrong_answers, outcome.requests, len(found.planned_us)) == (0, 0, 0)
    assert next_outcome.errors == {"connection refused": 1}


def test_a_server_that_is_not_there_gets_no_load(generator, refused_port):
    _, outcome, found = generator.run("rest", refused_port, **SHORT)

    assert outcome.errors == {"connection refused": 1}
    assert outcome.first_error.startswith("connection refused: 127.0.0.1:")
    assert len(found.planned_us) == 0
