"""
Call a served model once, at any address with TensorFlow Serving's interface, and print the answer for people.

The model's own metadata say what its inputs are; no contract is needed.
"""

import argparse
import base64
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from slipway import targets
from slipway.contract import DEFAULT_SIGNATURE
from slipway.errors import ServerError, SettingsError
from slipway_wire import dtypes, json_examples, json_predict, json_tensors, signatures
from slipway_wire.inference import Classification, Regression
from slipway_wire.signatures import Signature, TensorSpec
from slipway_wire.status import InvalidArgument, WireError

Array = npt.NDArray[Any]
_SHOWN_CLASSES = 5
_EDGE = 6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare whom to ask, and what."""
    parser.add_argument("target", metavar="TARGET", help="HOST:PORT, or http://, https://, grpc://, grpcs://…")
    parser.add_argument("--model", required=True, metavar="NAME", help="its name at the server")
    parser.add_argument("--signature", default=DEFAULT_SIGNATURE, metavar="NAME", help="what to call (%(default)s)")
    parser.add_argument("--protocol", choices=["rest", "grpc"], help="of a target without a scheme (rest)")
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument(
        "--input",
        nargs="+",
        metavar="NAME=VALUE",
        help="each input (or feature) as JSON, one row or several; NAME=@FILE sends the bytes of a file",
    )
    given.add_argument(
        "--image", nargs="+", type=Path, metavar="FILE", help="pictures for the one input that takes bytes"
    )
    given.add_argument("--file", type=Path, metavar="FILE", help="rows as a JSON list, or a whole REST body")
    parser.add_argument("--output", nargs="+", default=[], metavar="NAME", help="outputs to print; else all")
    parser.add_argument("--json", action="store_true", help="print what REST answers")
    targets.add_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    """Ask for the signature, make its inputs, call it, print the answer."""
    (target,) = targets.parse(arguments.target, arguments.protocol)
    where = f"{target}: model {arguments.model}"
    with targets.connect(target, arguments.model, arguments) as client:
        signature = find(client.signatures(), arguments.signature, where)
        if signature.method in (signatures.CLASSIFY, signatures.REGRESS):
            examples = read_examples(arguments)
            answer: Classification | Regression | dict[str, Array] = (
                client.call_classify(signature.name, examples)
                if signature.method == signatures.CLASSIFY
                else client.call_regress(signature.name, examples)
            )
        else:
            answer = chosen(client.call_predict(signature, read_inputs(arguments, signature)), arguments.output)
    sys.stdout.write(as_json(answer) if arguments.json else as_text(answer))


def find(served: Mapping[str, Signature], name: str, where: str) -> Signature:
    """Pick a signature, or raise ServerError that lists them."""
    if name not in served:
        raise ServerError(f"{where} has no signature {name}; it has: {', '.join(served) or 'none'}.")
    return served[name]


def chosen(outputs: dict[str, Array], names: Sequence[str]) -> dict[str, Array]:
    """Pick outputs, all if *names* are none, or raise SettingsError."""
    if missing := [name for name in names if name not in outputs]:
        raise SettingsError(f"--output: no {missing[0]} in the answer; it has: {', '.join(outputs)}")
    return {name: outputs[name] for name in names} if names else outputs


# --- what is sent ----------------------------------------------------------------------------------


def read_inputs(arguments: argparse.Namespace, signature: Signature) -> dict[str, Array]:
    """
    Make the tensors of a predict call.

    Returns:
        Name -> array of shape [rows, …]; what was given as one row gets its first dimension.

    Raises:
        SettingsError: If an input is missing, unknown, or does not fit; names it.
    """
    if arguments.file:
        document = _read_json(arguments.file)
        body = document if isinstance(document, dict) else {"instances": document}
        try:
            return json_predict.parse_request(json.dumps(body).encode()).inputs(signature)
        except WireError as error:
            raise SettingsError(f"{arguments.file}: {error}") from error
    if arguments.image:
        values: dict[str, Any] = {_picture_input(signature): [_base64(path) for path in arguments.image]}
    else:
        values = _values(arguments.input)
    if unknown := [name for name in values if name not in signature.inputs]:
        raise SettingsError(f"no input {unknown[0]} in {signature.name}; it takes: {_told(signature)}")
    if missing := [name for name in signature.inputs if name not in values and name not in signature.defaults]:
        raise SettingsError(f"no value for input {missing[0]} of {signature.name}; it takes: {_told(signature)}")
    return {name: _array(signature.inputs[name], value) for name, value in values.items()}


def read_examples(arguments: argparse.Namespace) -> list[bytes]:
    """Make the serialized tf.Examples of a classify or regress call, or raise SettingsError."""
    if arguments.image:
        raise SettingsError("--image: classify and regress take features: --input FEATURE=@FILE")
    if arguments.file:
        document = _read_json(arguments.file)
        body, where = document if isinstance(document, dict) else {"examples": document}, str(arguments.file)
    else:
        body, where = {"examples": [_values(arguments.input)]}, "--input"
    try:
        return list(json_examples.decode_request(json.dumps(body).encode()).examples)
    except WireError as error:
        raise SettingsError(f"{where}: {error}") from error


def _values(words: Sequence[str]) -> dict[str, Any]:
    """Read `NAME=VALUE` words: JSON, else text; `@FILE` stands for the bytes of a file."""
    found: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not name or not equals:
            raise SettingsError(f"--input: expected NAME=VALUE such as x=[1.0,2.0], got {word!r}")
        if name in found:
            raise SettingsError(f"--input: {name} is given twice")
        if text.startswith("@"):
            found[name] = _base64(Path(text[1:]))
            continue
        try:
            found[name] = json.loads(text)
        except ValueError:
            found[name] = text
    return found


def _base64(path: Path) -> dict[str, str]:
    try:
        return {"b64": base64.b64encode(path.read_bytes()).decode()}
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror}).") from error


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise SettingsError(f"{path}: not JSON: {error}") from error


def _picture_input(signature: Signature) -> str:
    takes_bytes = [name for name, spec in signature.inputs.items() if spec.dtype is dtypes.STRING]
    if len(takes_bytes) != 1:
        raise SettingsError(
            f"--image: {signature.name} has {len(takes_bytes) or 'no'} inputs that take bytes; it takes: "
            f"{_told(signature)}. --input NAME=@FILE names one."
        )
    return takes_bytes[0]


def _array(spec: TensorSpec, value: Any) -> Array:
    try:
        array = json_tensors.decode(value, spec.dtype, booleans=True)
    except WireError as error:
        raise SettingsError(f"--input: {spec.name}: {error}; expected {spec}") from error
    if spec.shape is None:
        return array
    if array.ndim == len(spec.shape) - 1:
        array = array[np.newaxis]
    fits = array.ndim == len(spec.shape) and all(
        want in (None, have) for want, have in zip(spec.shape, array.shape, strict=True)
    )
    if not fits:
        raise SettingsError(f"--input: expected {spec}, got shape {list(array.shape)}")
    return array


def _told(signature: Signature) -> str:
    return "; ".join(map(str, signature.inputs.values()))


# --- what is printed -------------------------------------------------------------------------------


def as_json(answer: Classification | Regression | Mapping[str, Array]) -> str:
    """Write the answer as REST gives it: row format where outputs have rows, else columns."""
    if isinstance(answer, Classification):
        return json_examples.encode_classify_response(answer).decode() + "\n"
    if isinstance(answer, Regression):
        return json_examples.encode_regress_response(answer).decode() + "\n"
    for row_format in (True, False):
        try:
            return json_predict.encode_response(answer, row_format=row_format).decode(errors="replace") + "\n"
        except InvalidArgument as error:
            fault = error
    raise SettingsError(f"--json: {fault}. Without --json it is printed as text.")


def as_text(answer: Classification | Regression | Mapping[str, Array]) -> str:
    """Write the answer for people: every output with its dtype and shape; of classes the best."""
    if isinstance(answer, Classification):
        return "".join(_ranking(answer, row) for row in range(len(_shaped(answer))))
    if isinstance(answer, Regression):
        return "".join(f"row {row}: {value:.6g}\n" for row, value in enumerate(answer.values.tolist()))
    width = max(map(len, answer), default=0)
    return "".join(f"{name:{width}}  {_described(array)}  {_written(array)}\n" for name, array in answer.items())


def _shaped(answer: Classification) -> Array:
    shaped = answer.scores if answer.classes is None else answer.classes
    assert shaped is not None  # a Classification has one of the two
    return shaped


def _ranking(answer: Classification, row: int) -> str:
    count = _shaped(answer).shape[1]
    scores = np.zeros(count) if answer.scores is None else answer.scores[row]
    best = np.argsort(-scores, kind="stable")[:_SHOWN_CLASSES].tolist()
    classes = [b""] * count if answer.classes is None else answer.classes[row].tolist()
    lines = [f"  {scores[place]:.6g}  {classes[place].decode(errors='replace') or place}\n" for place in best]
    more = f"  … {count - len(best)} more\n" if count > len(best) else ""
    return f"row {row}:\n{''.join(lines)}{more}"


def _described(array: Array) -> str:
    shape = ", ".join(map(str, array.shape))
    return f"{dtypes.from_numpy(array.dtype).name} [{shape}]"


def _written(array: Array) -> str:
    shown = array
    if array.dtype == object:
        # Bytes as text where they are text.
        texts = [_text(value) for value in array.ravel().tolist()]
        shown = np.array(texts, object).reshape(array.shape)
    text = np.array2string(
        shown,
        precision=6,
        threshold=50,
        edgeitems=_EDGE,
        separator=", ",
        max_line_width=100,
        formatter={"object": str},
    )
    return text.replace("\n", "\n    ")


def _text(value: bytes) -> str:
    try:
        return repr(value.decode())
    except UnicodeDecodeError:
        return f"<{len(value):,} bytes>"
