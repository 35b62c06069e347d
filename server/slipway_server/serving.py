"""What both front doors offer: run a signature, tell what is served. Knows neither gRPC nor HTTP."""

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Literal, Self

from slipway_server.batching.scheduler import Answer, Scheduler, Work
from slipway_server.config_files import ModelConfig
from slipway_server.metrics import Metrics
from slipway_server.servables.calls import Signatures
from slipway_server.servables.loader import Call, Tensors
from slipway_server.servables.manager import Handle, Manager
from slipway_wire.model_spec import ModelSpec
from slipway_wire.model_status import VersionStatus
from slipway_wire.status import Code, DeadlineExceeded, InvalidArgument, NotFound, Unavailable, WireError

Protocol = Literal["grpc", "rest"]
Api = Literal["Predict", "Classify", "Regress"]


class Serving:
    """One for the whole server; used from the transports' thread."""

    def __init__(self, manager: Manager, scheduler: Scheduler, metrics: Metrics, models: Sequence[ModelConfig]) -> None:
        self.metrics = metrics
        self._manager = manager
        self._scheduler = scheduler
        self._models = {model.name: model for model in models}
        self._is_draining = False
        self._in_flight = 0
        self._nothing_in_flight = threading.Condition()

    def exchange(self, protocol: Protocol, api: Api) -> "Exchange":
        """Begin to answer one request."""
        return Exchange(self, protocol, api)

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

    def is_ready(self) -> bool:
        """Say whether requests are taken and every configured model has an available version."""
        return not self._is_draining and all(
            any(status.state == "AVAILABLE" for status in self._manager.statuses(model)) for model in self._models
        )

    def lend(self, spec: ModelSpec) -> Handle:
        """
        Lend the version that *spec* names.

        Raises:
            NotFound: It is not available.
            InvalidArgument: The label is unknown.
        """
        version = spec.version
        if spec.label is not None:
            model = self._models.get(spec.name)
            version = model.version_labels.get(spec.label) if model else None
            if version is None:
                raise InvalidArgument(f"Unrecognized servable version label: {spec.label}")
        return self._manager.lend(spec.name, version)

    def submit(self, handle: Handle, call: Call, deadline: float) -> "Future[Answer]":
        """Queue *call* for the servable of *handle*; see `Scheduler.submit`."""

        def run(inputs: Tensors) -> Tensors:
            return handle.servable.run(Call(call.signature, inputs, call.outputs))

        key = (handle.model, handle.version, id(handle.servable), call.signature, tuple(call.outputs))
        return self._scheduler.submit(Work(handle.model, key, run, call.inputs, deadline))

    def late(self) -> WireError:
        """Return what a caller is told whose time was over before its work began."""
        return self._scheduler.late()

    def drain(self, timeout_s: float) -> bool:
        """Refuse what comes from now on, wait for what is being answered; say whether it all was within *timeout_s*."""
        with self._nothing_in_flight:
            self._is_draining = True
            return self._nothing_in_flight.wait_for(lambda: self._in_flight == 0, timeout_s)

    @property
    def is_draining(self) -> bool:
        """Whether new requests are refused."""
        return self._is_draining

    def enter(self) -> None:
        """Count one request in, or raise Unavailable."""
        with self._nothing_in_flight:
            if self._is_draining:
                raise Unavailable("The server is shutting down")
            self._in_flight += 1
        self.metrics.in_flight.of().add(1)

    def leave(self) -> None:
        """Count one request out: its answer has been handed to the transport."""
        with self._nothing_in_flight:
            self._in_flight -= 1
            if self._in_flight == 0:
                self._nothing_in_flight.notify_all()
        self.metrics.in_flight.of().add(-1)


class Exchange:
    """
    One request from its bytes to the bytes of its answer: keeps its version from unloading, times and counts it.

    A context manager around decoding, waiting and encoding, in this order: `start`, `answered`, end of the block.
    """

    def __init__(self, serving: Serving, protocol: Protocol, api: Api) -> None:
        self._serving = serving
        self._protocol = protocol
        self._api = api
        self._began = self._encoding_since = time.monotonic()
        self._model = self._version = self._signature = ""
        self._is_encoding = False
        self.spec = ModelSpec("")
        """The version and signature that serve, once `start` has found them."""

    def __enter__(self) -> Self:
        self._serving.enter()
        return self

    def start(
        self, spec: ModelSpec, decode: Callable[[Signatures], Call], timeout_s: float = math.inf
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
            # Only names that exist become labels: a caller must not be able to make new series.
            self._model, self._version = handle.model, str(handle.version)
            call = decode(handle.servable.signatures)
            self._signature = call.signature
            self.spec = ModelSpec(handle.model, handle.version, signature_name=call.signature)
            now = time.monotonic()
            self._serving.metrics.stage(self._model, self._protocol, "parse", now - self._began)
            future = self._serving.submit(handle, call, now + timeout_s)
        except BaseException:
            handle.release()
            raise
        future.add_done_callback(lambda _: handle.release())
        return future

    def expire(self, future: "Future[Answer]") -> WireError:
        """Cancel *future*, because its time is over, and return what the caller is told."""
        if future.cancel() or future.cancelled():
            return self._serving.late()
        return DeadlineExceeded("The timeout of the request was over while the model ran")

    def answered(self, answer: Answer) -> Tensors:
        """Take note of *answer*, from whose outputs the bytes are now to be made."""
        metrics = self._serving.metrics
        metrics.stage(self._model, self._protocol, "queue", answer.queue_s)
        metrics.stage(self._model, self._protocol, "compute", answer.compute_s)
        self._encoding_since = time.monotonic()
        self._is_encoding = True
        return answer.outputs

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        now = time.monotonic()
        metrics = self._serving.metrics
        code = Code.OK
        if error is not None:
            # asyncio's CancelledError is no Exception; whatever else is none of ours to explain is a bug.
            fault = Code.INTERNAL if isinstance(error, Exception) else Code.CANCELLED
            code = error.code if isinstance(error, WireError) else fault
        elif self._is_encoding:
            metrics.stage(self._model, self._protocol, "encode", now - self._encoding_since)
        metrics.requests.of(self._model, self._version, self._signature, self._protocol, code.name).add()
        metrics.request_count.of(self._model, code.name).add()
        if code is Code.OK:
            api = self._api if self._protocol == "grpc" else self._api.lower()
            metrics.request_latency_us.of(self._model, api, self._protocol.upper()).observe((now - self._began) * 1e6)
        self._serving.leave()
