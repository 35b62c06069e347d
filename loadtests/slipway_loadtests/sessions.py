"""Payloads and an address -> a session, for either protocol."""

from collections.abc import Callable, Sequence
from functools import partial

from slipway_loadtests import grpc_user, rest_user
from slipway_loadtests.answers import Answers
from slipway_loadtests.connections import Connection
from slipway_loadtests.session import Arrivals, Observer, Session
from slipway_loadtests.users import LoadUser
from slipway_wire.loads import Protocol
from slipway_wire.payloads import Payload, decode_grpc_answer, decode_rest_answer
from slipway_wire.status import InvalidArgument
from slipway_wire.tolerances import Tolerances

CLOSED_LOOP: dict[Protocol, type[LoadUser]] = {"rest": rest_user.RestUser, "grpc": grpc_user.GrpcUser}
OPEN_LOOP: dict[Protocol, type[LoadUser]] = {"rest": rest_user.RestArrivals, "grpc": grpc_user.GrpcArrivals}
_PREPARE = {"rest": rest_user.prepare, "grpc": grpc_user.prepare}
_CONNECT: dict[Protocol, Callable[[str, int, Payload], Connection]] = {
    "rest": rest_user.connect,
    "grpc": grpc_user.connect,
}
_DECODE = {"rest": decode_rest_answer, "grpc": decode_grpc_answer}


def answers_for(protocol: Protocol, payloads: Sequence[Payload], tolerances: Tolerances) -> Answers:
    """Make the judge of *protocol*'s answers to *payloads*."""
    return Answers(
        [payload.expected for payload in payloads],
        lambda number, answer: _DECODE[protocol](payloads[number], answer),
        lambda number, output: tolerances.of(payloads[number].spec.signature_key, output),
    )


def session_for(
    protocol: Protocol,
    payloads: Sequence[Payload],
    host: str,
    port: int,
    answers: Answers,
    *,
    arrivals: Arrivals | None = None,
    limit: int | None = None,
    observer: Observer | None = None,
) -> Session:
    """
    Make a session that sends *payloads* to *host*:*port*.

    Raises:
        InvalidArgument: If they call several methods: a connection over gRPC is one method's.
    """
    methods = sorted({payload.method for payload in payloads})
    if len(methods) > 1:
        raise InvalidArgument(
            f"the payloads call {' and '.join(methods)}: a load is of one method, take a file for each"
        )
    return Session(
        [_PREPARE[protocol](payload, host, port) for payload in payloads],
        partial(_CONNECT[protocol], host, port, payloads[0]),
        answers,
        arrivals=arrivals,
        limit=limit,
        observer=observer,
    )
