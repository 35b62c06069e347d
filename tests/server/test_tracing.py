import http.server
import sys
import threading
import time

import numpy as np
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from slipway_server.access_log import fields_of
from slipway_server.callers import Caller, TraceParent
from slipway_server.servables.loader import Call
from slipway_server.tracing import Tracing, _traces_url
from slipway_wire.model_spec import ModelSpec
from slipway_wire.status import InvalidArgument

WAIT_S = 90.0
TRACE_ID, SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Collector(http.server.ThreadingHTTPServer):
    """An OTLP/HTTP receiver."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Receiver)
        self.requests = []
        self.paths = []

    def spans(self):
        return [
            span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append(ExportTraceServiceRequest.FromString(body))
        self.server.paths.append(self.path)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def collector():
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def serving(fakes):
    return fakes.make_serving({("m", 1): fakes.HalfPlusTwo()})[0]


def trace(serving, collector, rate, *callers, value=1.0):
    """Send a request for each of *callers*; give the exchanges once everything has been exported."""
    tracing = Tracing(f"http://127.0.0.1:{collector.server_port}", rate, dropped=pytest.fail)
    serving.observers = (tracing,)
    exchanges = []
    for caller in callers:
        with serving.exchange("grpc", "Predict", caller=caller) as exchange:
            exchanges.append(exchange)
            call = Call("serving_default", {"x": np.float32([value])}, ("y",))
            exchange.answered(exchange.start(ModelSpec("m"), lambda _, call=call: call).result(WAIT_S))
    tracing.stop(WAIT_S)
    return exchanges


def test_a_sampled_caller_sees_our_span_and_its_stages_below_its_own(serving, collector):
    before_ns = time.time_ns()
    trace(serving, collector, 0.0, Caller("req-1", TraceParent(TRACE_ID, SPAN_ID, is_sampled=True)))

    spans = {span.name: span for span in collector.spans()}
    own = spans.pop("tensorflow.serving.PredictionService/Predict")
    assert own.trace_id.hex() == TRACE_ID
    assert own.parent_span_id.hex() == SPAN_ID
    attributes = {one.key: one.value.string_value or one.value.int_value for one in own.attributes}
    assert attributes["slipway.model"] == "m"
    assert attributes["slipway.request_id"] == "req-1"
    assert attributes["slipway.rows"] == 1
    assert set(spans) == {"parse", "queue", "compute", "encode"}
    assert before_ns <= own.start_time_unix_nano <= own.end_time_unix_nano <= time.time_ns()
    for span in spans.values():
        assert span.trace_id.hex() == TRACE_ID
        assert span.parent_span_id == own.span_id
        assert span.start_time_unix_nano <= span.end_time_unix_nano <= own.end_time_unix_nano + 1000
    assert collector.paths == ["/v1/traces"]
    (resource,) = {
        one.value.string_value
        for r in collector.requests[0].resource_spans
        for one in r.resource.attributes
        if one.key == "service.name"
    }
    assert resource == "slipway-server"


def test_a_caller_that_is_not_sampled_is_not_traced(serving, collector):
    trace(serving, collector, 1.0, Caller("", TraceParent(TRACE_ID, SPAN_ID, is_sampled=False)))

    assert collector.spans() == []


@pytest.mark.parametrize(("rate", "count"), [(1.0, 3), (0.0, 0)])
def test_the_rate_decides_for_those_that_say_nothing(serving, collector, rate, count):
    exchanges = trace(serving, collector, rate, None, Caller("req-1"), None)

    roots = [span for span in collector.spans() if not span.parent_span_id]
    assert len({span.trace_id for span in roots}) == count
    # A log line about the request names the trace.
    found = {fields_of(exchange).get("trace_id") for exchange in exchanges} - {None}
    assert found == {span.trace_id.hex() for span in roots}


def test_an_error_is_an_error(serving, collector):
    with pytest.raises(InvalidArgument):
        trace(serving, collector, 1.0, None, value=float("nan"))
    serving.observers[0].stop(WAIT_S)

    (own,) = [span for span in collector.spans() if not span.parent_span_id]
    assert own.status.code == own.status.STATUS_CODE_ERROR
    assert own.status.message == "INVALID_ARGUMENT: x is not a number"


def test_packages_that_are_missing_are_named_with_the_command_that_brings_them(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)

    with pytest.raises(InvalidArgument, match=r"opentelemetry\.sdk\.trace\): pip install 'slipway\[otel\]'"):
        Tracing("http://localhost:4318", 1.0, dropped=pytest.fail)


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://localhost:4318", "http://localhost:4318/v1/traces"),
        ("http://localhost:4318/", "http://localhost:4318/v1/traces"),
        ("https://collector/custom/path", "https://collector/custom/path"),
    ],
)
def test_an_endpoint_without_a_path_means_the_standard_one(endpoint, url):
    assert _traces_url(endpoint) == url


def test_what_is_no_url_is_told():
    with pytest.raises(InvalidArgument, match="--otlp_endpoint: expected a URL such as http://localhost:4318"):
        Tracing("localhost:4318", 1.0, dropped=pytest.fail)
