"""Replay recorded requests, so that a version's first client does not wait for what TensorFlow does only once."""

import logging
from collections.abc import Iterator
from pathlib import Path

from slipway_server.servables.calls import Signatures, classify_call, inference_call, predict_call, regress_call
from slipway_server.servables.loader import Call, JointCall, Loader, Servable
from slipway_wire import tfrecord, warmup_log
from slipway_wire.inference import ExamplesRequest, MultiInferenceRequest
from slipway_wire.predict import PredictRequest
from slipway_wire.status import DataLoss, InvalidArgument, WireError, error_of
from slipway_wire.warmup_log import MAX_RECORDS, WARMUP_FILE, WarmupRequest

logger = logging.getLogger(__name__)


class WarmedLoader:
    """A loader that is done only when every record of its version has been answered."""

    def __init__(self, loader: Loader, directory: Path, iterations: int) -> None:
        """
        Wrap *loader*.

        Args:
            loader: Loads the version in *directory*.
            directory: May hold WARMUP_FILE.
            iterations: How often each record is replayed; less than 1 counts as 1.
        """
        self._loader = loader
        self._directory = directory
        self._iterations = max(iterations, 1)

    def load(self) -> Servable:
        """
        Load, then replay.

        Raises:
            WireError: Of the loader; or of the first record that failed, which it names.
        """
        servable = self._loader.load()
        try:
            count = replay(self._directory / WARMUP_FILE, servable, self._iterations)
        except BaseException:
            servable.close()
            raise
        if count:
            logger.info("%s: replayed %d warm-up records, each %d times", self._directory, count, self._iterations)
        return servable


def replay(path: Path, servable: Servable, iterations: int) -> int:
    """
    Run every record of *path* on *servable*, in order, each *iterations* times. Without the file there is nothing to do.

    Returns:
        How many records there were.

    Raises:
        WireError: With the code of the first failure; the message names file and record.

    Source: tensorflow_serving/servables/tensorflow/saved_model_warmup.cc.
    """
    if not path.exists():
        return 0
    number = -1
    for number, record in enumerate(_records(path)):
        if number >= MAX_RECORDS:
            raise InvalidArgument(f"Number of warmup records exceeds the maximum ({MAX_RECORDS}) at {path}")
        try:
            request = warmup_log.decode(record)
            call = _call(request, servable.signatures) if request else None
            for _ in range(iterations if call else 0):
                if isinstance(call, JointCall):
                    servable.run_together(call.calls)
                elif call:
                    servable.run(call)
        except WireError as error:
            raise error_of(error.code, f"{path}: warm-up record {number}: {error.message}") from error
    return number + 1


def _records(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        try:
            yield from tfrecord.read(stream)
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
