"""
REST bodies of Classify and Regress: tf.Examples as plain objects in, labelled scores or values out.

Source: tensorflow_serving/util/json_tensor.cc (FillClassifyRegressRequestFromJson, MakeJsonFromClassificationResult).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from google.protobuf.message import DecodeError

from slipway_wire import json_predict, json_tensors, json_text, messages
from slipway_wire.inference import Classification, Regression, context_for, examples_tensor
from slipway_wire.json_tensors import NonFinite, Style
from slipway_wire.status import InvalidArgument
from slipway_wire.tensors import Array

_KIND_NAME = {"bytes_list": "bytes", "float_list": "float", "int64_list": "int64"}


@dataclass(frozen=True, slots=True)
class ExamplesBody:
    """
    The body of a Classify or Regress request.

    Attributes:
        signature_name: As sent; empty stands for the default.
        examples: One serialized tf.Example per row, at least one; a context is already part of each.
    """

    signature_name: str
    examples: Sequence[bytes]


def decode_request(body: bytes) -> ExamplesBody:
    """
    Read the body of `POST …:classify` or `POST …:regress`.

    Raises:
        InvalidArgument: In TF Serving's words (which say "classify" for both); or the context is too large for so many
            examples.
    """
    document = json_text.parse_object(body)
    signature_name = json_predict.signature_name(document)
    context = _read_example(document["context"]) if "context" in document else b""
    if "examples" not in document:
        raise _fault(document, "When method is classify, key 'examples' is expected and was not found")
    examples = document["examples"]
    if not isinstance(examples, list):
        raise _fault(document, "Expecting 'examples' value to be an list/array")
    if not examples:
        raise _fault(document, "'examples' value is an empty array")
    context = context_for(len(examples), context)
    return ExamplesBody(signature_name, [context + _read_example(example) for example in examples])


def _fault(document: dict[str, Any], what: str) -> InvalidArgument:
    return InvalidArgument(f"JSON Value: {json_text.describe(document)} {what}")


def _read_example(value: Any) -> bytes:
    if not isinstance(value, dict):
        raise InvalidArgument(f"Example must be JSON object but got JSON {json_text.type_name(value)}")
    example = messages.Example()
    for name, content in value.items():
        try:
            feature = example.features.feature[name]
        except UnicodeError as error:
            raise InvalidArgument("the name of a feature is not UTF-8 text") from error
        for element in content if isinstance(content, list) else [content]:
            _add_element(feature, name, element)
    serialized: bytes = example.SerializeToString()
    return serialized


def _add_element(feature: Any, name: str, value: Any) -> None:
    element: Any
    match value:
        case bool():
            kind, element = "int64_list", int(value)
        case int():
            kind, element = "int64_list", value
        case float():
            kind, element = "float_list", value
        case str():
            kind, element = "bytes_list", json_text.to_bytes(value)
        case dict() if json_tensors.is_base64(value):
            kind, element = "bytes_list", json_tensors.decode_base64(value)
        case _:
            raise InvalidArgument(
                f"Feature: {name} has element with unexpected JSON type: {json_text.type_name(value)}"
            )
    begun = feature.WhichOneof("kind")
    if begun not in (None, kind):
        raise InvalidArgument(f"Unexpected element type in feature: {name} expecting type: {_KIND_NAME[begun]}")
    if kind == "int64_list" and element >= 2**63:
        raise InvalidArgument(f"Feature: {name} has uint64_t element. Only int64_t is supported.")
    getattr(feature, kind).value.append(element)


def encode_request(examples: Sequence[bytes], *, signature_name: str = "") -> bytes:
    """
    Write a body for `POST …:classify` or `POST …:regress`.

    Args:
        examples: Serialized tf.Examples. Bytes that are not UTF-8 go as b64 objects.
        signature_name: Left out if empty.

    Raises:
        InvalidArgument: If one of *examples* is no tf.Example.
    """
    head = b'"signature_name":%b,' % orjson.dumps(signature_name) if signature_name else b""
    return b'{%b"examples":[%b]}' % (head, b",".join(map(_write_example, examples)))


def _write_example(serialized: bytes) -> bytes:
    try:
        features = messages.Example.FromString(serialized).features.feature
    except DecodeError as error:
        raise InvalidArgument("not a tf.Example") from error
    members = []
    for name in sorted(features):
        feature = features[name]
        kind = feature.WhichOneof("kind")
        if kind is None:
            values: Any = np.empty(0, np.int64)
        elif kind == "bytes_list":
            values = examples_tensor(list(feature.bytes_list.value))
        elif kind == "float_list":
            values = np.array(feature.float_list.value, np.float32)
        else:
            values = np.array(feature.int64_list.value, np.int64)
        members.append(orjson.dumps(name) + b":" + json_tensors.encode(values, Style(strings="either")))
    return b"{" + b",".join(members) + b"}"


def encode_classify_response(answer: Classification, non_finite: NonFinite = "tokens") -> bytes:
    """Write `{"results": [[["label", score], …] per example]}`; a label is empty if the model has none."""
    style = Style(digits="tf_serving", non_finite=non_finite)
    shaped = answer.scores if answer.classes is None else answer.classes
    assert shaped is not None  # a Classification has one of the two
    shape = shaped.shape
    classes = np.full(shape, b"", object) if answer.classes is None else answer.classes
    scores = np.zeros(shape, np.float32) if answer.scores is None else answer.scores
    labels = json_tensors.encode_rows(classes.reshape(-1))
    values = json_tensors.encode_rows(scores.reshape(-1), style)
    pairs = [b"[" + label + b"," + value + b"]" for label, value in zip(labels, values, strict=True)]
    width = shape[1]
    rows = [b"[" + b",".join(pairs[row * width : (row + 1) * width]) + b"]" for row in range(shape[0])]
    return b'{"results":[%b]}' % b",".join(rows)


def encode_regress_response(answer: Regression, non_finite: NonFinite = "tokens") -> bytes:
    """Write `{"results": [value, …]}`."""
    return b'{"results":%b}' % json_tensors.encode(answer.values, Style("text", "tf_serving", non_finite))


def decode_classify_response(body: bytes) -> Classification:
    """Read the answer of `POST …:classify`, or raise InvalidArgument."""
    rows = _results(body)
    try:
        labels = [[label.encode(errors="surrogateescape") for label, _ in row] for row in rows]
        scores = _as_float32(np.array([[score for _, score in row] for row in rows], np.float64))
    except (TypeError, ValueError, AttributeError) as error:
        raise InvalidArgument(
            "the results of Classify are lists of [label, score], as long for every example"
        ) from error
    width = len(labels[0]) if labels else 0
    return Classification(
        classes=examples_tensor([label for row in labels for label in row]).reshape(len(labels), width),
        scores=scores.reshape(len(labels), width),
    )


def decode_regress_response(body: bytes) -> Regression:
    """Read the answer of `POST …:regress`, or raise InvalidArgument."""
    values = json_tensors.decode_freely(_results(body))
    if values.ndim != 1 or values.dtype.kind not in "fi":
        raise InvalidArgument("the results of Regress are one number per example")
    return Regression(_as_float32(values))


def _as_float32(values: Array) -> Array:
    with np.errstate(over="ignore"):  # beyond float32 is infinity
        return values.astype(np.float32)


def _results(body: bytes) -> list[Any]:
    document = json_text.parse_object(body)
    results = document.get("results")
    if not isinstance(results, list):
        raise InvalidArgument(f"not an answer of Classify or Regress: {json_text.describe(document)}")
    return results
