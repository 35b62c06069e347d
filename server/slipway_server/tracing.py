"""
Spans for OpenTelemetry: one for each sampled request, and below it one for each stage.

The only module that imports OpenTelemetry, and only if `--otlp_endpoint` asks for it: the packages are optional. Spans are
made on a thread of their own, from what was measured anyway.
"""

import importlib
import random
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from slipway_server.background import Background
from slipway_server.callers import Caller, TraceParent
from slipway_server.metrics import STAGES
from slipway_server.serving import Exchange
from slipway_wire import __version__, paths
from slipway_wire.status import Code, InvalidArgument

# Of requests that wait to become spans.
_MAX_WAITING = 5_000
_EXPORT_TIMEOUT_S = 5.0
_TRACES_PATH = "/v1/traces"


class _Finished(NamedTuple):
    """What spans are made of; nothing in it keeps tensors alive."""

    end_ns: int
    latency_s: float
    stages_s: Sequence[float | None]
    name: str
    attributes: dict[str, str | int]
    code: Code
    message: str
    parent: TraceParent | None
    trace_id: str


class Tracing:
    """An observer of `Serving`."""

    def __init__(self, endpoint: str, sample_rate: float, dropped: Callable[[], None]) -> None:
        """
        Prepare; the collector is not asked for before there is something to send.

        Args:
            endpoint: URL of an OTLP/HTTP collector; without a path, the standard one is meant.
            sample_rate: Share of requests traced, 0 to 1, of those that say nothing themselves: a caller's traceparent
                decides for its own.
            dropped: Told of each request for whose spans there was no room.

        Raises:
            InvalidArgument: The packages are not installed, or *endpoint* is no URL.
        """
        self._rate = sample_rate
        self._spans = _Spans(_traces_url(endpoint))
        self._writer = Background(
            "tracing", self._spans.make, max_items=_MAX_WAITING, max_bytes=1 << 62, dropped=dropped
        )

    def __call__(self, exchange: Exchange) -> None:
        """Take note of one request that has ended, if it is sampled."""
        caller = exchange.caller
        parent = caller.trace if caller else None
        is_sampled = parent.is_sampled if parent else random.random() < self._rate  # noqa: S311  # no secret
        if not is_sampled:
            return
        trace_id = parent.trace_id if parent else f"{random.getrandbits(128) or 1:032x}"  # no secret
        if parent is None:
            # Whoever writes a log line about the request next finds the trace there.
            trace = TraceParent(trace_id, "", is_sampled=True)
            exchange.caller = caller._replace(trace=trace) if caller else Caller(trace=trace)
        self._writer.put(
            _Finished(
                time.time_ns(),
                exchange.latency_s,
                tuple(exchange.stages_s),
                f"{paths.PREDICTION_SERVICE}/{exchange.api}",
                _attributes(exchange),
                exchange.code,
                exchange.message,
                parent,
                trace_id,
            )
        )

    def stop(self, timeout_s: float) -> None:
        """Send what waits, but not for longer than *timeout_s* and one try more."""
        self._writer.stop(timeout_s)
        self._spans.close()


def _attributes(exchange: Exchange) -> dict[str, str | int]:
    # Names from OpenTelemetry's semantic conventions where there are any.
    found: dict[str, str | int | None] = {
        "rpc.service": paths.PREDICTION_SERVICE,
        "rpc.method": exchange.api,
        "network.protocol.name": "grpc" if exchange.protocol == "grpc" else "http",
        "slipway.protocol": exchange.protocol,
        "slipway.model": exchange.model,
        "slipway.version": exchange.version,
        "slipway.signature": exchange.signature,
        "slipway.status": exchange.code.name,
        "slipway.rows": exchange.rows,
        "slipway.request_bytes": len(exchange.body),
        "slipway.response_bytes": len(exchange.response),
        "slipway.request_id": exchange.caller.request_id if exchange.caller else "",
    }
    return {name: value for name, value in found.items() if value not in {None, ""} and value is not None}


class _Spans:
    """OpenTelemetry's machinery."""

    def __init__(self, url: str) -> None:
        try:
            self._trace: Any = importlib.import_module("opentelemetry.trace")
            sdk: Any = importlib.import_module("opentelemetry.sdk.trace")
            export: Any = importlib.import_module("opentelemetry.sdk.trace.export")
            resources: Any = importlib.import_module("opentelemetry.sdk.resources")
            otlp: Any = importlib.import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
        except ImportError as error:
            raise InvalidArgument(
                f"--otlp_endpoint needs packages that are not installed ({error.name}): pip install 'slipway[otel]'"
            ) from error
        self._next_trace_id = 0
        # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win, as everywhere.
        about = {"service.name": "slipway-server", "service.version": __version__}
        detected = resources.OTELResourceDetector().detect()
        self._provider = sdk.TracerProvider(
            resource=resources.Resource.create(about).merge(detected),
            sampler=importlib.import_module("opentelemetry.sdk.trace.sampling").ALWAYS_ON,
            id_generator=self._id_generator(),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(
            export.BatchSpanProcessor(otlp.OTLPSpanExporter(endpoint=url, timeout=_EXPORT_TIMEOUT_S))
        )
        self._tracer = self._provider.get_tracer("slipway_server", __version__)

    def _id_generator(self) -> Any:
        base: Any = importlib.import_module("opentelemetry.sdk.trace.id_generator").RandomIdGenerator

        def generate_trace_id(_self: Any) -> int:
            return self._next_trace_id

        return type("GivenTraceId", (base,), {"generate_trace_id": generate_trace_id})()

    def make(self, requests: Sequence[_Finished]) -> None:
        for request in requests:
            self._make_one(request)

    def _make_one(self, request: _Finished) -> None:
        begin_ns = request.end_ns - round(request.latency_s * 1e9)
        self._next_trace_id = int(request.trace_id, 16)
        span = self._tracer.start_span(
            request.name,
            context=self._context(request.parent),
            kind=self._trace.SpanKind.SERVER,
            attributes=request.attributes,
            start_time=begin_ns,
        )
        if request.code is not Code.OK:
            span.set_status(self._trace.StatusCode.ERROR, f"{request.code.name}: {request.message}")
        inside = self._trace.set_span_in_context(span)
        at_ns = begin_ns
        for stage, seconds in zip(STAGES, request.stages_s, strict=True):
            if seconds is None:
                continue
            length_ns = round(seconds * 1e9)
            # The answer's way back to the thread that encodes it lies between; encoding ends with the request.
            start_ns = request.end_ns - length_ns if stage == "encode" else at_ns
            self._tracer.start_span(stage, context=inside, start_time=start_ns).end(start_ns + length_ns)
            at_ns = start_ns + length_ns
        span.end(request.end_ns)

    def _context(self, parent: TraceParent | None) -> Any:
        if parent is None:
            # Not whatever span happens to be current.
            return importlib.import_module("opentelemetry.context").Context()
        context = self._trace.SpanContext(
            int(parent.trace_id, 16), int(parent.span_id, 16), is_remote=True, trace_flags=self._trace.TraceFlags(1)
        )
        return self._trace.set_span_in_context(self._trace.NonRecordingSpan(context))

    def close(self) -> None:
        self._provider.shutdown()


def _traces_url(endpoint: str) -> str:
    parts = urlsplit(endpoint)
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise InvalidArgument(f"--otlp_endpoint: expected a URL such as http://localhost:4318, got {endpoint!r}")
    return endpoint if parts.path.strip("/") else endpoint.rstrip("/") + _TRACES_PATH
