"""`tensorflow.ProfilerService` on our gRPC port: its calls are passed on to TensorFlow's own server as they are."""

import asyncio
import math
from collections.abc import Callable
from functools import partial

import grpc

from slipway_server.transports.rpc import Incoming, Services, Unary
from slipway_wire.status import error_of

PROFILER_SERVICE = "tensorflow.ProfilerService"
# Source: https://github.com/openxla/xprof, xla/tsl/profiler/protobuf/profiler_service.proto.
_METHODS = ("Profile", "Terminate", "Monitor")

# Between two events of ours in a trace.
_MARK_PERIOD_S = 0.1


class ProfilerApi:
    """Starts TensorFlow's profiler when the first call comes, and passes calls on."""

    def __init__(self, start: Callable[[], int], mark: Callable[[str], None]) -> None:
        """
        Put together.

        Args:
            start: Starts the profiler and returns its port on this machine; may block.
            mark: Leaves an event in the trace that is being taken.
        """
        self._start = start
        self._mark = mark
        self._starting = asyncio.Lock()
        self._channel: grpc.aio.Channel | None = None

    def services(self) -> Services:
        """Return service -> method -> handler."""
        return {PROFILER_SERVICE: {name: Unary(partial(self._forward, name)) for name in _METHODS}}

    async def close(self) -> None:
        """Cut the connection to the profiler."""
        if self._channel is not None:
            await self._channel.close(None)

    async def _forward(self, method: str, body: bytes, incoming: Incoming) -> bytes:
        async with self._starting:
            if self._channel is None:
                self._channel = await self._connect()
        call = self._channel.unary_unary(f"/{PROFILER_SERVICE}/{method}", None, None)(
            body, timeout=None if incoming.timeout_s == math.inf else incoming.timeout_s
        )
        marking = asyncio.ensure_future(self._keep_marking())
        try:
            answer: bytes = await call
        except grpc.aio.AioRpcError as error:
            raise error_of(error.code().value[0], error.details() or "") from error
        finally:
            marking.cancel()
        return answer

    async def _connect(self) -> grpc.aio.Channel:
        port = await asyncio.get_running_loop().run_in_executor(None, self._start)
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        # What the environment says of proxies is not meant for a neighbour on the same machine.
        return grpc.aio.insecure_channel(f"127.0.0.1:{port}", [*options, ("grpc.enable_http_proxy", 0)])

    async def _keep_marking(self) -> None:
        while True:
            await asyncio.sleep(_MARK_PERIOD_S)
            self._mark("slipway/event_loop")
