"""
The first requests of each signature and batch size at a fresh server, one after the other on one connection.

They are those of the warm-up records, sent as a client sends them: what the records are for is measured with them and without.
A plain client takes the time, from the request's first byte to the answer's last; nothing is decoded meanwhile.
"""

import contextlib
import http.client
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import grpc

from slipway.errors import InvalidMeasurement, SourceError
from slipway.records import FirstRequests, Protocol
from slipway.servers import RunningServer
from slipway_wire import inference, json_examples, json_predict, paths, predict, tfrecord, warmup_log
from slipway_wire.inference import ExamplesRequest
from slipway_wire.predict import PredictRequest
from slipway_wire.status import WireError
from slipway_wire.warmup_log import WARMUP_FILE

# Later requests of one batch size: enough for a median, or as many as go into this time, and then one at least.
_LATER = 9
_LONG_ENOUGH_S = 0.25
# Larger requests would measure the network stack and the parser, and take as long as all others together.
MAX_MESSAGE_BYTES = 4 * 2**20
_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Question:
    """One request in both protocols."""

    signature: str
    rows: int
    rest_path: str
    rest_body: bytes
    grpc_method: str
    grpc_message: bytes


def questions(servable: Path, model: str, version: int) -> tuple[list[Question], int]:
    """
    Make requests of the warm-up records of a servable, in their order.

    Args:
        servable: The version's directory; without records there is nothing to ask.
        model: Name of the model.
        version: The version that is to answer.

    Returns:
        The requests, and how many records are none because they are too large, or because JSON cannot say them.

    Raises:
        SourceError: If the records are damaged.
    """
    path = servable / WARMUP_FILE
    asked, left_out = [], 0
    if path.is_file():
        try:
            with path.open("rb") as stream:
                for record in tfrecord.read(stream):
                    question = _question(record, model, version)
                    asked += [question] if question else []
                    left_out += question is None
        except WireError as error:
            raise SourceError(f"{path}: {error.message}. Run `slipway warmup` again.") from error
    return asked, left_out


def _question(record: bytes, model: str, version: int) -> Question | None:
    logged = warmup_log.decode(record)
    match logged and logged.request:
        case PredictRequest(spec=spec, inputs=lazy):
            inputs = dict(lazy)
            rows = min(len(array) if array.ndim else 1 for array in inputs.values())
            message = predict.encode_request(model, inputs, version=version, signature_name=spec.signature_key)
            write: Callable[[], bytes] = lambda: json_predict.encode_request(inputs, signature_name=spec.signature_key)  # noqa: E731
        case ExamplesRequest(spec=spec, examples=examples):
            rows = len(examples)
            message = inference.encode_request(model, examples, version=version, signature_name=spec.signature_key)
            write = lambda: json_examples.encode_request(examples, signature_name=spec.signature_key)  # noqa: E731
        case _:
            return None
    assert logged is not None  # or there would be no request
    if len(message) > MAX_MESSAGE_BYTES or logged.method == "multi_inference":
        return None
    try:
        body = write()
    except WireError:
        return None
    return Question(
        signature=spec.signature_key,
        rows=rows,
        rest_path=paths.rest_path(model, logged.method, version=version),
        rest_body=body,
        grpc_method=paths.GRPC_METHODS[logged.method],
        grpc_message=message,
    )


def measure(server: RunningServer, protocol: Protocol, asked: Sequence[Question]) -> list[FirstRequests]:
    """
    Send each of *asked* several times.

    Returns:
        What the first took, and those after it, in the order of *asked*.

    Raises:
        InvalidMeasurement: At an answer that is an error.
    """
    connect = _rest if protocol == "rest" else _grpc
    with connect(server) as send:
        return [_measure(question, send) for question in asked]


def _measure(question: Question, send: Callable[[Question], float]) -> FirstRequests:
    first = send(question)
    later: list[float] = []
    while len(later) < _LATER and (not later or sum(later) < _LONG_ENOUGH_S):
        later.append(send(question))
    return FirstRequests(
        signature=question.signature,
        rows=question.rows,
        first_us=first * 1e6,
        later_us=[seconds * 1e6 for seconds in later],
    )


@contextlib.contextmanager
def _rest(server: RunningServer) -> Iterator[Callable[[Question], float]]:
    connection = http.client.HTTPConnection(server.host, server.rest_port, timeout=_TIMEOUT_S)

    def send(question: Question) -> float:
        began = time.perf_counter()
        connection.request("POST", question.rest_path, question.rest_body)
        answer = connection.getresponse()
        body = answer.read()
        took = time.perf_counter() - began
        if answer.status != http.HTTPStatus.OK:
            raise _failed(question, f"{answer.status}: {body[:200].decode(errors='replace')}")
        return took

    try:
        # Before the first request, which is to be the server's time alone.
        connection.connect()
        yield send
    except (OSError, http.client.HTTPException) as error:
        server.check_alive()
        raise InvalidMeasurement(
            f"The first requests over REST: no answer ({error or type(error).__name__})."
        ) from error
    finally:
        connection.close()


@contextlib.contextmanager
def _grpc(server: RunningServer) -> Iterator[Callable[[Question], float]]:
    options = [("grpc.max_receive_message_length", -1), ("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(f"{server.host}:{server.grpc_port}", options=options) as channel:
        calls = {
            method: channel.unary_unary(method, request_serializer=bytes, response_deserializer=bytes)
            for method in paths.GRPC_METHODS.values()
        }

        def send(question: Question) -> float:
            began = time.perf_counter()
            try:
                calls[question.grpc_method](question.grpc_message, timeout=_TIMEOUT_S)
            except grpc.RpcError as error:
                server.check_alive()
                raise _failed(question, str(cast("grpc.Call", error).details())) from error
            return time.perf_counter() - began

        try:
            grpc.channel_ready_future(channel).result(_TIMEOUT_S)
        except grpc.FutureTimeoutError as error:
            server.check_alive()
            raise InvalidMeasurement("The first requests over gRPC: no connection.") from error
        yield send


def _failed(question: Question, said: str) -> InvalidMeasurement:
    return InvalidMeasurement(
        f"The first requests: {question.signature} with {question.rows} rows: expected an answer, found {said}"
    )
