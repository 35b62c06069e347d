"""
gRPC: bytes in, serving, bytes out, on grpc.aio.

grpcio's own cost of 100 to 200 µs a request hides that of messages; handlers still take and give bytes, so that the
wire package alone decides how they are read and written.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import grpc

from slipway_server.errors import told
from slipway_server.servables.calls import classify_call, predict_call, regress_call
from slipway_server.serving import Serving
from slipway_server.transports.waiting import Arrivals
from slipway_wire import inference, messages, model_metadata, model_status, paths, predict
from slipway_wire.status import NotFound

Context = grpc.aio.ServicerContext[bytes, bytes]
Handler = Callable[[bytes, Context], Awaitable[bytes]]

# TF Serving cuts longer messages: they travel as a header, whose size peers limit to 8 KiB.
_MAX_DETAILS = 1024

# Besides "" for the whole server. Source: tensorflow_serving/model_servers/server.cc.
_HEALTH_NAMES = ("ModelService", "PredictionService")
# Between two looks at the state for those who watch it.
_HEALTH_PERIOD_S = 0.2

_STATUS_CODES = {code.value[0]: code for code in grpc.StatusCode}


class GrpcApi:
    """The handlers; each reads as its sibling in rest_api."""

    def __init__(self, serving: Serving, arrivals: Arrivals, *, as_content: bool) -> None:
        """
        Put together.

        Args:
            serving: What answers.
            arrivals: Brings its answers to the loop that the server runs on.
            as_content: Answer Predict with tensor_content instead of typed fields.
        """
        self._serving = serving
        self._arrivals = arrivals
        self._as_content = as_content

    def services(self) -> Mapping[str, Mapping[str, Handler]]:
        """Return service -> method -> handler."""
        return {
            paths.PREDICTION_SERVICE: {
                "Predict": self.predict,
                "Classify": self.classify,
                "Regress": self.regress,
                "GetModelMetadata": self.get_model_metadata,
            },
            paths.MODEL_SERVICE: {"GetModelStatus": self.get_model_status},
        }

    async def predict(self, body: bytes, context: Context) -> bytes:
        """PredictionService.Predict."""
        with self._serving.exchange("grpc", "Predict") as exchange:
            request = predict.decode_request(body)
            answer = await self._arrivals.of(
                exchange.start(request.spec, lambda signatures: predict_call(request, signatures), _timeout_s(context))
            )
            return predict.encode_response(exchange.spec, exchange.answered(answer), as_content=self._as_content)

    async def classify(self, body: bytes, context: Context) -> bytes:
        """PredictionService.Classify."""
        with self._serving.exchange("grpc", "Classify") as exchange:
            request = inference.decode_classify_request(body)
            answer = await self._arrivals.of(
                exchange.start(request.spec, lambda signatures: classify_call(request, signatures), _timeout_s(context))
            )
            classification = inference.classification(exchange.answered(answer), len(request.examples))
            return inference.encode_classify_response(exchange.spec, classification)

    async def regress(self, body: bytes, context: Context) -> bytes:
        """PredictionService.Regress."""
        with self._serving.exchange("grpc", "Regress") as exchange:
            request = inference.decode_regress_request(body)
            answer = await self._arrivals.of(
                exchange.start(request.spec, lambda signatures: regress_call(request, signatures), _timeout_s(context))
            )
            regression = inference.regression(exchange.answered(answer), len(request.examples))
            return inference.encode_regress_response(exchange.spec, regression)

    async def get_model_metadata(self, body: bytes, context: Context) -> bytes:
        """PredictionService.GetModelMetadata."""
        return model_metadata.encode_response(*self._serving.metadata(model_metadata.decode_request(body)))

    async def get_model_status(self, body: bytes, context: Context) -> bytes:
        """ModelService.GetModelStatus. A label is passed over, as TF Serving does."""
        spec = model_status.decode_request(body)
        return model_status.encode_response(self._serving.statuses(spec.name, spec.version))

    def health(self, body: bytes) -> Any:
        """
        Make the HealthCheckResponse for a serialized HealthCheckRequest.

        Raises:
            NotFound: Nobody offers the service that was asked about.
        """
        service = messages.HealthCheckRequest.FromString(body).service
        if service not in {"", *_HEALTH_NAMES}:
            raise NotFound(f"unknown service {service}")
        state = "SERVING" if self._serving.is_ready() else "NOT_SERVING"
        return messages.HealthCheckResponse(status=state)


async def start_server(
    api: GrpcApi, addresses: list[str], options: Mapping[str, int | str], *, has_health_service: bool
) -> tuple[grpc.aio.Server, list[int]]:
    """
    Listen on *addresses* and answer.

    Args:
        api: The handlers.
        addresses: `host:port` (port 0: any) or `unix:path`.
        options: Channel arguments of the user; they win over ours.
        has_health_service: Serve grpc.health.v1.Health, too.

    Returns:
        The running server, and the port of each address.

    Raises:
        RuntimeError: An address cannot be bound.
    """
    ours = {
        "grpc.max_receive_message_length": -1,
        "grpc.max_send_message_length": -1,
        # On by default, it lets two servers share a port, each unaware of the other.
        "grpc.so_reuseport": 0,
    }
    server = grpc.aio.server(options=list({**ours, **options}.items()))
    for service, handlers in api.services().items():
        methods = {name: grpc.unary_unary_rpc_method_handler(_answering(handler)) for name, handler in handlers.items()}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))
    if has_health_service:
        server.add_generic_rpc_handlers((_health_handlers(api),))
    ports = [server.add_insecure_port(address) for address in addresses]
    await server.start()
    return server, ports


def _health_handlers(api: GrpcApi) -> Any:
    """Make the handlers of grpc.health.v1.Health. Source: https://github.com/grpc/grpc/blob/master/doc/health-checking.md."""

    async def check(body: bytes, context: Context) -> bytes:
        return _serialized(api.health(body))

    async def watch(body: bytes, context: Context) -> AsyncIterator[bytes]:
        told_last = None
        while True:
            try:
                state = _serialized(api.health(body))
            except NotFound:
                # Watch answers so, because the service may appear later.
                state = _serialized(messages.HealthCheckResponse(status="SERVICE_UNKNOWN"))
            if state != told_last:
                yield state
            told_last = state
            await asyncio.sleep(_HEALTH_PERIOD_S)

    return grpc.method_handlers_generic_handler(
        paths.HEALTH_SERVICE,
        {
            "Check": grpc.unary_unary_rpc_method_handler(_answering(check)),
            "Watch": grpc.unary_stream_rpc_method_handler(watch),
        },
    )


def _answering(handler: Handler) -> Any:
    """Wrap *handler*: what it raises becomes a status."""

    async def answer(body: bytes, context: Context) -> bytes:
        try:
            return await handler(body, context)
        except Exception as error:
            fault = told(error)
        message = fault.message
        if len(message) > _MAX_DETAILS:
            message = message[:_MAX_DETAILS] + "...TRUNCATED"
        await context.abort(_STATUS_CODES[fault.code], message)
        raise AssertionError("abort raises")

    return answer


def _timeout_s(context: Context) -> float:
    remaining = context.time_remaining()
    return math.inf if remaining is None else remaining


def _serialized(message: Any) -> bytes:
    serialized: bytes = message.SerializeToString()
    return serialized
