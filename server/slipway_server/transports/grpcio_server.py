"""
The services over grpcio (grpc.aio): sockets, options, status.

grpcio's own cost of 100 to 200 µs a request hides that of messages; handlers still take and give bytes, so that the
wire package alone decides how they are read and written.
"""

import math
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import grpc

from slipway_server.errors import told
from slipway_server.transports.rpc import Bidirectional, Incoming, Method, ServerStreaming, Services, Unary, details

Context = grpc.aio.ServicerContext[bytes, bytes]

_STATUS_CODES = {code.value[0]: code for code in grpc.StatusCode}


async def start_server(
    services: Services, addresses: Sequence[str], options: Mapping[str, int | str]
) -> tuple[grpc.aio.Server, list[int]]:
    """
    Listen on *addresses* and answer.

    Args:
        services: What answers.
        addresses: `host:port` (port 0: any) or `unix:path`.
        options: Channel arguments of the user; they win over ours.

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
    for service, methods in services.items():
        handlers = {name: _rpc_handler(method) for name, method in methods.items()}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    ports = [server.add_insecure_port(address) for address in addresses]
    await server.start()
    return server, ports


def _rpc_handler(method: Method) -> Any:
    match method:
        case Unary():
            return grpc.unary_unary_rpc_method_handler(_unary(method))
        case ServerStreaming():
            return grpc.unary_stream_rpc_method_handler(_streaming(method))
        case Bidirectional():
            return grpc.stream_stream_rpc_method_handler(_streaming(method))


def _unary(method: Unary) -> Any:
    handle = method.handle

    async def answer(body: bytes, context: Context) -> bytes:
        try:
            return await handle(body, _incoming(context))
        except Exception as error:
            await _abort(context, error)
        raise AssertionError("abort raises")

    return answer


def _streaming(method: ServerStreaming | Bidirectional) -> Any:
    handle: Any = method.handle

    async def answer(incoming: Any, context: Context) -> AsyncIterator[bytes]:
        try:
            async for message in handle(incoming, _incoming(context)):
                yield message
        except Exception as error:
            await _abort(context, error)

    return answer


async def _abort(context: Context, error: Exception) -> None:
    fault = told(error)
    await context.abort(_STATUS_CODES[fault.code], details(fault.message))


def _incoming(context: Context) -> Incoming:
    remaining = context.time_remaining()
    return Incoming(
        math.inf if remaining is None else remaining,
        dict(context.invocation_metadata() or ()),
        context.peer(),
    )
