"""
Run recorded requests, so that a version's first client does not wait for what TensorFlow does only once.

What costs is the first run of a graph with inputs of one shape: 20 ms for a small convolution net, a second for a large
one, and as much again for each further batch size. It is paid once for a session; which thread runs it does not matter
(a second thread's first run takes 0.2 ms longer than its next), so warm-up needs none of the threads of the scheduler.
"""

import contextlib
import dataclasses
import itertools
import logging
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from slipway_server.load_options import WarmupOptions
from slipway_server.metrics import Metrics
from slipway_server.servables import synthesis
from slipway_server.servables.calls import Signatures, classify_call, inference_call, predict_call, regress_call
from slipway_server.servables.loader import Call, JointCall, Loader, Servable, Tensors
from slipway_wire import tfrecord, warmup_log
from slipway_wire.inference import ExamplesRequest, MultiInferenceRequest
from slipway_wire.predict import PredictRequest
from slipway_wire.status import DataLoss, InvalidArgument, ResourceExhausted, Unknown, WireError, error_of
from slipway_wire.warmup_log import MAX_RECORDS, WARMUP_FILE, WarmupRequest

logger = logging.getLogger(__name__)

Prepare = Callable[[Tensors], Iterable[Tensors]]
"""
From the inputs of one request to those of the runs it stands for.

First itself, as it would be run for a client, padding included; then other sizes in which a client's request may be run.
Raises WireError if a client could not send it.
"""

Source = Literal["record", "batch_size", "synthesized"]


def as_it_is(inputs: Tensors) -> Iterable[Tensors]:
    """Prepare without batching: the request runs as it was sent."""
    return (inputs,)


class WarmedLoader:
    """A loader that is done only when every record of its version has been answered."""

    def __init__(
        self,
        loader: Loader,
        directory: Path,
        options: WarmupOptions,
        *,
        model: str,
        version: int,
        metrics: Metrics,
        prepare: Callable[[], Prepare] = lambda: as_it_is,
    ) -> None:
        """
        Wrap *loader*.

        Args:
            loader: Loads the version in *directory*.
            directory: May hold WARMUP_FILE.
            options: Whether and how to warm up.
            model: Its name, for the log and the metrics.
            version: Its number, likewise.
            metrics: Where records are counted.
            prepare: Called once the version is loaded; says what the batcher makes of its requests.
        """
        self._loader = loader
        self._directory = directory
        self._options = options
        self._model = model
        self._version = version
        self._metrics = metrics
        self._prepare = prepare

    def load(self) -> Servable:
        """
        Load, then replay.

        Raises:
            WireError: Of the loader; or of the first record that failed, which it names.
        """
        servable = self._loader.load()
        if not self._options.is_enabled:
            return servable
        try:
            self._warm_up(servable)
        except BaseException:
            servable.close()
            raise
        return servable

    def _warm_up(self, servable: Servable) -> None:
        path = self._directory / WARMUP_FILE
        warmup = Warmup(servable, self._prepare(), self._options, self._model, self._version, self._metrics)
        if not path.exists():
            if self._options.is_synthesized:
                warmup.synthesize()
            return
        began = time.monotonic()
        status = "OK"
        try:
            warmup.replay(path)
        except WireError as error:
            # TF Serving's label is the whole text of the error; a label must not be different each time.
            status = error.code.name
            raise
        finally:
            seconds = time.monotonic() - began
            labels = str(self._directory), status
            self._metrics.model_warmup_latency_us.of(*labels).observe(seconds * 1e6)
            self._metrics.model_warmup_records_read.of(*labels).add(warmup.records)
        logger.info(
            "Finished reading warmup data for model at %s. Number of warmup records read: %d. "
            "Elapsed time (microseconds): %d. Runs at further batch sizes: %d.",
            path,
            warmup.records,
            seconds * 1e6,
            warmup.further_runs,
        )


class Warmup:
    """The warm-up of one servable."""

    def __init__(
        self, servable: Servable, prepare: Prepare, options: WarmupOptions, model: str, version: int, metrics: Metrics
    ) -> None:
        """Begin with nothing run; see `WarmedLoader` for the arguments."""
        self.records = 0
        """How many records have been answered."""
        self.further_runs = 0
        """How many batch sizes were run that no record has."""
        self._servable = servable
        self._prepare = prepare
        self._options = options
        self._model = model
        self._version = version
        self._metrics = metrics
        self._seen: set[object] = set()
        self._lock = threading.Lock()

    def replay(self, path: Path) -> None:
        """
        Run every record of *path*, in order if one thread is to do it.

        Raises:
            WireError: With the code of the first failure; the message names file, record, method and signature.

        Source: tensorflow_serving/servables/tensorflow/saved_model_warmup_util.cc.
        """
        # A record that fails ends the reading early: the file is closed all the same.
        with contextlib.closing(_records(path)) as read:
            self._replay_all(path, enumerate(read))

    def _replay_all(self, path: Path, records: Iterator[tuple[int, bytes]]) -> None:
        if self._options.threads == 1:
            for number, record in records:
                self._replay_one(path, number, record)
            return
        failed = threading.Event()

        def work() -> None:
            while not failed.is_set():
                try:
                    with self._lock:
                        number, record = next(records)
                    self._replay_one(path, number, record)
                except StopIteration:
                    return
                except BaseException:
                    failed.set()
                    raise

        with ThreadPoolExecutor(self._options.threads, thread_name_prefix="warmup") as pool:
            workers = [pool.submit(work) for _ in range(self._options.threads)]
        for worker in workers:
            worker.result()

    def synthesize(self) -> None:
        """Run a request made up from each Predict signature; one that the graph refuses is told and no more."""
        for name, signature in self._servable.signatures.items():
            inputs = synthesis.inputs(signature) if synthesis.can_be_asked(signature) else None
            if inputs is None:
                logger.info("%s: no warm-up request can be made up for signature %s", self._about(), name)
                continue
            call = Call(name, inputs, tuple(signature.outputs))
            try:
                self._run_all(call, "synthesized")
            except WireError as error:
                logger.info(
                    "%s: the warm-up request made up for signature %s was refused: %s",
                    self._about(),
                    name,
                    error.message,
                )

    def _replay_one(self, path: Path, number: int, record: bytes) -> None:
        what = ""
        began = time.monotonic()
        try:
            if number >= MAX_RECORDS:
                raise InvalidArgument(f"Number of warmup records exceeds the maximum ({MAX_RECORDS}) at {path}")
            request = warmup_log.decode(record)
            if request is not None:
                what = _description(request)
                self._run_all(_call(request, self._servable.signatures), "record")
        except WireError as error:
            if number >= MAX_RECORDS:
                raise
            told = " ".join(error.message.split())
            raise error_of(error.code, f"{path}: warm-up record {number}{what}: {told}") from error
        with self._lock:
            self.records += 1
        logger.info(
            "%s: warm-up record %d%s took %.1f ms", self._about(), number, what, (time.monotonic() - began) * 1e3
        )

    def _run_all(self, call: Call | JointCall, source: Source) -> None:
        """Run *call* as a client's request would be run, then at the sizes it could have had."""
        runs = iter(self._prepare(call.inputs))
        self._run(fed(call, next(runs)), source)
        if self._options.has_all_batch_sizes:
            self._run_further(call, runs)

    def _run(self, call: Call | JointCall, source: Source) -> None:
        """Run *call* as often as asked, and count it."""
        with self._lock:
            self._seen.add(_kind(call))
        began = time.monotonic()
        status = "OK"
        try:
            for _ in range(self._options.iterations):
                if isinstance(call, JointCall):
                    self._servable.run_together(call.calls)
                else:
                    self._servable.run(call)
        except WireError as error:
            status = error.code.name
            raise
        except Exception as error:
            status = "UNKNOWN"
            raise Unknown(f"{type(error).__name__}: {error}") from error
        finally:
            self._metrics.warmup_requests.of(self._model, str(self._version), source, status).add()
            self._metrics.warmup_seconds.of(self._model, str(self._version), source).observe(time.monotonic() - began)

    def _run_further(self, call: Call | JointCall, batches: Iterator[Tensors]) -> None:
        """
        Run *call* at the sizes that nothing has been run at yet.

        A failure is told and no more: the record itself has been answered, and TF Serving would serve the version.
        """
        for inputs in batches:
            sized = fed(call, inputs)
            with self._lock:
                if _kind(sized) in self._seen:
                    continue
            try:
                self._run(sized, "batch_size")
            except WireError as error:
                logger.warning(
                    "%s: signature %s does not run at the allowed batch size %d: %s: %s",
                    self._about(),
                    ", ".join(one.signature for one in (call.calls if isinstance(call, JointCall) else [call])),
                    _rows(inputs),
                    error.code.name,
                    error.message,
                )
                if isinstance(error, ResourceExhausted):
                    return
            else:
                self.further_runs += 1

    def _about(self) -> str:
        return f"servable {{name: {self._model} version: {self._version}}}"


def first_call(directory: Path, signatures: Signatures) -> Call | JointCall | None:
    """
    Read the first record of the version in *directory* that asks for something; None if there is none.

    Raises:
        WireError: The records cannot be read, or ask for what the version does not have.
    """
    path = directory / WARMUP_FILE
    if not path.exists():
        return None
    with contextlib.closing(_records(path)) as read:
        for record in read:
            if (request := warmup_log.decode(record)) is not None:
                return _call(request, signatures)
    return None


def fed(call: Call | JointCall, inputs: Tensors) -> Call | JointCall:
    """Return *call* with *inputs* instead of its own."""
    if isinstance(call, JointCall):
        return JointCall(tuple([dataclasses.replace(one, inputs=inputs) for one in call.calls]))
    return dataclasses.replace(call, inputs=inputs)


def _kind(call: Call | JointCall) -> object:
    """Say which calls cost the first of them more than the next."""
    names = tuple([(one.signature, *one.outputs) for one in (call.calls if isinstance(call, JointCall) else [call])])
    return names, tuple([(alias, array.shape, array.dtype.str) for alias, array in sorted(call.inputs.items())])


def _rows(inputs: Tensors) -> int:
    return int(next(iter(inputs.values())).shape[0])


def _description(request: WarmupRequest) -> str:
    asked = request.request
    specs = [task.spec for task in asked.tasks] if isinstance(asked, MultiInferenceRequest) else [asked.spec]
    return f" ({request.method}, signature {', '.join(spec.signature_key for spec in specs)})"


def _records(path: Path) -> Generator[bytes, None, None]:
    with path.open("rb") as stream:
        try:
            # One more than may be: it is refused by its number.
            yield from itertools.islice(tfrecord.read(stream), MAX_RECORDS + 1)
        except DataLoss as error:
            raise DataLoss(f"{path}: {error.message}. Please verify your warmup data is in TFRecord format.") from error


def _call(warmup: WarmupRequest, signatures: Signatures) -> Call | JointCall:
    match warmup.method, warmup.request:
        case "predict", PredictRequest() as request:
            return predict_call(request, signatures)
        case "classify", ExamplesRequest() as request:
            return classify_call(request, signatures)
        case "regress", ExamplesRequest() as request:
            return regress_call(request, signatures)
        case _, MultiInferenceRequest() as request:
            return inference_call(request, signatures)
    raise AssertionError(f"a {warmup.method} record holds a {type(warmup.request).__name__}")
