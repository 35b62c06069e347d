"""Payloads and an address -> a session, for either protocol."""

from collections.abc import Callable, Sequence
from functools import partial

from slipway_loadtests import grpc_user, rest_user
from slipway_loadtests.answers import Answers
from slipway_loadtests.connections import Connection
from slipway_loadtests.session import Arrivals, Observer, Session
from slipway_loadtests.tls import Alpn, Handshake, handshake
from slipway_loadtests.users import LoadUser
from slipway_wire.loads import Encoding, Protocol, Tls
from slipway_wire.payloads import Payload, decode_grpc_answer, decode_rest_answer
from slipway_wire.status import InvalidArgument
from slipway_wire.tolerances import Tolerances

CLOSED_LOOP: dict[Protocol, type[LoadUser]] = {"rest": rest_user.RestUser, "grpc": grpc_user.GrpcUser}
OPEN_LOOP: dict[Protocol, type[LoadUser]] = {"rest": rest_user.RestArrivals, "grpc": grpc_user.GrpcArrivals}
_PREPARE = {"rest": rest_user.prepare, "grpc": grpc_user.prepare}
_CONNECT: dict[Protocol, Callable[[str, int, Payload, Handshake | None], Connection]] = {
    "rest": rest_user.connect,
    "grpc": grpc_user.connect,
}
_MAKE = {"rest": rest_user.make, "grpc": grpc_user.make}
_READ = {"rest": rest_user.read, "grpc": grpc_user.read}
_ALPN: dict[Protocol, Alpn] = {"rest": "http/1.1", "grpc": "h2"}
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
    encoding: Encoding = "prebuilt",
    tls: Tls | None = None,
) -> Session:
    """
    Make a session that sends *payloads* to *host*:*port*, encoded beforehand or each time anew.

    Raises:
        OSError: If a certificate that *tls* names cannot be read.
        InvalidArgument: If they call several methods: a connection over gRPC is one method's; or another than predict, which alone can be
            encoded each time anew.
    """
    methods = sorted({payload.method for payload in payloads})
    if len(methods) > 1:
        raise InvalidArgument(
            f"the payloads call {' and '.join(methods)}: a load is of one method, take a file for each"
        )
    if encoding != "prebuilt" and methods != ["predict"]:
        raise InvalidArgument(f"{methods[0]}: only requests of predict can be made while the clock runs")
    named = tls.server_name if tls and tls.server_name else host
    requests: list[bytes | Callable[[], bytes]] = (
        [_PREPARE[protocol](payload, named, port) for payload in payloads]
        if encoding == "prebuilt"
        else [partial(_MAKE[protocol], payload, named, port, encoding) for payload in payloads]
    )
    return Session(
        requests,
        partial(_CONNECT[protocol], host, port, payloads[0], handshake(tls, host, _ALPN[protocol])),
        answers,
        arrivals=arrivals,
        limit=limit,
        observer=observer,
        read=None if encoding == "prebuilt" else lambda _, answer: _READ[protocol](answer, encoding),
    )
