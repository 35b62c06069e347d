"""
The services over grpcio (grpc.aio): sockets, options, status.

grpcio's own cost of 100 to 200 µs a request hides that of messages; handlers still take and give bytes, so that the
wire package alone decides how they are read and written.
"""

import math
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import grpc

from slipway_server.callers import REQUEST_ID, TRACEPARENT, Callers
from slipway_server.errors import told
from slipway_server.transports.rpc import (
    Bidirectional,
    Incoming,
    Method,
    ServerStreaming,
    Services,
    Unary,
    besides,
    details,
)
from slipway_server.transports.tls import Tls
from slipway_wire.status import WireError

Context = grpc.aio.ServicerContext[bytes, bytes]

_STATUS_CODES = {code.value[0]: code for code in grpc.StatusCode}


async def start_server(
    services: Services,
    addresses: Sequence[str],
    options: Mapping[str, int | str],
    callers: Callers | None = None,
    tls: Tls | None = None,
) -> tuple[grpc.aio.Server, list[int]]:
    """
    Listen on *addresses* and answer.

    Args:
        services: What answers.
        addresses: `host:port` (port 0: any) or `unix:path`.
        options: Channel arguments of the user; they win over ours.
        callers: Finds out who calls.
        tls: Speak TLS on all of them, and believe these clients only.

    Returns:
        The running server, and the port of each address.

    Raises:
        RuntimeError: An address cannot be bound.
    """
    ours = {
        # As TF Serving; protobuf takes no more.
        "grpc.max_receive_message_length": 2**31 - 1,
        "grpc.max_send_message_length": -1,
        # On by default, it lets two servers share a port, each unaware of the other.
        "grpc.so_reuseport": 0,
        # Calls that we have not looked at yet. With 1000 and 3000, gRPC's own numbers, a burst of a few thousand small
        # calls from one client is CANCELLED in part; whether they are too many is for the queue of the model to say.
        "grpc.server.max_pending_requests": 30_000,
        "grpc.server.max_pending_requests_hard_limit": 60_000,
    }
    server = grpc.aio.server(options=list({**ours, **options}.items()))
    for service, methods in services.items():
        handlers = {name: _rpc_handler(method, callers or Callers()) for name, method in methods.items()}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    if tls is None:
        ports = [server.add_insecure_port(address) for address in addresses]
    else:
        credentials = _credentials(tls)
        ports = [server.add_secure_port(address, credentials) for address in addresses]
    await server.start()
    return server, ports


def _credentials(tls: Tls) -> grpc.ServerCredentials:
    authority = tls.client_authority
    return grpc.ssl_server_credentials(
        [(tls.key.encode(), tls.certificate.encode())],
        root_certificates=None if authority is None else authority.encode(),
        require_client_auth=authority is not None,
    )


def _rpc_handler(method: Method, callers: Callers) -> Any:
    match method:
        case Unary():
            return grpc.unary_unary_rpc_method_handler(_unary(method, callers))
        case ServerStreaming():
            return grpc.unary_stream_rpc_method_handler(_streaming(method, callers))
        case Bidirectional():
            return grpc.stream_stream_rpc_method_handler(_streaming(method, callers))


def _unary(method: Unary, callers: Callers) -> Any:
    handle = method.handle

    async def answer(body: bytes, context: Context) -> bytes:
        incoming = _incoming(context, callers)
        try:
            return await handle(body, incoming)
        except Exception as error:
            fault = _told(incoming, error)
        # What `abort` raises is kept by grpcio in a circle with this frame, which must not keep the message as well.
        # To set the status and return would send an empty answer before it, and no client tries again after an answer.
        del body
        await _abort(context, fault)
        raise AssertionError("abort raises")

    return answer


def _streaming(method: ServerStreaming | Bidirectional, callers: Callers) -> Any:
    handle: Any = method.handle

    async def answer(messages: Any, context: Context) -> AsyncIterator[bytes]:
        incoming = _incoming(context, callers)
        try:
            async for message in handle(messages, incoming):
                yield message
        except Exception as error:
            fault = _told(incoming, error)
        else:
            return
        del messages
        await _abort(context, fault)

    return answer


def _told(incoming: Incoming, error: Exception) -> WireError:
    return told(error, incoming.caller.request_id if incoming.caller else "")


async def _abort(context: Context, fault: WireError) -> None:
    if more := besides(fault):
        context.set_trailing_metadata((*(context.trailing_metadata() or ()), *more))
    await context.abort(_STATUS_CODES[fault.code], details(fault.message))


def _incoming(context: Context, callers: Callers) -> Incoming:
    remaining = context.time_remaining()
    metadata: dict[str, str | bytes] = dict(context.invocation_metadata() or ())
    caller = callers.of(metadata.get(REQUEST_ID), metadata.get(TRACEPARENT), context.peer())
    if caller is not None and caller.request_id:
        context.set_trailing_metadata(((REQUEST_ID, caller.request_id),))
    return Incoming(
        math.inf if remaining is None else remaining,
        metadata,
        context.peer(),
        caller,
    )
