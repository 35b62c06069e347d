"""gRPC: bytes in, serving, bytes out. Which library, if any, brings the bytes is not known here."""

import asyncio
import logging
import math
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Generic, TypeVar

from google.protobuf.message import DecodeError

from slipway_server.batching.scheduler import Answer
from slipway_server.servables.calls import Signatures, classify_call, inference_call, predict_call, regress_call
from slipway_server.servables.loader import Call, JointCall, Tensors
from slipway_server.serving import Api, Exchange, Serving
from slipway_server.transports import message_codecs
from slipway_server.transports.gathering import Gathering
from slipway_server.transports.rpc import (
    Bidirectional,
    Incoming,
    Joined,
    Leaving,
    Method,
    ServerStreaming,
    Services,
    Unary,
)
from slipway_server.transports.waiting import Arrivals
from slipway_wire import inference, messages, model_management, model_metadata, model_status, paths, predict, reflection
from slipway_wire.inference import ExamplesRequest, MultiInferenceRequest
from slipway_wire.model_spec import ModelSpec
from slipway_wire.status import InvalidArgument, NotFound

logger = logging.getLogger(__name__)

R = TypeVar("R", ExamplesRequest, MultiInferenceRequest)
K = TypeVar("K", Call, JointCall)

# Examples are read, and labels and scores written, one by one: microseconds each, so that less of them is much.
_LARGE_EXAMPLES_BYTES = 128 * 1024
_LARGE_RESULTS = 16 * 1024
_CODEC_THREADS = 2

# Source: GRPC_DEFAULT_MAX_RECV_MESSAGE_LENGTH in grpc/impl/channel_arg_names.h.
_CLIENTS_LIMIT_BYTES = 4 * 1024 * 1024

# Besides "" for the whole server. Source: tensorflow_serving/model_servers/server.cc.
_HEALTH_NAMES = ("ModelService", "PredictionService")


class GrpcApi:
    """The handlers; each reads as its sibling in rest_api."""

    def __init__(
        self,
        serving: Serving,
        arrivals: Arrivals,
        *,
        as_content: bool,
        content_min_bytes: float = math.inf,
        has_health_service: bool = False,
        others: Services | None = None,
    ) -> None:
        """
        Put together.

        Args:
            serving: What answers.
            arrivals: Brings its answers to the loop that the server runs on.
            as_content: Answer Predict with tensor_content instead of typed fields.
            content_min_bytes: Answer with tensor_content where an output has this size or more.
            has_health_service: Offer grpc.health.v1.Health, too.
            others: What else is offered beside these services.
        """
        self._serving = serving
        self._arrivals = arrivals
        self._as_content = as_content
        self._content_min_bytes = content_min_bytes
        self._has_health_service = has_health_service
        self._readiness_change = asyncio.Event()
        if has_health_service:
            serving.watch_readiness(self._note_readiness)
        self._others = others or {}
        self._multi_inference = _OfExamples(
            "MultiInference",
            inference.decode_multi_inference_request,
            partial(inference_call, checks_method_names=serving.checks_method_names),
            _multi_inference_response,
        )
        self._codec_threads = ThreadPoolExecutor(_CODEC_THREADS, thread_name_prefix="grpc_codec")
        self._predictions: Gathering[None] = Gathering(
            serving,
            arrivals,
            protocol="grpc",
            api="Predict",
            write=lambda spec, outputs, _: self._sized(self._encode(spec, outputs)),
            write_all=self._encode_all,
            is_large=message_codecs.is_large,
            codec_threads=self._codec_threads,
        )
        self._classifications = self._inferences(_CLASSIFY, message_codecs.classify_response)
        self._regressions = self._inferences(_REGRESS, message_codecs.regress_response)
        self._has_told_size = False
        self._names: tuple[str, ...] = ()

    def services(self) -> Services:
        """Return service -> method -> handler."""
        services: dict[str, Mapping[str, Method]] = {
            **self._others,
            paths.PREDICTION_SERVICE: {
                "Predict": Unary(self.predict, is_stepwise=True, together=_Predictions(self._predictions)),
                "Classify": Unary(self.classify, is_stepwise=True, together=self._classifications),
                "Regress": Unary(self.regress, is_stepwise=True, together=self._regressions),
                "MultiInference": Unary(self.multi_inference, is_stepwise=True),
                "GetModelMetadata": Unary(self.get_model_metadata, is_stepwise=True),
            },
            paths.MODEL_SERVICE: {
                "GetModelStatus": Unary(self.get_model_status, is_stepwise=True),
                "HandleReloadConfigRequest": Unary(self.reload_config),
            },
        }
        if self._has_health_service:
            services[paths.HEALTH_SERVICE] = {
                "Check": Unary(self.check_health, is_stepwise=True, is_probe=True),
                "Watch": ServerStreaming(self.watch_health),
            }
        for service in paths.REFLECTION_SERVICES:
            services[service] = {"ServerReflectionInfo": Bidirectional(self.reflect)}
        self._names = tuple(services)
        return services

    async def predict(self, body: bytes, incoming: Incoming) -> bytes:
        """PredictionService.Predict."""
        with self._serving.exchange("grpc", "Predict", body=body, caller=incoming.caller) as exchange:
            if len(body) < message_codecs.LARGE_BYTES:
                answer = await self._arrivals.of(_begin_predict(exchange, body, incoming.timeout_s))
            else:
                begin = partial(_begin_predict, exchange, body, incoming.timeout_s)
                answer = await self._arrivals.begun_on(self._codec_threads, begin)
            outputs = exchange.answered(answer)
            if not message_codecs.is_large(outputs):
                return exchange.encoded(self._encode(exchange.spec, outputs))
            encoding = self._codec_threads.submit(self._encode, exchange.spec, outputs)
            return exchange.encoded(self._sized(await self._arrivals.of(encoding)))

    def _inferences(
        self, method: "_OfExamples[ExamplesRequest, Call]", write: Callable[[ModelSpec, Tensors, int], bytes]
    ) -> "_Inferences":
        """Let calls of *method* go on together, whose answers *write* makes of who served, outputs and the number of examples."""
        gathering: Gathering[int] = Gathering(
            self._serving,
            self._arrivals,
            protocol="grpc",
            api=method.api,
            write=lambda spec, outputs, examples: self._sized(write(spec, outputs, examples)),
            is_large=_has_many,
            codec_threads=self._codec_threads,
        )
        return _Inferences(gathering, method)

    def _encode(self, spec: ModelSpec, outputs: Tensors) -> bytes:
        return predict.encode_response(
            spec, outputs, as_content=self._as_content, content_min_bytes=self._content_min_bytes
        )

    def _encode_all(
        self, spec: ModelSpec, outputs: Tensors, sizes: Sequence[int], _contexts: Sequence[None]
    ) -> list[bytes] | None:
        return predict.encode_responses(
            spec, outputs, sizes, as_content=self._as_content, content_min_bytes=self._content_min_bytes
        )

    def _sized(self, answer: bytes) -> bytes:
        """Say once what clients make of an answer that is larger than they expect."""
        if len(answer) > _CLIENTS_LIMIT_BYTES and not self._has_told_size:
            self._has_told_size = True
            logger.info(
                "An answer of %d bytes goes out: gRPC clients refuse more than %d, with RESOURCE_EXHAUSTED, unless "
                "their channel has the option grpc.max_receive_message_length=-1",
                *(len(answer), _CLIENTS_LIMIT_BYTES),
            )
        return answer

    def classify(self, body: bytes, incoming: Incoming) -> Awaitable[bytes]:
        """PredictionService.Classify."""
        return self._infer(_CLASSIFY, body, incoming)

    def regress(self, body: bytes, incoming: Incoming) -> Awaitable[bytes]:
        """PredictionService.Regress."""
        return self._infer(_REGRESS, body, incoming)

    def multi_inference(self, body: bytes, incoming: Incoming) -> Awaitable[bytes]:
        """PredictionService.MultiInference."""
        return self._infer(self._multi_inference, body, incoming)

    async def _infer(self, method: "_OfExamples[R, K]", body: bytes, incoming: Incoming) -> bytes:
        """Answer a call over examples; large messages are read and written aside, as those of `predict` are."""
        with self._serving.exchange("grpc", method.api, body=body, caller=incoming.caller) as exchange:
            requests: list[R] = []

            def begin() -> "Future[Answer]":
                request = method.decode(body)
                requests.append(request)
                return exchange.start(request.spec, partial(method.call, request), incoming.timeout_s)

            if len(body) < _LARGE_EXAMPLES_BYTES:
                answer = await self._arrivals.of(begin())
            else:
                answer = await self._arrivals.begun_on(self._codec_threads, begin)
            outputs = exchange.answered(answer)
            if not _has_many(outputs):
                return exchange.encoded(method.encode(exchange, requests[0], outputs))
            encoding = self._codec_threads.submit(method.encode, exchange, requests[0], outputs)
            return exchange.encoded(self._sized(await self._arrivals.of(encoding)))

    async def get_model_metadata(self, body: bytes, incoming: Incoming) -> bytes:
        """PredictionService.GetModelMetadata."""
        return model_metadata.encode_response(*self._serving.metadata(model_metadata.decode_request(body)))

    async def get_model_status(self, body: bytes, incoming: Incoming) -> bytes:
        """ModelService.GetModelStatus. A label is passed over, as TF Serving does."""
        spec = model_status.decode_request(body)
        return model_status.encode_response(self._serving.statuses(spec.name, spec.version))

    async def reload_config(self, body: bytes, incoming: Incoming) -> bytes:
        """ModelService.HandleReloadConfigRequest. Who gives up waiting does not undo the change."""
        request = model_management.decode_request(body)
        before = self._totals(request.metric_names)
        await self._arrivals.of(self._serving.reload(request.config))
        after = self._totals(request.metric_names)
        return model_management.encode_response({name: after[name] - before[name] for name in before})

    def _totals(self, names: Iterable[str]) -> dict[str, int]:
        """Add up every metric of *names*, which may be TF Serving's paths or names as Prometheus knows them."""
        if not names:
            return {}
        totals = dict.fromkeys(names, 0.0)
        # A histogram counts as its number of values.
        series = {sample: name for name in totals for sample in (_metric(name), f"{_metric(name)}_count")}
        for sample, value in self._serving.metrics.snapshot().items():
            name = series.get(sample.partition("{")[0])
            if name is not None:
                totals[name] += value
        return {name: int(total) for name, total in totals.items()}

    async def check_health(self, body: bytes, incoming: Incoming) -> bytes:
        """Health.Check. Source: https://github.com/grpc/grpc/blob/master/doc/health-checking.md."""
        return self._health(body)

    async def watch_health(self, body: bytes, incoming: Incoming) -> AsyncIterator[bytes]:
        """Health.Watch: the state now, and again whenever it has changed."""
        told_last = None
        while True:
            change = self._readiness_change
            try:
                state = self._health(body)
            except NotFound:
                # Watch answers so, because the service may appear later.
                state = _serialized(messages.HealthCheckResponse(status="SERVICE_UNKNOWN"))
            if state != told_last:
                yield state
            told_last = state
            await change.wait()

    def _note_readiness(self) -> None:
        """Wake who watches; from any thread."""
        if not self._arrivals.loop.is_closed():
            self._arrivals.loop.call_soon_threadsafe(self._wake_watchers)

    def _wake_watchers(self) -> None:
        self._readiness_change.set()
        self._readiness_change = asyncio.Event()

    async def reflect(self, bodies: AsyncIterator[bytes], incoming: Incoming) -> AsyncIterator[bytes]:
        """ServerReflection.ServerReflectionInfo, of v1 and v1alpha."""
        async for body in bodies:
            yield reflection.answer(body, self._names)

    def _health(self, body: bytes) -> bytes:
        """Make a HealthCheckResponse; NotFound if nobody offers the service that was asked about."""
        try:
            service = messages.HealthCheckRequest.FromString(body).service
        except DecodeError as error:
            raise InvalidArgument("the message is not a HealthCheckRequest") from error
        # A model is asked about by its name, as a service of its own.
        model = None if service in {"", *_HEALTH_NAMES} else service
        if model is not None and model not in self._serving.model_names():
            raise NotFound(f"unknown service {service}")
        is_ready = self._serving.is_ready(model)
        return _serialized(messages.HealthCheckResponse(status="SERVING" if is_ready else "NOT_SERVING"))


class _Predictions:
    """Takes Predict calls in that may go on together."""

    def __init__(self, gathering: Gathering[None]) -> None:
        self._gathering = gathering

    def take(self, body: bytes, incoming: Incoming, call: Joined) -> Leaving | None:
        """See `Together.take`."""
        if len(body) >= message_codecs.LARGE_BYTES or not self._gathering.is_open:
            return None
        began = time.monotonic()
        form = predict.find_form(body)
        if form is not None:
            spec, decode = form.spec, partial(message_codecs.predict_body, body)
        else:
            try:
                request = predict.decode_request(body)
            except InvalidArgument:
                # It is told what is wrong where it goes alone.
                return None
            spec, decode = request.spec, partial(predict_call, request)
        return self._gathering.take(
            spec,
            decode,
            call,
            None,
            size=len(body),
            began=began,
            timeout_s=incoming.timeout_s,
            form=form,
            values=body,
        )


class _Inferences:
    """Takes calls of Classify or Regress in that may go on together."""

    def __init__(self, gathering: Gathering[int], method: "_OfExamples[ExamplesRequest, Call]") -> None:
        self._gathering = gathering
        self._method = method

    def take(self, body: bytes, incoming: Incoming, call: Joined) -> Leaving | None:
        """See `Together.take`."""
        if len(body) >= _LARGE_EXAMPLES_BYTES or not self._gathering.is_open:
            return None
        began = time.monotonic()
        try:
            request = self._method.decode(body)
        except InvalidArgument:
            # It is told what is wrong where it goes alone.
            return None
        decode, examples = partial(self._method.call, request), len(request.examples)
        return self._gathering.take(
            request.spec, decode, call, examples, size=len(body), began=began, timeout_s=incoming.timeout_s
        )


@dataclass(frozen=True, slots=True)
class _OfExamples(Generic[R, K]):
    """A method that takes examples: what is its own of the way from bytes to bytes."""

    api: Api
    decode: Callable[[bytes], R]
    call: Callable[[R, Signatures], K]
    encode: Callable[[Exchange, R, Tensors], bytes]


def _multi_inference_response(exchange: Exchange, request: MultiInferenceRequest, outputs: Tensors) -> bytes:
    call = exchange.call
    assert isinstance(call, JointCall)
    results = inference.inference_results(request, call.parted(outputs))
    specs = [replace(exchange.spec, signature_name=one.signature) for one in call.calls]
    return inference.encode_multi_inference_response(list(zip(specs, results, strict=True)))


_CLASSIFY = _OfExamples(
    "Classify",
    inference.decode_classify_request,
    classify_call,
    lambda exchange, request, outputs: message_codecs.classify_response(exchange.spec, outputs, len(request.examples)),
)
_REGRESS = _OfExamples(
    "Regress",
    inference.decode_regress_request,
    regress_call,
    lambda exchange, request, outputs: message_codecs.regress_response(exchange.spec, outputs, len(request.examples)),
)


def _begin_predict(exchange: Exchange, body: bytes, timeout_s: float) -> "Future[Answer]":
    request = predict.decode_request(body)
    return exchange.start(request.spec, partial(predict_call, request), timeout_s)


def _has_many(outputs: Tensors) -> bool:
    return sum([array.size for array in outputs.values()]) >= _LARGE_RESULTS


def _metric(name: str) -> str:
    """Turn `/tensorflow/serving/request_count` into the name under which Prometheus knows it."""
    return re.sub(r"[^A-Za-z0-9_]", ":", name)


def _serialized(message: Any) -> bytes:
    serialized: bytes = message.SerializeToString()
    return serialized
