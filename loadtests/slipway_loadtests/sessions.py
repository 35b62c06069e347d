"""Payloads and an address -> a session, for either protocol."""

from collections.abc import Callable, Sequence
from functools import partial

from slipway_loadtests import grpc_user, rest_user
from slipway_loadtests.answers import Answers
from slipway_loadtests.connections import Connection
from slipway_loadtests.session import Arrivals, Observer, Session
from slipway_loadtests.tls import Alpn, Handshake, handshake
from slipway_loadtests.users import LoadUser
from slipway_wire.loads import Encoding, Protocol, Tier, Tls
from slipway_wire.payloads import Payload, decode_grpc_answer, decode_rest_answer
from slipway_wire.status import InvalidArgument
from slipway_wire.tolerances import Tolerances

CLOSED_LOOP: dict[Protocol, type[LoadUser]] = {"rest": rest_user.RestUser, "grpc": grpc_user.GrpcUser}
OPEN_LOOP: dict[Protocol, type[LoadUser]] = {"rest": rest_user.RestArrivals, "grpc": grpc_user.GrpcArrivals}
_FRAME = {"rest": rest_user.frame, "grpc": grpc_user.frame}
_CONNECT: dict[Protocol, Callable[[str, int, Payload, Handshake | None], Connection]] = {
    "rest": rest_user.connect,
    "grpc": grpc_user.connect,
}
_ENCODE = {"rest": rest_user.encode, "grpc": grpc_user.encode}
_READ = {"rest": rest_user.read, "grpc": grpc_user.read}
_BEFOREHAND: tuple[Encoding, ...] = ("prebuilt", "plain_prebuilt")
_ALPN: dict[Protocol, Alpn] = {"rest": "http/1.1", "grpc": "h2"}
_DECODE = {"rest": decode_rest_answer, "grpc": decode_grpc_answer}


def answers_for(
    protocol: Protocol,
    payloads: Sequence[Payload],
    tolerances: Tolerances,
    alternatives: Sequence[Sequence[Payload]] = (),
) -> Answers:
    """Make the judge of *protocol*'s answers to *payloads*; those that *alternatives* expect are right, too."""
    return Answers(
        [payload.expected for payload in payloads],
        lambda number, answer: _DECODE[protocol](payloads[number], answer),
        lambda number, output: tolerances.of(payloads[number].spec.signature_key, output),
        [[payload.expected for payload in others] for others in alternatives],
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
    tier: Tier = "wire",
    first_user: int = 0,
    numbered: bool = False,
) -> Session:
    """
    Make a session that sends *payloads* to *host*:*port*, encoded beforehand or each time anew, by the clients of *tier*.

    Raises:
        OSError: If a certificate that *tls* names cannot be read.
        InvalidArgument: If they call several methods: a connection over gRPC is one method's; or another than predict, which alone can be
            encoded each time anew; or TLS is asked for where only the wire tier speaks it.
    """
    methods = sorted({payload.method for payload in payloads})
    if len(methods) > 1:
        raise InvalidArgument(
            f"the payloads call {' and '.join(methods)}: a load is of one method, take a file for each"
        )
    if encoding != "prebuilt" and methods != ["predict"]:
        raise InvalidArgument(
            f"{methods[0]}: only requests of predict can be made otherwise than they are in the payload file"
        )
    if tls and tier != "wire":
        raise InvalidArgument(f"the {tier} tier speaks no TLS here: take the wire tier")
    named = tls.server_name if tls and tls.server_name else host
    make = [partial(_request, protocol, payload, named, port, encoding, tier) for payload in payloads]
    connect: Callable[[], Connection] = (
        partial(_CONNECT[protocol], host, port, payloads[0], handshake(tls, host, _ALPN[protocol]))
        if tier == "wire"
        else _library_client(protocol, host, port, payloads[0])
    )
    return Session(
        [each() for each in make] if encoding in _BEFOREHAND else make,
        connect,
        answers,
        arrivals=arrivals,
        limit=limit,
        observer=observer,
        numbered=numbered,
        read=None if encoding in _BEFOREHAND else lambda _, answer: _READ[protocol](answer, encoding),
        first_user=first_user,
    )


def _request(protocol: Protocol, payload: Payload, host: str, port: int, encoding: Encoding, tier: Tier) -> bytes:
    body = _ENCODE[protocol](payload, encoding)
    # Libraries write their own headers.
    return _FRAME[protocol](payload, host, port, body) if tier == "wire" else body


def _library_client(protocol: Protocol, host: str, port: int, payload: Payload) -> Callable[[], Connection]:
    # Each costs tens of milliseconds to import, and grpc wants to be imported behind the fork of Locust's workers.
    if protocol == "rest":
        from slipway_loadtests.library_rest import LibraryHttp  # noqa: PLC0415

        return partial(LibraryHttp, host, port, payload.rest_path)
    from slipway_loadtests.library_grpc import LibraryGrpc  # noqa: PLC0415

    return partial(LibraryGrpc, host, port, payload.grpc_method)
