"""REST: bytes in, serving, bytes out."""

import asyncio
import dataclasses
import json
import socket
import zlib
from concurrent.futures import Future

from slipway_server.batching.scheduler import Answer
from slipway_server.callers import REQUEST_ID, TRACEPARENT, Caller, Callers
from slipway_server.errors import told
from slipway_server.servables.calls import Signatures, classify_call, regress_call
from slipway_server.servables.loader import Call
from slipway_server.serving import Exchange, Serving
from slipway_server.transports import health
from slipway_server.transports.http import HttpConnection, Request, Response
from slipway_server.transports.waiting import Arrivals
from slipway_wire import inference, json_examples, json_predict, model_metadata, model_status, paths
from slipway_wire.inference import ExamplesRequest
from slipway_wire.json_predict import ParsedRequest
from slipway_wire.model_spec import ModelSpec
from slipway_wire.paths import RestPath
from slipway_wire.status import InvalidArgument

_REQUEST_ID, _TRACEPARENT = REQUEST_ID.encode(), TRACEPARENT.encode()

# Source: net_http's gzip handling in tensorflow_serving/util/net_http/compression/gzip_zlib.h.
MAX_UNZIPPED_BYTES = 100 * 1024 * 1024

_CORS = (
    (b"Access-Control-Allow-Origin", b"*"),
    (b"Access-Control-Allow-Methods", b"POST, GET"),
    (b"Access-Control-Allow-Headers", b"Content-Type"),
)


class RestApi:
    """The handlers; each reads as its sibling in grpc_api."""

    def __init__(
        self,
        serving: Serving,
        arrivals: Arrivals,
        *,
        timeout_s: float,
        has_cors: bool,
        metrics_path: str | None,
        callers: Callers | None = None,
    ) -> None:
        """
        Put together.

        Args:
            serving: What answers.
            arrivals: Brings its answers to the loop that the server runs on.
            timeout_s: For how long a request is worked on; may be infinite.
            has_cors: Add the headers that let a browser's scripts call us.
            metrics_path: Where metrics are served; None: nowhere.
            callers: Finds out who sent a request.
        """
        self._serving = serving
        self._arrivals = arrivals
        self._timeout_s = timeout_s
        self._has_cors = has_cors
        self._metrics_path = metrics_path
        self._callers = callers or Callers()

    async def handle(self, request: Request) -> Response:
        """Answer any request."""
        caller = self._callers.of(request.headers.get(_REQUEST_ID), request.headers.get(_TRACEPARENT))
        response = await self._route(request, caller)
        if caller is not None and caller.request_id:
            response.headers.append((b"X-Request-ID", caller.request_id.encode()))
        if self._has_cors and paths.is_rest_path(request.target):
            response.headers += _CORS
        response.closes = response.closes or self._serving.is_draining
        return response

    async def _route(self, request: Request, caller: Caller | None) -> Response:
        if request.target == self._metrics_path and request.method == "GET":
            # Thousands of series take milliseconds to write, which requests should not wait for.
            text = await asyncio.to_thread(self._serving.metrics.exposition)
            return Response(200, text.encode(), b"text/plain")
        if not paths.is_rest_path(request.target):
            return Response(404, b"Not Found\n", b"text/plain")
        if request.method == "OPTIONS":
            origin = request.headers.get(b"origin", b"")
            return Response(200 if b"http://" in origin or b"https://" in origin else 400, b"")
        if health.is_health_path(request.method, request.target):
            return health.answer(self._serving, request.target)
        try:
            body = await asyncio.to_thread(_unzip, request.body) if _is_zipped(request) else request.body
            return Response(200, await self._answer(paths.parse_rest(request.method, request.target), body, caller))
        except Exception as error:
            fault = told(error, caller.request_id if caller else "")
            return error_response(fault.code.http_status, fault.message)

    async def _answer(self, path: RestPath, body: bytes, caller: Caller | None) -> bytes:
        spec = ModelSpec(path.model, path.version, path.label)
        match path.verb:
            case "predict":
                return await self.predict(spec, body, caller)
            case "classify":
                return await self.classify(spec, body, caller)
            case "regress":
                return await self.regress(spec, body, caller)
            case "metadata":
                return model_metadata.encode_json(*self._serving.metadata(spec))
            case "status":
                # A label is passed over, as TF Serving does.
                return model_status.encode_json(self._serving.statuses(spec.name, spec.version))

    async def predict(self, spec: ModelSpec, body: bytes, caller: Caller | None = None) -> bytes:
        """POST …:predict."""
        with self._serving.exchange("rest", "Predict", request_bytes=len(body), caller=caller) as exchange:
            request = json_predict.parse_request(body)
            spec = dataclasses.replace(spec, signature_name=request.signature_name)
            future = exchange.start(spec, lambda signatures: _predict_call(request, spec, signatures), self._timeout_s)
            outputs = exchange.answered(await self._arrive(exchange, future))
            return exchange.encoded(json_predict.encode_response(outputs, row_format=request.row_format))

    async def classify(self, spec: ModelSpec, body: bytes, caller: Caller | None = None) -> bytes:
        """POST …:classify."""
        with self._serving.exchange("rest", "Classify", request_bytes=len(body), caller=caller) as exchange:
            request = _examples_request(spec, body)
            future = exchange.start(
                request.spec, lambda signatures: classify_call(request, signatures), self._timeout_s
            )
            outputs = exchange.answered(await self._arrive(exchange, future))
            classification = inference.classification(outputs, len(request.examples))
            return exchange.encoded(json_examples.encode_classify_response(classification))

    async def regress(self, spec: ModelSpec, body: bytes, caller: Caller | None = None) -> bytes:
        """POST …:regress."""
        with self._serving.exchange("rest", "Regress", request_bytes=len(body), caller=caller) as exchange:
            request = _examples_request(spec, body)
            future = exchange.start(request.spec, lambda signatures: regress_call(request, signatures), self._timeout_s)
            outputs = exchange.answered(await self._arrive(exchange, future))
            regression = inference.regression(outputs, len(request.examples))
            return exchange.encoded(json_examples.encode_regress_response(regression))

    async def _arrive(self, exchange: Exchange, future: "Future[Answer]") -> Answer:
        """Wait for *future*, but not longer than the timeout of REST requests."""
        try:
            async with asyncio.timeout(None if self._timeout_s == float("inf") else self._timeout_s):
                return await self._arrivals.of(future)
        except TimeoutError:
            raise exchange.expire(future) from None


class RestServer:
    """A listening socket and the connections it brought."""

    def __init__(self, api: RestApi) -> None:
        self._api = api
        self._connections: set[HttpConnection] = set()

    async def start(self, bound: socket.socket) -> None:
        """
        Listen on *bound*.

        Raises:
            OSError: Somebody else listens there.
        """
        self._server = await asyncio.get_running_loop().create_server(
            lambda: HttpConnection(self._api.handle, error_response, self._connections), sock=bound, backlog=1024
        )

    def stop(self) -> None:
        """Take no more connections; end the open ones, each after its last answer."""
        self._server.close()
        for connection in tuple(self._connections):
            connection.close_when_idle()


def error_response(status: int, message: str) -> Response:
    """Make an error answer: JSON with one key."""
    # Bytes of a request that are no UTF-8 may be part of a message.
    return Response(status, json.dumps({"error": message}, ensure_ascii=False).encode(errors="replace"))


def _predict_call(request: ParsedRequest, spec: ModelSpec, signatures: Signatures) -> Call:
    # Another code and text than over gRPC; source: tensorflow_serving/model_servers/http_rest_api_handler.cc.
    signature = signatures.get(spec.signature_key)
    if signature is None:
        raise InvalidArgument(f'Serving signature name: "{spec.signature_key}" not found in signature def')
    return Call(signature.name, request.inputs(signature), tuple(signature.outputs))


def _examples_request(spec: ModelSpec, body: bytes) -> ExamplesRequest:
    request = json_examples.decode_request(body)
    return ExamplesRequest(dataclasses.replace(spec, signature_name=request.signature_name), request.examples)


def _is_zipped(request: Request) -> bool:
    return b"gzip" in request.headers.get(b"content-encoding", b"")


def _unzip(body: bytes) -> bytes:
    """Decompress *body*, or raise InvalidArgument if it is damaged or becomes too large."""
    unzipped = b""
    try:
        while body:
            # 16: the gzip format; a body may be several gzip files one after the other.
            member = zlib.decompressobj(16 + zlib.MAX_WBITS)
            unzipped += member.decompress(body, MAX_UNZIPPED_BYTES - len(unzipped) + 1)
            if len(unzipped) > MAX_UNZIPPED_BYTES:
                raise InvalidArgument(f"The decompressed body exceeds {MAX_UNZIPPED_BYTES} bytes")
            if not member.eof:
                raise InvalidArgument("The gzip body is cut off")
            body = member.unused_data
    except zlib.error as error:
        raise InvalidArgument(f"The body is not gzip, though Content-Encoding says so: {error}") from error
    return unzipped
