"""What gRPC's transports have in common: a method, what comes with a call, how an error is told. No socket, no library."""

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeAlias

from slipway_server.callers import Caller
from slipway_wire import protobuf
from slipway_wire.model_spec import ModelSpec
from slipway_wire.status import WireError

# TF Serving cuts longer messages: they travel as a header, whose size peers limit to 8 KiB.
_MAX_DETAILS = 1024


@dataclass(frozen=True, slots=True)
class Incoming:
    """
    What a call says besides its message.

    Attributes:
        timeout_s: For how long, from now on, the caller waits; infinite if it set no deadline.
        metadata: Custom metadata by lower-case key, values of `-bin` keys decoded; of a repeated key the last.
        peer: Who calls, as gRPC writes it: `ipv4:127.0.0.1:5000`, `ipv6:[::1]:5000`, `unix:`.
        caller: What the metadata say of whoever calls, found by `Callers`; its request id goes back as trailing metadata.
    """

    timeout_s: float = math.inf
    metadata: Mapping[str, str | bytes] = field(default_factory=dict)
    peer: str = ""
    caller: Caller | None = None


class Joined(Protocol):
    """A call that was taken in to go on together with others, and the way back to its caller."""

    def answer(self, body: bytes, spec: ModelSpec) -> None:
        """End the call well."""

    def refuse(self, error: BaseException) -> None:
        """End the call badly."""

    def alone(self) -> None:
        """Begin the call anew, as one that came by itself."""


class Leaving(Protocol):
    """A call's place among others."""

    def cancel(self) -> None:
        """Take note that nobody waits for its answer any more."""


class Together(Protocol):
    """Answers calls that come together as one."""

    def take(self, body: bytes, incoming: Incoming, call: Joined) -> Leaving | None:
        """Take *call* in; it is told what came of it later than in this turn of the loop. None if it is to be handled alone."""


@dataclass(frozen=True, slots=True)
class Unary:
    """
    One message in, one out. Cancelling the coroutine cancels the call; what it raises is told by `told`.

    Attributes:
        handle: Answers.
        is_stepwise: *handle* is a coroutine that awaits nothing but futures, so that it can be run without a task
            (of `asyncio.current_task`, and what builds on it, it makes no use).
        is_probe: Asks how the server is; answered even if it holds too much for other calls.
        together: Is asked first, where calls may go on together; what it does not take goes to *handle*.
    """

    handle: Callable[[bytes, Incoming], Awaitable[bytes]]
    is_stepwise: bool = False
    is_probe: bool = False
    together: Together | None = None


@dataclass(frozen=True, slots=True)
class ServerStreaming:
    """One message in, any number out; an end of the iteration is OK."""

    handle: Callable[[bytes, Incoming], AsyncIterator[bytes]]


@dataclass(frozen=True, slots=True)
class Bidirectional:
    """Any number in, any number out, in any order; an end of the iteration is OK."""

    handle: Callable[[AsyncIterator[bytes], Incoming], AsyncIterator[bytes]]


Method: TypeAlias = Unary | ServerStreaming | Bidirectional
Services: TypeAlias = Mapping[str, Mapping[str, Method]]
"""Full service name -> method name -> what answers it."""


def guarded(services: Services, check: Callable[[str | bytes | None], None], open_to_all: Collection[str]) -> Services:
    """
    Let in only who may.

    Args:
        services: What is guarded.
        check: Given a call's `authorization` metadata; raises WireError to refuse it.
        open_to_all: Names of services that are not guarded, such as health.
    """
    return {
        service: methods
        if service in open_to_all
        else {name: _guarded(method, check) for name, method in methods.items()}
        for service, methods in services.items()
    }


def _guarded(method: Method, check: Callable[[str | bytes | None], None]) -> Method:
    handle: Any = method.handle

    async def unary(body: bytes, incoming: Incoming) -> bytes:
        check(incoming.metadata.get("authorization"))
        answer: bytes = await handle(body, incoming)
        return answer

    async def streaming(messages: Any, incoming: Incoming) -> AsyncIterator[bytes]:
        check(incoming.metadata.get("authorization"))
        async for message in handle(messages, incoming):
            yield message

    if isinstance(method, Unary):
        together = method.together and _GuardedTogether(method.together, check)
        return replace(method, handle=unary, together=together)
    return type(method)(streaming)


class _GuardedTogether:
    """Takes in whoever may; the others are refused where they go alone."""

    def __init__(self, together: Together, check: Callable[[str | bytes | None], None]) -> None:
        self._together = together
        self._check = check

    def take(self, body: bytes, incoming: Incoming, call: Joined) -> Leaving | None:
        try:
            self._check(incoming.metadata.get("authorization"))
        except WireError:
            return None
        return self._together.take(body, incoming, call)


def besides(fault: WireError) -> tuple[tuple[str, str | bytes], ...]:
    """
    Return the trailing metadata that tell more of *fault* than code and message; keys in `-bin` have bytes.

    When a request is worth another try is told three times: in seconds for people, in milliseconds for clients with a retry
    policy, and as google.rpc.RetryInfo for those that read status details.

    Source: https://github.com/grpc/proposal/blob/master/A6-client-retries.md; google/rpc/status.proto, error_details.proto.
    """
    after_s = fault.retry_after_s
    if after_s is None:
        return ()
    retry_info = protobuf.bytes_field(1, protobuf.varint_field(1, after_s))
    detail = protobuf.bytes_field(1, b"type.googleapis.com/google.rpc.RetryInfo") + protobuf.bytes_field(2, retry_info)
    status = (
        protobuf.varint_field(1, fault.code)
        + protobuf.bytes_field(2, details(fault.message).encode(errors="replace"))
        + protobuf.bytes_field(3, detail)
    )
    return (
        ("retry-after", str(after_s)),
        ("grpc-retry-pushback-ms", str(1000 * after_s)),
        ("grpc-status-details-bin", status),
    )


def details(message: str) -> str:
    """Cut what a caller is told as TF Serving does: 1024 characters and `...TRUNCATED`."""
    return message if len(message) <= _MAX_DETAILS else f"{message[:_MAX_DETAILS]}...TRUNCATED"
