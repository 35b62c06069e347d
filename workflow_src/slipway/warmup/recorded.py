"""Rows out of request logs: any number of files of any size, read once and in order, with little of it kept."""

import itertools
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from google.protobuf import json_format
from google.protobuf.message import DecodeError

from slipway import rows
from slipway.contract import (
    ROWS,
    ClassifySignature,
    Contract,
    PredictSignature,
    RegressSignature,
    example_dtype,
)
from slipway.errors import SourceError
from slipway.records import RequestLogReading
from slipway.settings import RecordedRequests, log_files
from slipway_wire import inference, json_examples, json_predict, json_text, messages, predict, tfrecord, warmup_log
from slipway_wire.inference import ExamplesRequest, MultiInferenceRequest
from slipway_wire.model_spec import DEFAULT_SIGNATURE
from slipway_wire.signatures import Signature
from slipway_wire.status import DataLoss, InvalidArgument, Unimplemented, WireError

Array = npt.NDArray[Any]
Call = tuple[str, Mapping[str, Array]]
"""A signature, and its inputs as its SignatureDef has them."""

# A request that a server has answered is far below it; one that is not costs a line here and no memory.
MAX_REQUEST_BYTES = 256 * 2**20
# Of rows that are kept for one signature, all inner shapes together.
MAX_KEPT_BYTES = 128 * 2**20
_LIST = {"float32": "float_list", "int64": "int64_list", "string": "bytes_list"}


@dataclass(frozen=True, slots=True)
class Logged:
    """
    One logged request, as far as it had to be read to know whose it is.

    Attributes:
        model: Name under which the model was served; None: the log does not say.
        version: The version that answered; None: the log does not say.
        calls: Reads the rest. Raises WireError if it makes no sense.
    """

    model: str | None
    version: int | None
    calls: Callable[[], Sequence[Call]]


def read_log(
    settings: RecordedRequests, model: str, contract: Contract, signatures: Mapping[str, Signature], most_rows: int
) -> tuple[dict[str, dict[str, Array]], RequestLogReading]:
    """
    Read rows for warm-up from a log of requests, until there are enough.

    Args:
        settings: Where the log is, and whose requests are meant.
        model: Name of the model, unless *settings* has another.
        contract: Requests that do not fit it are skipped.
        signatures: Of the SavedModel: JSON carries no dtypes.
        most_rows: Rows that are enough for one signature.

    Returns:
        Signature -> name -> array of shape [rows, …], rows at most *most_rows*, all of one inner shape: of several
        shapes that were logged the first with enough rows, or else the one with most; and what was read.

    Raises:
        SourceError: If a file is damaged or something else, or no request of it will do.
    """
    paths = log_files(settings.path) if settings.path.is_dir() else [settings.path]
    if not paths:
        raise SourceError(f"{settings.path}: no files in it; a request log was expected (warmup.recorded.path).")
    kept = Kept(contract, most_rows)
    skipped: Counter[str] = Counter()
    first_fault = ""
    read = taken = spare = 0
    complete = True
    for logged in itertools.chain.from_iterable(read_file(path, signatures) for path in paths):
        if logged is None or isinstance(logged, str):
            skipped[logged or "no request in it"] += 1
            read += 1
            continue
        read += 1
        wanted_model = settings.model or model
        if logged.model not in (None, wanted_model):
            skipped["another model"] += 1
            first_fault = first_fault or f"one is of model {logged.model}, expected {wanted_model}"
            continue
        if settings.versions is not None and logged.version not in settings.versions:
            skipped["another version"] += 1
            continue
        try:
            calls = logged.calls()
            faults = [fault for name, inputs in calls if (fault := misfit(contract, name, inputs))]
        except WireError as error:
            skipped["malformed"] += 1
            first_fault = first_fault or error.message
            continue
        if faults:
            skipped["does not fit the contract"] += 1
            first_fault = first_fault or faults[0]
        elif sum(kept.add(name, inputs) for name, inputs in calls):
            taken += 1
        else:
            spare += 1
        if kept.is_enough:
            complete = False
            break
    if not taken:
        told = ", ".join(f"{count} × {why}" for why, count in sorted(skipped.items())) or "it is empty"
        fault = f" (the first: {first_fault})" if first_fault else ""
        raise SourceError(
            f"{settings.path}: none of its {read} requests can warm {model}: {told}{fault}. "
            "warmup.recorded names the log, and the model and versions in it."
        )
    reading = RequestLogReading(
        files=len(paths),
        requests=read,
        taken=taken,
        spare=spare,
        skipped=dict(sorted(skipped.items())),
        complete=complete,
    )
    return kept.best(), reading


# --- what is kept ------------------------------------------------------------------------------------


class Kept:
    """Rows of each signature, those of one inner shape together, with bounds on their number and size."""

    def __init__(self, contract: Contract, most_rows: int, most_bytes: int = MAX_KEPT_BYTES) -> None:
        """Keep up to *most_rows* of each shape, and up to *most_bytes* of each signature of *contract*."""
        self._most_rows = most_rows
        self._most_bytes = most_bytes
        self._groups: dict[str, dict[object, list[Mapping[str, Array]]]] = {name: {} for name in contract.signatures}
        self._bytes: Counter[str] = Counter()
        self._enough: set[str] = set()

    @property
    def is_enough(self) -> bool:
        """Whether more requests would change nothing."""
        return len(self._enough) == len(self._groups)

    def add(self, signature: str, inputs: Mapping[str, Array]) -> bool:
        """Keep the rows of a request, those that are still needed; say whether there were any."""
        if signature in self._enough:
            return False
        shape = tuple([(name, array.shape[1:]) for name, array in sorted(inputs.items())])
        group = self._groups[signature].setdefault(shape, [])
        need = self._most_rows - sum(map(_rows, group))
        # Copies: what is left over of a large request must not be held by a view of it.
        part = {name: array[:need].copy() for name, array in inputs.items()}
        size = sum(map(_bytes, part.values()))
        if group and self._bytes[signature] + size > self._most_bytes:
            self._enough.add(signature)
            return False
        group.append(part)
        self._bytes[signature] += size
        if _rows(part) == need or self._bytes[signature] > self._most_bytes:
            self._enough.add(signature)
        return True

    def best(self) -> dict[str, dict[str, Array]]:
        """Give, of each signature that has any, the rows of the shape that most of them have; the first, if several."""
        found = {}
        for signature, groups in self._groups.items():
            if groups:
                group = max(groups.values(), key=lambda parts: sum(map(_rows, parts)))
                found[signature] = {name: np.concatenate([part[name] for part in group]) for name in group[0]}
        return found


def _rows(inputs: Mapping[str, Array]) -> int:
    return len(next(iter(inputs.values())))


def _bytes(array: Array) -> int:
    return sum(map(len, array.ravel().tolist())) if array.dtype == object else array.nbytes


def misfit(contract: Contract, signature: str, inputs: Mapping[str, Array]) -> str | None:
    """Say in one line why *inputs* are no call of *signature* as *contract* has it; None if they are one."""
    if signature not in contract.signatures:
        return f"no signature {signature} in the contract"
    tensors = contract.inputs_of(signature)
    if missing := [name for name in tensors if name not in inputs]:
        return f"{signature}: no input {missing[0]}"
    if unknown := [name for name in inputs if name not in tensors]:
        return f"{signature}: an input {unknown[0]}"
    if faults := rows.misfits(tensors, inputs):
        return f"{signature}: {faults[0]}"
    if not _rows(inputs):
        return f"{signature}: no rows"
    for name, tensor in tensors.items():
        if tensor.range and not bool(np.all((inputs[name] >= tensor.range[0]) & (inputs[name] <= tensor.range[1]))):
            return f"{signature}: {name}: a value outside {list(tensor.range)}"
    asked = contract.signatures[signature]
    if isinstance(asked, PredictSignature):
        return None
    found = (_misfit_of_example(contract, asked, example) for example in inputs[inference.INPUTS].tolist())
    return next((f"{signature}: {fault}" for fault in found if fault), None)


def _misfit_of_example(
    contract: Contract, signature: ClassifySignature | RegressSignature, example: bytes
) -> str | None:
    try:
        features = messages.Example.FromString(example).features.feature
    except DecodeError:
        return "not a tf.Example"
    for name, form in contract.feature_forms(signature.features).items():
        tensor, feature = contract.default.inputs[name], form.feature or name
        if form.pad is not None or (form.default is not None and feature not in features):
            continue
        is_string = form.image is not None or form.vocabulary is not None
        kind = _LIST["string" if is_string else example_dtype(tensor.dtype)]
        wanted = 1 if form.image is not None else math.prod(tensor.sizes({ROWS: 1}))
        if feature not in features:
            return f"a tf.Example without feature {feature}"
        found = len(getattr(features[feature], kind).value)
        if found != wanted:
            return f"feature {feature}: expected {wanted} in its {kind}, found {found}"
    return None


# --- files -------------------------------------------------------------------------------------------


def read_file(path: Path, signatures: Mapping[str, Signature]) -> Iterator[Logged | str | None]:
    """
    Read the requests of one file, one at a time.

    Yields:
        A request; or why a record holds none that warms a model; or None for one without a log.

    Raises:
        SourceError: If the file is damaged, or neither TFRecord nor JSON lines; names the record or line.
    """
    with path.open("rb") as stream:
        start = stream.read(1)
        stream.seek(0)
        if start == b"{":
            yield from _json_lines(path, stream, signatures)
        else:
            yield from _prediction_logs(path, stream)


def _prediction_logs(path: Path, stream: BinaryIO) -> Iterator[Logged | str | None]:
    try:
        for number, record in enumerate(tfrecord.read(stream, max_bytes=MAX_REQUEST_BYTES)):
            yield _of_record(path, number, record)
    except DataLoss as error:
        hint = (
            "Is it a request log (TFRecord of PredictionLog, or JSON lines)?"
            if error.message.startswith("record 0 at byte 0")
            else "Cut it off there, or leave it out of the directory."
        )
        raise SourceError(f"{path}: {error.message}. {hint}") from error


def _of_record(path: Path, number: int, record: bytes) -> Logged | str | None:
    try:
        found = warmup_log.decode(record)
    except Unimplemented as error:
        return error.message.rpartition(" ")[2]
    except InvalidArgument as error:
        raise SourceError(f"{path}: record {number}: {error.message}. Is it a log of requests?") from error
    if found is None:
        return None
    spec = found.request.spec
    version = spec.version if found.served_version is None else found.served_version
    return Logged(spec.name, version, lambda: _calls(found.request))


def _calls(request: object) -> Sequence[Call]:
    match request:
        case predict.PredictRequest(spec=spec, inputs=inputs):
            return [(spec.signature_key, dict(inputs))]
        case ExamplesRequest(spec=spec):
            return [(spec.signature_key, {inference.INPUTS: request.tensor()})]
        case MultiInferenceRequest(tasks=tasks):
            return [(task.spec.signature_key, {inference.INPUTS: request.tensor()}) for task in tasks]
    raise AssertionError(type(request))


def _json_lines(path: Path, stream: BinaryIO, signatures: Mapping[str, Signature]) -> Iterator[Logged | str | None]:
    for number in itertools.count(1):
        line = stream.readline(MAX_REQUEST_BYTES + 1)
        if not line:
            return
        if len(line) > MAX_REQUEST_BYTES:
            raise SourceError(
                f"{path}: line {number}: longer than {MAX_REQUEST_BYTES} bytes. JSON lines were expected."
            )
        if line.strip():
            try:
                document = json_text.parse_object(line)
            except WireError as error:
                raise SourceError(f"{path}: line {number}: {error.message[:200]}. JSON lines were expected.") from error
            yield _of_line(document, line, signatures)


def _of_line(document: dict[str, Any], line: bytes, signatures: Mapping[str, Signature]) -> Logged | str | None:
    if "request" not in document:
        return Logged(None, None, lambda: _calls_of_body(document, line, signatures))
    # A line of our server's log, slipway_server/request_log.py.
    method, request = document.get("method"), document["request"]
    if method == "predict":
        body = json.dumps(request).encode()
        name = str(document.get("signature", ""))
        return Logged(document.get("model"), document.get("version"), lambda: [_predict_call(body, name, signatures)])
    kinds = {
        "classify": (messages.ClassificationRequest, inference.examples_from_proto),
        "regress": (messages.RegressionRequest, inference.examples_from_proto),
        "multi_inference": (messages.MultiInferenceRequest, inference.multi_inference_from_proto),
    }
    if method not in kinds:
        return f"method {method}"
    message, read = kinds[method]

    def calls() -> Sequence[Call]:
        try:
            return _calls(read(json_format.ParseDict(request, message())))
        except json_format.ParseError as error:
            raise InvalidArgument(" ".join(str(error).split())) from error

    return Logged(document.get("model"), document.get("version"), calls)


def _calls_of_body(document: dict[str, Any], line: bytes, signatures: Mapping[str, Signature]) -> Sequence[Call]:
    """Read the body of a POST; its path, which named the model and the method, is not in it."""
    if "examples" in document:
        body = json_examples.decode_request(line)
        name = body.signature_name or DEFAULT_SIGNATURE
        return [(name, {inference.INPUTS: inference.examples_tensor(body.examples)})]
    return [_predict_call(line, json_predict.signature_name(document), signatures)]


def _predict_call(body: bytes, name: str, signatures: Mapping[str, Signature]) -> Call:
    key = name or DEFAULT_SIGNATURE
    if key not in signatures:
        raise InvalidArgument(f"no signature {key} in the SavedModel")
    return key, json_predict.parse_request(body).inputs(signatures[key])
