"""REST: bytes in, serving, bytes out."""

import asyncio
import dataclasses
import json
import math
import re
import time
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any, TypeVar

from slipway_server.batching.scheduler import Answer
from slipway_server.bearer import BearerToken
from slipway_server.callers import REQUEST_ID, TRACEPARENT, Caller, Callers
from slipway_server.errors import told
from slipway_server.servables.calls import Signatures, classify_call, predict_call, regress_call
from slipway_server.servables.loader import Call, Tensors
from slipway_server.serving import Api, Exchange, Serving
from slipway_server.transports import health, message_codecs, model_list, rest_protobuf
from slipway_server.transports.gathering import Form, Gathering
from slipway_server.transports.gzip_body import GzipBody
from slipway_server.transports.held import Held
from slipway_server.transports.http import Connections, HttpServer, Limits, Place, Request, Response, Turn
from slipway_server.transports.waiting import Arrivals, Timeout
from slipway_wire import inference, json_examples, json_predict, model_metadata, model_status, paths, predict
from slipway_wire.inference import ExamplesRequest
from slipway_wire.json_predict import ParsedRequest
from slipway_wire.json_tensors import NonFinite
from slipway_wire.model_spec import ModelSpec
from slipway_wire.paths import Verb
from slipway_wire.status import Code, DeadlineExceeded, InvalidArgument, Unauthenticated, Unavailable, WireError

T = TypeVar("T")

_REQUEST_ID, _TRACEPARENT = REQUEST_ID.encode(), TRACEPARENT.encode()

# Source: net_http's gzip handling in tensorflow_serving/util/net_http/compression/gzip_zlib.h.
MAX_UNZIPPED_BYTES = 100 * 1024 * 1024
# Decompressed at once: a millisecond or two, after which it is another request's turn.
_PIECE_BYTES = 1024 * 1024

# Bodies and tensors beyond these sizes are read and written on other threads, so that small requests need not wait for
# them: 0.3 ms of work, several times what handing it over costs.
_LARGE_BYTES = 128 * 1024
_LARGE_ELEMENTS = 16 * 1024
_CODEC_THREADS = 2

# zlib's quickest: the next three levels save 5 % and cost twice as much.
_GZIP_LEVEL = 1
_GZIP = 16 + zlib.MAX_WBITS

# What may go together with others.
_TOGETHER = ("predict", "classify", "regress")
_Meaning = tuple[Verb, ModelSpec, bool]
"""What is asked of whom, and whether with a message rather than JSON."""

_JSON = b"application/json"

MODEL_VERSION_HEADER = b"X-Slipway-Model-Version"

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
        token: BearerToken | None = None,
        non_finite: NonFinite = "tokens",
        gzip_min_bytes: int = 0,
        as_content: bool = False,
        content_min_bytes: float = math.inf,
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
            token: What a request must bear, unless it asks about health; None: nothing.
            non_finite: What stands for NaN and infinities in answers.
            gzip_min_bytes: Compress larger answers for clients that take it; 0: none.
            as_content: Of answers that are messages, see `GrpcApi`.
            content_min_bytes: Likewise.
        """
        self._serving = serving
        self._arrivals = arrivals
        self._timeout = Timeout(arrivals.loop, timeout_s)
        self._has_cors = has_cors
        self._metrics_path = metrics_path
        self._callers = callers or Callers()
        self._token = token
        self._non_finite: NonFinite = non_finite
        self._gzip_min_bytes = gzip_min_bytes or math.inf
        self._codec_threads = ThreadPoolExecutor(_CODEC_THREADS, thread_name_prefix="json")
        self._predictions: Gathering[bool] = Gathering(
            serving,
            arrivals,
            protocol="rest",
            api="Predict",
            write=lambda _spec, outputs, row_format: self._encode(outputs, row_format=row_format),
            write_all=self._encode_all,
            is_large=_is_large,
            codec_threads=self._codec_threads,
            timeout=self._timeout,
        )
        self._encode_message = partial(
            predict.encode_response, as_content=as_content, content_min_bytes=content_min_bytes
        )
        self._messages: Gathering[None] = Gathering(
            serving,
            arrivals,
            protocol="rest",
            api="Predict",
            write=lambda spec, outputs, _: self._encode_message(spec, outputs),
            write_all=lambda spec, outputs, sizes, _: predict.encode_responses(
                spec, outputs, sizes, as_content=as_content, content_min_bytes=content_min_bytes
            ),
            is_large=message_codecs.is_large,
            codec_threads=self._codec_threads,
            timeout=self._timeout,
        )
        self._of_examples = {method: self._inferences(method) for method in _OF_EXAMPLES.values()}
        self.connections = Connections()
        """In whose books what requests hold in memory is entered: its server's, once it has one."""

    async def handle(self, request: Request) -> Response:
        """Answer any request."""
        headers = request.headers
        caller = self._callers.of(headers.get(_REQUEST_ID), headers.get(_TRACEPARENT), request.peer)
        response = self._refused(request) if self._token is not None else None
        if response is None and request.method != "POST":
            response = await self._beside_models(request)
        if response is None:
            # Here, and not in a coroutine of its own: each one on the way to Predict costs 1 % of all that a small request does.
            plain = None
            try:
                verb, spec = _wanted(request.method, request.target)
                body = request.body
                if _is_zipped(request):
                    plain = _Plain(self.connections)
                    body = await self._unzip(body, plain)
                is_protobuf = rest_protobuf.is_protobuf(headers)
                if verb == "predict":
                    response = await (self.predict_message if is_protobuf else self.predict)(spec, body, caller)
                elif (method := _OF_EXAMPLES.get((verb, is_protobuf))) is not None:
                    response = await self.infer(method, spec, body, caller)
                else:
                    response = self._look_up(verb, spec)
            except Exception as error:
                response = _faulty(request.target, error, caller)
            finally:
                if plain is not None:
                    # Freed before it is struck from the books.
                    body = b""
                    plain.give_back()
        if self.is_to_be_zipped(response, request):
            await self._zip(response)
        if caller is not None and caller.request_id:
            response.headers.append((b"X-Request-ID", caller.request_id.encode()))
        return self.finished(response, request.target)

    def take(self, request: Request, turn: Turn) -> Place | None:
        """Take a request in that may go together with others, see `Gatherer.take`; all others go to `handle`."""
        body = request.body
        if not self._predictions.is_open or (meaning := self._asked(request)) is None:
            return None
        verb, asked, is_protobuf = meaning
        if len(body) >= (message_codecs.LARGE_BYTES if is_protobuf and verb == "predict" else _LARGE_BYTES):
            return None
        began = time.monotonic()
        if verb != "predict":
            return self._take_examples(_OF_EXAMPLES[verb, is_protobuf], asked, request, turn, began)
        if is_protobuf:
            return self._take_message(asked, request, turn, began)
        form: Form | None = None
        values: Any = None
        if (found := json_predict.find_form(body)) is not None:
            numbers_form, values = found
            form, spec, row_format = numbers_form, asked, numbers_form.row_format
            decode = partial(_predict_body, body, spec)
        else:
            try:
                parsed = json_predict.parse_request(body)
                form, values = json_predict.form_of(parsed) or (None, None)
            except WireError:
                # It is told what is wrong where it goes alone.
                return None
            spec, row_format = _named(asked, parsed.signature_name), parsed.row_format
            decode = partial(_predict_call, parsed, spec)
        return self._predictions.take(
            spec,
            decode,
            _Joined(self, request, turn),
            row_format,
            size=len(body),
            began=began,
            form=form,
            values=values,
        )

    def _take_message(self, asked: ModelSpec, request: Request, turn: Turn, began: float) -> Place | None:
        """See `take`."""
        body = request.body
        form = predict.find_form(body)
        try:
            if form is not None:
                spec, decode = rest_protobuf.agreed(asked, form.spec), partial(message_codecs.predict_body, body)
            else:
                parsed = predict.decode_request(body)
                spec, decode = rest_protobuf.agreed(asked, parsed.spec), partial(predict_call, parsed)
        except WireError:
            return None
        reply, size = _Joined(self, request, turn, rest_protobuf.CONTENT_TYPE), len(body)
        return self._messages.take(spec, decode, reply, None, size=size, began=began, form=form, values=body)

    def _take_examples(
        self, method: "_OfExamples", asked: ModelSpec, request: Request, turn: Turn, began: float
    ) -> Place | None:
        """See `take`."""
        try:
            examples = method.decode(asked, request.body)
        except WireError:
            return None
        decode, reply = partial(method.call, examples), _Joined(self, request, turn, method.content_type)
        count, size = len(examples.examples), len(request.body)
        return self._of_examples[method].take(examples.spec, decode, reply, count, size=size, began=began)

    def _asked(self, request: Request) -> "_Meaning | None":
        """Return what *request* asks of whom, going by its head; None where it is to go alone."""
        head = request.head
        if head is not None and head.meaning is not None:
            meaning: _Meaning | None = head.meaning
            return meaning
        headers = request.headers
        if (
            request.method != "POST"
            or self._callers.of(headers.get(_REQUEST_ID), headers.get(_TRACEPARENT)) is not None
            or _is_zipped(request)
            or self._refused(request) is not None
        ):
            return None
        try:
            verb, spec = _wanted("POST", request.target)
        except WireError:
            return None
        if verb not in _TOGETHER:
            return None
        meaning = verb, spec, rest_protobuf.is_protobuf(headers)
        if head is not None and self._token is None:
            # Tokens may change.
            head.meaning = meaning
        return meaning

    def is_to_be_zipped(self, response: Response, request: Request) -> bool:
        """Say whether *response* is long enough to be compressed, and the client takes it so."""
        return len(response.body) >= self._gzip_min_bytes and b"gzip" in _accepted(request)

    async def zipped(self, response: Response, request: Request) -> Response:
        """Return *response* compressed, with what all responses say."""
        await self._zip(response)
        return self.finished(response, request.target)

    def finished(self, response: Response, target: str) -> Response:
        """Return *response* to a request for *target* with what all responses say."""
        if self._has_cors and paths.is_rest_path(target):
            response.headers += _CORS
        if self._serving.is_draining:
            response.closes = True
        return response

    def _refused(self, request: Request) -> Response | None:
        """Refuse a request that needs a token and does not bear it."""
        if self._token is None or request.method == "OPTIONS" or health.is_health_path(request.method, request.target):
            return None
        try:
            self._token.check(request.headers.get(b"authorization"))
        except Unauthenticated as error:
            response = _fault_response(error)
            response.headers.append((b"WWW-Authenticate", b"Bearer"))
            return response
        return None

    async def _beside_models(self, request: Request) -> Response | None:
        """Answer what is asked of no single model."""
        target = request.target
        if target == self._metrics_path and request.method == "GET":
            # Thousands of series take milliseconds to write, which requests should not wait for.
            text = await asyncio.to_thread(self._serving.metrics.exposition)
            return Response(200, text.encode(), b"text/plain")
        if request.method == "OPTIONS" and paths.is_rest_path(target):
            origin = request.headers.get(b"origin", b"")
            return Response(200 if b"http://" in origin or b"https://" in origin else 400, b"")
        if health.is_health_path(request.method, target):
            return health.answer(self._serving, target)
        if target == model_list.LIST_PATH and request.method == "GET":
            return model_list.answer(self._serving)
        return None

    def _look_up(self, verb: Verb, spec: ModelSpec) -> Response:
        """Answer at once, and count it: over REST, TF Serving counts what it is asked about a model, too."""
        code = Code.OK
        try:
            if verb == "metadata":
                return Response(200, model_metadata.encode_json(*self._serving.metadata(spec)))
            # A label is passed over, as TF Serving does.
            return Response(200, model_status.encode_json(self._serving.statuses(spec.name, spec.version)))
        except WireError as error:
            code = error.code
            raise
        finally:
            self._serving.count_lookup(spec.name, code)

    async def predict(self, spec: ModelSpec, body: bytes, caller: Caller | None = None) -> Response:
        """POST …:predict."""
        with self._serving.exchange("rest", "Predict", body=body, caller=caller) as exchange:
            if len(body) < _LARGE_BYTES:
                request, future = self._begin_predict(exchange, spec, body)
            else:
                request, future = await self._begin_aside(partial(self._begin_predict, exchange, spec, body))
            outputs = exchange.answered(await self._arrivals.of(future, self._timeout, exchange.expire))
            if _is_large(outputs):
                encode = partial(self._encode, outputs, row_format=request.row_format)
                return _answer_of(exchange, await self._aside(encode))
            return _answer_of(exchange, self._encode(outputs, row_format=request.row_format))

    def _begin_predict(
        self, exchange: Exchange, spec: ModelSpec, body: bytes
    ) -> "tuple[ParsedRequest, Future[Answer]]":
        request = json_predict.parse_request(body)
        named = _named(spec, request.signature_name)
        return request, exchange.start(named, partial(_predict_call, request, named), self._timeout.timeout_s)

    def _encode(self, outputs: Tensors, *, row_format: bool) -> bytes:
        return json_predict.encode_response(outputs, row_format=row_format, non_finite=self._non_finite)

    def _encode_all(
        self, _spec: ModelSpec, outputs: Tensors, sizes: Sequence[int], row_formats: Sequence[bool]
    ) -> list[bytes] | None:
        row_format = row_formats[0]
        if row_formats.count(row_format) < len(row_formats):
            return None
        return json_predict.encode_responses(outputs, sizes, row_format=row_format, non_finite=self._non_finite)

    async def predict_message(self, spec: ModelSpec, body: bytes, caller: Caller | None = None) -> Response:
        """POST …:predict with a PredictRequest."""
        with self._serving.exchange("rest", "Predict", body=body, caller=caller, is_message=True) as exchange:

            def begin() -> "tuple[None, Future[Answer]]":
                request = predict.decode_request(body)
                named = rest_protobuf.agreed(spec, request.spec)
                return None, exchange.start(named, partial(predict_call, request), self._timeout.timeout_s)

            _, future = begin() if len(body) < message_codecs.LARGE_BYTES else await self._begin_aside(begin)
            outputs = exchange.answered(await self._arrivals.of(future, self._timeout, exchange.expire))
            encode = partial(self._encode_message, exchange.spec, outputs)
            message = await self._aside(encode) if message_codecs.is_large(outputs) else encode()
            return _answer_of(exchange, message, rest_protobuf.CONTENT_TYPE)

    async def infer(
        self, method: "_OfExamples", spec: ModelSpec, body: bytes, caller: Caller | None = None
    ) -> Response:
        """POST …:classify or …:regress."""
        is_message = method.content_type == rest_protobuf.CONTENT_TYPE
        with self._serving.exchange("rest", method.api, body=body, caller=caller, is_message=is_message) as exchange:

            def begin() -> "tuple[ExamplesRequest, Future[Answer]]":
                request = method.decode(spec, body)
                return request, exchange.start(request.spec, partial(method.call, request), self._timeout.timeout_s)

            request, future = begin() if len(body) < _LARGE_BYTES else await self._begin_aside(begin)
            outputs = exchange.answered(await self._arrivals.of(future, self._timeout, exchange.expire))
            encode = partial(method.encode, exchange.spec, outputs, len(request.examples), self._non_finite)
            answer = await self._aside(encode) if _is_large(outputs) else encode()
            return _answer_of(exchange, answer, method.content_type)

    def _inferences(self, method: "_OfExamples") -> Gathering[int]:
        """Let calls of *method* go on together."""
        return Gathering(
            self._serving,
            self._arrivals,
            protocol="rest",
            api=method.api,
            write=lambda spec, outputs, examples: method.encode(spec, outputs, examples, self._non_finite),
            is_large=_is_large,
            codec_threads=self._codec_threads,
            timeout=self._timeout,
        )

    async def _unzip(self, body: bytes, plain: "_Plain") -> bytes:
        """
        Decompress *body* on the other threads, a piece at a time, and enter it in *plain*.

        Raises:
            InvalidArgument: It is damaged, or becomes too large.
            Unavailable: There is no room for it among the bodies of other requests.
            DeadlineExceeded: Other requests' turns have taken all its time.
        """
        loop = self._arrivals.loop
        due_at = loop.time() + self._timeout.timeout_s
        zipped = GzipBody(body, min(MAX_UNZIPPED_BYTES, self.connections.held.limit - len(body)))
        while not zipped.is_done:
            # One byte even if nothing is free, for that may be all that there is, and its end unread.
            room = max(min(_PIECE_BYTES, self.connections.held.free), 1)
            plain.hold(room)
            came = await self._aside(partial(zipped.go_on, room))
            plain.hold(came - room)
            if self.connections.held.free < 0:
                raise Unavailable(self.connections.no_room())
            if loop.time() > due_at:
                raise DeadlineExceeded("The timeout of the request was over before its body was decompressed")
        return zipped.plain()

    async def _aside(self, work: Callable[[], T]) -> T:
        """Do *work* on another thread, unless the client leaves before it begins."""
        waiting = _Work(work)
        try:
            return await self._arrivals.of(self._codec_threads.submit(waiting))
        except asyncio.CancelledError:
            waiting.forget()
            raise

    async def _begin_aside(self, begin: "Callable[[], tuple[T, Future[Answer]]]") -> "tuple[T, Future[Answer]]":
        """Begin an answer on another thread; if meanwhile the client leaves, what is begun is withdrawn."""
        waiting = _Work(begin)
        beginning = self._codec_threads.submit(waiting)
        try:
            return await self._arrivals.of(beginning)
        except asyncio.CancelledError:
            waiting.forget()
            beginning.add_done_callback(_withdraw)
            raise

    async def _zip(self, response: Response) -> None:
        body = response.body
        zipped = _zip(body) if len(body) < _LARGE_BYTES else await self._aside(lambda: _zip(body))
        response.headers.append((b"Vary", b"Accept-Encoding"))
        if len(zipped) < len(body):
            response.body = zipped
            response.headers.append((b"Content-Encoding", b"gzip"))


@dataclasses.dataclass(frozen=True, slots=True)
class _OfExamples:
    """A method that takes examples: what is its own of the way from bytes to bytes."""

    api: Api
    decode: Callable[[ModelSpec, bytes], ExamplesRequest]
    """Given whom the path names."""
    call: Callable[[ExamplesRequest, Signatures], Call]
    encode: Callable[[ModelSpec, Tensors, int, NonFinite], bytes]
    """Given who served, and the number of examples, too."""
    content_type: bytes = _JSON


def _json_request(spec: ModelSpec, body: bytes) -> ExamplesRequest:
    request = json_examples.decode_request(body)
    return ExamplesRequest(_named(spec, request.signature_name), request.examples)


def _classify_json(_spec: ModelSpec, outputs: Tensors, examples: int, non_finite: NonFinite) -> bytes:
    return json_examples.encode_classify_response(inference.classification(outputs, examples), non_finite)


def _regress_json(_spec: ModelSpec, outputs: Tensors, examples: int, non_finite: NonFinite) -> bytes:
    return json_examples.encode_regress_response(inference.regression(outputs, examples), non_finite)


def _message_request(decode: Callable[[bytes], ExamplesRequest], spec: ModelSpec, body: bytes) -> ExamplesRequest:
    request = decode(body)
    return ExamplesRequest(rest_protobuf.agreed(spec, request.spec), request.examples)


def _classify_message(spec: ModelSpec, outputs: Tensors, examples: int, _non_finite: NonFinite) -> bytes:
    return message_codecs.classify_response(spec, outputs, examples)


def _regress_message(spec: ModelSpec, outputs: Tensors, examples: int, _non_finite: NonFinite) -> bytes:
    return message_codecs.regress_response(spec, outputs, examples)


_OF_EXAMPLES: dict[tuple[Verb, bool], _OfExamples] = {
    ("classify", False): _OfExamples("Classify", _json_request, classify_call, _classify_json),
    ("regress", False): _OfExamples("Regress", _json_request, regress_call, _regress_json),
    ("classify", True): _OfExamples(
        "Classify",
        partial(_message_request, inference.decode_classify_request),
        classify_call,
        _classify_message,
        rest_protobuf.CONTENT_TYPE,
    ),
    ("regress", True): _OfExamples(
        "Regress",
        partial(_message_request, inference.decode_regress_request),
        regress_call,
        _regress_message,
        rest_protobuf.CONTENT_TYPE,
    ),
}
"""By verb, and whether bodies are messages rather than JSON."""


def _withdraw(beginning: "Future[tuple[Any, Future[Answer]]]") -> None:
    if not beginning.cancelled() and beginning.exception() is None:
        beginning.result()[1].cancel()


class _Joined:
    """A request that goes together with others, and the way back to its client."""

    __slots__ = ("_api", "_content_type", "_request", "_turn")

    def __init__(self, api: RestApi, request: Request, turn: Turn, content_type: bytes = _JSON) -> None:
        self._api = api
        self._request = request
        self._turn = turn
        self._content_type = content_type

    def answer(self, body: bytes, spec: ModelSpec) -> None:
        response = Response(200, body, self._content_type, [_version_header(spec.version)])
        if self._api.is_to_be_zipped(response, self._request):
            self._turn.begin_alone(self._api.zipped(response, self._request))
        else:
            self._turn.respond(self._api.finished(response, self._request.target))

    def refuse(self, error: BaseException) -> None:
        response = _faulty(self._request.target, error, None)
        self._turn.respond(self._api.finished(response, self._request.target))

    def alone(self) -> None:
        self._turn.begin_alone(self._api.handle(self._request))


class _Work:
    """
    What waits for a codec thread.

    The threads' queue holds on to it until its turn comes, even if it is cancelled: not so to the request's body.
    """

    __slots__ = ("_work",)

    def __init__(self, work: Callable[[], Any]) -> None:
        self._work: Callable[[], Any] | None = work

    def __call__(self) -> Any:
        work, self._work = self._work, None
        if work is None:
            # The client left in the moment in which it began.
            raise asyncio.CancelledError
        return work()

    def forget(self) -> None:
        """Let go of it, unless it has begun."""
        self._work = None


class _Plain:
    """
    What a request's body takes once more where it is decompressed.

    If its client leaves while a codec thread reads it, it is struck a little too early: one body a thread at most.
    """

    __slots__ = ("_bytes", "_connections")

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._bytes = 0

    def hold(self, size: int) -> None:
        """Enter *size* bytes more, or fewer if it is negative."""
        self._bytes += size
        self._connections.held.now += size

    def give_back(self) -> None:
        """Strike them all."""
        self.hold(-self._bytes)


class RestServer(HttpServer):
    """REST on a listening socket."""

    def __init__(self, api: RestApi, limits: Limits | None = None, held: Held | None = None) -> None:
        """Put together; see HttpServer."""
        super().__init__(api.handle, error_response, limits, held)
        api.connections = self.connections
        self.connections.gatherer = api


def error_response(status: int, message: str) -> Response:
    """Make an error answer: JSON with one key."""
    # Bytes of a request that are no UTF-8 may be part of a message.
    return Response(status, json.dumps({"error": message}, ensure_ascii=False).encode(errors="replace"))


def _faulty(target: str, error: BaseException, caller: Caller | None) -> Response:
    """Make the answer to a request of *target* that failed with *error*."""
    if not paths.is_rest_path(target):
        return Response(404, b"Not Found\n", b"text/plain")
    return _fault_response(told(error, caller.request_id if caller else ""))


def _fault_response(fault: WireError) -> Response:
    response = error_response(fault.code.http_status, fault.message)
    if fault.retry_after_s is not None:
        response.headers.append((b"Retry-After", b"%d" % max(math.ceil(fault.retry_after_s), 1)))
    return response


def _answer_of(exchange: Exchange, body: bytes, content_type: bytes = _JSON) -> Response:
    return Response(200, exchange.encoded(body), content_type, [_version_header(exchange.spec.version)])


@lru_cache(maxsize=1024)
def _version_header(version: int | None) -> tuple[bytes, bytes]:
    return (MODEL_VERSION_HEADER, b"%d" % (version or 0))


def _wanted(method: str, target: str) -> tuple[Verb, ModelSpec]:
    # Clients ask for few paths, again and again. Long ones are not kept: they would be a way to fill the memory.
    return (_cached_wanted if len(target) < _CACHED_LENGTH else _parsed_wanted)(method, target)


def _parsed_wanted(method: str, target: str) -> tuple[Verb, ModelSpec]:
    path = paths.parse_rest(method, target)
    return path.verb, ModelSpec(path.model, path.version, path.label)


_CACHED_LENGTH = 256
_cached_wanted = lru_cache(maxsize=1024)(_parsed_wanted)


def _named(spec: ModelSpec, signature_name: str) -> ModelSpec:
    # Of few signatures, again and again; a long name is not kept.
    if not signature_name:
        return spec
    return (_cached_named if len(signature_name) < _CACHED_LENGTH else _replaced)(spec, signature_name)


def _replaced(spec: ModelSpec, signature_name: str) -> ModelSpec:
    return dataclasses.replace(spec, signature_name=signature_name)


_cached_named = lru_cache(maxsize=1024)(_replaced)


def _is_large(outputs: Tensors) -> bool:
    return sum([array.size for array in outputs.values()]) > _LARGE_ELEMENTS


def _predict_call(request: ParsedRequest, spec: ModelSpec, signatures: Signatures) -> Call:
    # Another code and text than over gRPC; source: tensorflow_serving/model_servers/http_rest_api_handler.cc.
    signature = signatures.get(spec.signature_key)
    if signature is None:
        raise InvalidArgument(f'Serving signature name: "{spec.signature_key}" not found in signature def')
    return Call(signature.name, request.inputs(signature), tuple(signature.outputs))


def _predict_body(body: bytes, spec: ModelSpec, signatures: Signatures) -> Call:
    return _predict_call(json_predict.parse_request(body), spec, signatures)


def _accepted(request: Request) -> bytes:
    """Return the client's Accept-Encoding, or nothing if it refuses gzip there by name."""
    accepted = request.headers.get(b"accept-encoding", b"").replace(b" ", b"").lower()
    return b"" if b"gzip;q=0" in accepted and not re.search(rb"gzip;q=0\.0*[1-9]", accepted) else accepted


def _zip(body: bytes) -> bytes:
    zipper = zlib.compressobj(_GZIP_LEVEL, wbits=_GZIP)
    return zipper.compress(body) + zipper.flush()


def _is_zipped(request: Request) -> bool:
    return b"gzip" in request.headers.get(b"content-encoding", b"")
