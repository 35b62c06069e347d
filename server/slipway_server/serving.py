"""What both front doors offer: run a signature, tell what is served. Knows neither gRPC nor HTTP."""

import logging
import math
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any, Literal, Self

from slipway_server.batching.scheduler import Answer, Scheduler, Work
from slipway_server.batching.task import Run
from slipway_server.callers import Caller
from slipway_server.config_files import BatchingPolicy
from slipway_server.instruments import Rows
from slipway_server.metrics import Metrics, RequestKind
from slipway_server.servables.calls import Signatures, check_method
from slipway_server.servables.configuration import Change, Configuration, replace_by
from slipway_server.servables.loader import Call, JointCall, Servable, Tensors
from slipway_server.servables.manager import Handle, Manager
from slipway_wire.inference import INPUTS
from slipway_wire.model_spec import ModelSpec
from slipway_wire.model_status import VersionStatus
from slipway_wire.status import Code, DeadlineExceeded, InvalidArgument, NotFound, Unavailable, WireError

logger = logging.getLogger(__name__)

Protocol = Literal["grpc", "rest"]
Api = Literal["Predict", "Classify", "Regress", "MultiInference"]


class Serving:
    """One for the whole server; used from the transports' thread."""

    def __init__(
        self,
        manager: Manager,
        scheduler: Scheduler,
        metrics: Metrics,
        configuration: Configuration,
        *,
        checks_method_names: bool = False,
    ) -> None:
        self.checks_method_names = checks_method_names
        """Whether a signature must be exported for the method by which it is called."""
        self.metrics = metrics
        self.configuration = configuration
        """Which models there are; how to read and change that."""
        self._manager = manager
        self._scheduler = scheduler
        self._is_draining = False
        self._is_lame_duck = False
        self._readiness_listeners: list[Callable[[], None]] = []
        self._in_flight = 0
        self._readmits = False
        # Taken twice for each request, and as a condition only to drain: a plain lock costs a third of its condition.
        self._lock = threading.Lock()
        self._nothing_in_flight = threading.Condition(self._lock)
        self.observers: tuple[Callable[[Exchange], None], ...] = ()
        """Told of every exchange when it has ended, on the thread that it ended on."""
        metrics.watch(in_flight=lambda: self._in_flight, availability=self._availability)

    def exchange(
        self,
        protocol: Protocol,
        api: Api,
        *,
        body: bytes = b"",
        caller: Caller | None = None,
        is_message: bool = False,
    ) -> "Exchange":
        """
        Begin to answer one request.

        Args:
            protocol: How it came.
            api: Its method.
            body: As it came, decompressed.
            caller: Who sent it, if that is known.
            is_message: Whether *body* and the answer are gRPC's messages though they go over REST.
        """
        return Exchange(self, protocol, api, body, caller, is_message=is_message)

    def metadata(self, spec: ModelSpec) -> tuple[ModelSpec, Mapping[str, Any]]:
        """
        Return the signatures of the version that would serve *spec*.

        Returns:
            The spec with the version's number and without a signature; signature key -> SignatureDef message.

        Raises:
            NotFound: Nothing serves it.
            InvalidArgument: The label is unknown.
        """
        with self.lend(spec) as handle:
            return ModelSpec(handle.model, handle.version), handle.servable.signature_defs

    def statuses(self, model: str, version: int | None = None) -> list[VersionStatus]:
        """
        List every version of *model* ever seen, the highest first, or only *version*.

        Raises:
            NotFound: There is none.
        """
        statuses = self._manager.statuses(model)
        if version is not None:
            statuses = [status for status in statuses if status.version == version]
            if not statuses:
                raise NotFound(f"Could not find version {version} of model {model}")
        if not statuses:
            raise NotFound(f"Could not find any versions of model {model}")
        return statuses

    def count_lookup(self, model: str, code: Code) -> None:
        """Count an answered REST request for the status or metadata of *model*; see `Metrics.count_lookup`."""
        self.metrics.count_lookup(model if model in self.configuration.current.models else "", code.name)

    def known_versions(self, model: str) -> list[VersionStatus]:
        """List every version of *model* that is known, the highest first; none is no error."""
        return self._manager.statuses(model)

    def is_ready(self, model: str | None = None) -> bool:
        """Say whether requests are taken and every configured model, or *model*, has an available version."""
        unready = self.unready_models()
        return not self.is_leaving and (model not in unready if model else not unready)

    def model_names(self) -> list[str]:
        """List the configured models."""
        return sorted(self.configuration.current.models)

    def unready_models(self) -> dict[str, str]:
        """Return model -> why it has no version that serves, for every configured model that has none."""
        return {model: why for model in self.configuration.current.models if (why := self._why_unready(model))}

    def _why_unready(self, model: str) -> str:
        if any(status.state == "AVAILABLE" for status in self._manager.statuses(model)):
            return ""
        return self.configuration.diagnosis(model) or "no version has been found yet"

    def diagnosis(self, model: str) -> str | None:
        """Say, for people, why *model* does not serve what it is configured to; None if it does."""
        return self.configuration.diagnosis(model)

    def reload(self, config: Any) -> "Future[Change]":
        """
        Let *config*, a ModelServerConfig message, take the place of the present one.

        Returns:
            Done when every model that is new has a version that serves. Raises what `Configuration.change` does. The
            caller keeps its own deadline; to cancel the future ends the waiting, not the change.

        Source: tensorflow_serving/model_servers/model_service_impl.cc.
        """
        if config.WhichOneof("config") != "model_config_list":
            raise InvalidArgument(
                "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently "
                "supported"
            )
        return self.configuration.change(replace_by(config))

    def lend(self, spec: ModelSpec) -> Handle:
        """
        Lend the version that *spec* names.

        Raises:
            NotFound: It is not available.
            InvalidArgument: The label is unknown.
        """
        if spec.label is None:
            return self._manager.lend(spec.name, spec.version)
        version = self.configuration.version_of(spec.name, spec.label)
        while version is not None:
            try:
                return self._manager.lend(spec.name, version)
            except NotFound:
                # The label may have moved on between the two questions, and its old version be gone.
                before, version = version, self.configuration.version_of(spec.name, spec.label)
                if version == before:
                    raise
        raise InvalidArgument(f"Unrecognized servable version label: {spec.label}")

    def submit(
        self, handle: Handle, call: Call | JointCall, deadline: float, sizes: Sequence[int] | None = None
    ) -> "Future[Answer]":
        """
        Queue *call* for the servable of *handle*; see `Scheduler.submit`.

        Args:
            handle: Lent for the call.
            call: What to run.
            deadline: Monotonic time (s) after which nobody waits for the answer.
            sizes: Rows of each request, where *call* answers several.
        """
        return self._scheduler.submit(_work(handle, call, deadline, sizes))

    @property
    def may_join(self) -> bool:
        """Whether rows of different requests are ever joined."""
        return self._scheduler.may_join

    def largest_batch(self, policy: BatchingPolicy | None) -> int:
        """Return how many rows of different requests, for a servable with *policy*, may be joined; 0: each runs alone."""
        return self._scheduler.largest_batch(policy)

    def room(self, handle: Handle, call: Call) -> int:
        """Return how many rows like those of *call* join a batch that others have begun; see `Scheduler.room`."""
        return self._scheduler.room(_work(handle, call))

    def expire(self, future: "Future[Answer]", policy: BatchingPolicy | None) -> WireError:
        """Cancel *future*, because its time is over, and return what the caller is told."""
        if future.cancel() or future.cancelled():
            return self.late(policy)
        return DeadlineExceeded("The timeout of the request was over while the model ran")

    def late(self, policy: BatchingPolicy | None) -> WireError:
        """Return what a caller is told whose time was over before its work, batched as *policy* says, began."""
        return self._scheduler.late(policy)

    def leave_soon(self) -> None:
        """Say from now on that the server is not ready, and go on answering: whoever sends requests may look elsewhere."""
        self._is_lame_duck = True
        self._tell_readiness()

    def watch_readiness(self, listener: Callable[[], None]) -> None:
        """Have *listener* called, on any thread, whenever `is_ready` of any model may have changed; it must not wait."""
        self._readiness_listeners.append(listener)
        self._manager.tell(lambda _model, _status: listener())

    def _tell_readiness(self) -> None:
        for listener in self._readiness_listeners:
            listener()

    @property
    def is_leaving(self) -> bool:
        """Whether the server is about to end, though it may still take requests."""
        return self._is_lame_duck or self._is_draining

    def drain(self, timeout_s: float) -> bool:
        """Refuse what comes from now on, wait for what is being answered; say whether it all was within *timeout_s*."""
        with self._nothing_in_flight:
            self._is_draining = True
        self._tell_readiness()
        with self._nothing_in_flight:
            return self._nothing_in_flight.wait_for(lambda: self._in_flight == 0, timeout_s)

    @property
    def is_draining(self) -> bool:
        """Whether new requests are refused."""
        return self._is_draining

    def enter(self, requests: int = 1) -> None:
        """Count *requests* in, or raise Unavailable."""
        with self._lock:
            if self._is_draining and not self._readmits:
                raise Unavailable("The server is shutting down")
            self._in_flight += requests

    @contextmanager
    def readmitting(self) -> Iterator[None]:
        """Let in, though the server drains, those that begin anew and have not been counted out yet; on the transports' thread."""
        self._readmits = True
        try:
            yield
        finally:
            self._readmits = False

    def leave(self, requests: int = 1) -> None:
        """Count *requests* out: their answers have been handed to the transport."""
        with self._lock:
            self._in_flight -= requests
            if self._in_flight == 0 and self._is_draining:
                self._nothing_in_flight.notify_all()

    def _availability(self) -> Rows:
        return [
            ((model, status.version), float(status.state == "AVAILABLE"))
            for model in sorted(self.configuration.current.models)
            for status in self._manager.statuses(model)
        ]


def _run_alone(servable: Servable, call: Call, inputs: Tensors) -> Tensors:
    return servable.run(Call(call.signature, inputs, call.outputs))


def _run_together(servable: Servable, call: JointCall, inputs: Tensors) -> Tensors:
    return call.joined(servable.run_together([Call(one.signature, inputs, one.outputs) for one in call.calls]))


_NO_SPEC = ModelSpec("")


def _work(
    handle: Handle, call: Call | JointCall, deadline: float = math.inf, sizes: Sequence[int] | None = None
) -> Work:
    servable = handle.servable
    run: Run
    if isinstance(call, JointCall):
        several: Hashable = tuple([one.signature for one in call.calls])
        run = partial(_run_together, servable, call)
    else:
        several = call.signature
        run = partial(_run_alone, servable, call)
    key = (handle.life, several, tuple(call.outputs))
    return Work(handle.model, key, run, call.inputs, deadline, servable.batching_policy, sizes)


@lru_cache(maxsize=1024)
def request_kind(model: str, version: str, signature: str, protocol: Protocol, api: Api) -> RequestKind:
    """Make what a request is counted as: the same few again and again."""
    return RequestKind(model, version, signature, protocol, api)


@lru_cache(maxsize=1024)
def served_spec(model: str, version: int, signature: str) -> ModelSpec:
    """Make the spec of who answers: the same few again and again."""
    return ModelSpec(model, version, signature_name=signature)


class Exchange:
    """
    One request from its bytes to the bytes of its answer: keeps its version from unloading, times and counts it.

    A context manager around decoding, waiting and encoding, in this order: `start`, `answered`, end of the block.
    """

    __slots__ = (
        "_began",
        "_encoding_since",
        "_is_encoding",
        "_policy",
        "_serving",
        "api",
        "body",
        "call",
        "caller",
        "code",
        "is_message",
        "latency_s",
        "message",
        "model",
        "outputs",
        "protocol",
        "response",
        "signature",
        "spec",
        "stages_s",
        "version",
    )

    def __init__(
        self,
        serving: Serving,
        protocol: Protocol,
        api: Api,
        body: bytes = b"",
        caller: Caller | None = None,
        *,
        is_message: bool = False,
    ) -> None:
        self._serving = serving
        self._began = self._encoding_since = time.monotonic()
        self._is_encoding = False
        self._policy: BatchingPolicy | None = None
        self.protocol = protocol
        self.api = api
        self.body = body
        self.is_message = is_message
        self.response = b""
        self.caller = caller
        self.model = self.version = self.signature = ""
        """Who answers; empty until `start` has found out. Only names that exist, so that they may become labels."""
        self.stages_s: list[float | None] = [None, None, None, None, None]
        """Seconds in each of `metrics.STAGES`; None for one that was not reached."""
        self.latency_s = 0.0
        self.code = Code.OK
        self.message = ""
        self.call: Call | JointCall | None = None
        self.outputs: Tensors = {}
        self.spec = _NO_SPEC
        """The version and signature that serve, once `start` has found them."""

    def __enter__(self) -> Self:
        self._serving.enter()
        return self

    def start(
        self, spec: ModelSpec, decode: Callable[[Signatures], Call | JointCall], timeout_s: float = math.inf
    ) -> "Future[Answer]":
        """
        Find the version, decode with its signatures and queue the call.

        Args:
            spec: As the caller sent it.
            decode: From the version's signatures to the call; raises WireError for what does not fit.
            timeout_s: For how long, from now on, somebody waits for the answer.

        Returns:
            A future to be cancelled if nobody waits any more.

        Raises:
            WireError: Nothing serves the spec, the request does not fit, or the queue is full.
        """
        handle = self._serving.lend(spec)
        try:
            self.model, self.version = handle.model, str(handle.version)
            self._policy = handle.servable.batching_policy
            if self._serving.checks_method_names:
                check_method(self.api, handle.servable.signatures.get(spec.signature_key))
            self.call = call = decode(handle.servable.signatures)
            self.signature = call.signature
            self.spec = served_spec(handle.model, handle.version, call.signature)
            now = time.monotonic()
            self.stages_s[0] = now - self._began
            future = self._serving.submit(handle, call, now + timeout_s)
        except BaseException:
            handle.release()
            raise
        future.add_done_callback(handle.release_after)
        return future

    def expire(self, future: "Future[Answer]") -> WireError:
        """Cancel *future*, because its time is over, and return what the caller is told."""
        return self._serving.expire(future, self._policy)

    def answered(self, answer: Answer) -> Tensors:
        """Take note of *answer*, from whose outputs the bytes are now to be made."""
        self.stages_s[1:4] = answer.batch_wait_s, answer.queue_s, answer.compute_s
        self._encoding_since = time.monotonic()
        self._is_encoding = True
        self.outputs = answer.outputs
        return answer.outputs

    @property
    def rows(self) -> int | None:
        """Rows of the request: the size of its inputs along axis 0; None as long as it is not known, and for scalars."""
        inputs = self.call.inputs.values() if self.call else ()
        return max((len(array) for array in inputs if array.ndim), default=None)

    def encoded(self, body: bytes) -> bytes:
        """Take note of the answer's *body*, and return it."""
        self.response = body
        return body

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        now = time.monotonic()
        self.latency_s = now - self._began
        if error is not None:
            # asyncio's CancelledError is no Exception; whatever else is none of ours to explain is a bug.
            fault = Code.INTERNAL if isinstance(error, Exception) else Code.CANCELLED
            self.code = error.code if isinstance(error, WireError) else fault
            self.message = str(error)
        elif self._is_encoding:
            self.stages_s[4] = now - self._encoding_since
        try:
            self._tell()
        finally:
            self._serving.leave()

    def _tell(self) -> None:
        """Count it, and let observers see it."""
        self._serving.metrics.count_request(
            request_kind(self.model, self.version, self.signature, self.protocol, self.api),
            self.code.name,
            self.latency_s,
            self.stages_s,
            request_bytes=len(self.body),
            response_bytes=len(self.response),
            # TF Serving counts those of MultiInference only.
            examples=len(self.call.inputs[INPUTS]) if isinstance(self.call, JointCall) else None,
        )
        try:
            for observe in self._serving.observers:
                observe(self)
        except Exception:
            # Whoever looks on must not cost a request its answer.
            logger.exception("an observer failed")
