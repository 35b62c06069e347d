"""
REST bodies of Predict, in row format (`instances`, `predictions`) and columnar format (`inputs`, `outputs`).

A server reads a request in two steps, as TF Serving checks it: `parse_request` needs nothing but the body;
`ParsedRequest.inputs` needs the signature, for JSON tells neither dtypes nor which input is meant.

Source: tensorflow_serving/util/json_tensor.cc.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from slipway_wire import json_simd, json_tensors, json_text, tensors
from slipway_wire.json_simd import NumbersBody
from slipway_wire.json_tensors import NonFinite, Style
from slipway_wire.signatures import Signature, TensorSpec
from slipway_wire.status import InvalidArgument, WireError
from slipway_wire.tensors import Array

# An output whose name ends so holds bytes, not text, and goes out as b64 objects.
_BYTES_SUFFIX = "_bytes"

_REQUEST = Style(strings="either")


# Not frozen: each request makes one, and a frozen one takes four times as long to make.
@dataclass(slots=True)
class ParsedRequest:
    """
    The body of a Predict request that is JSON and an object; the rest is checked by `inputs`.

    Attributes:
        signature_name: As sent; empty stands for the default.
        row_format: Whether the answer is to be in row format.
        body: As sent.
        content: What was found in it: numbers only, or any values.
    """

    signature_name: str
    row_format: bool
    body: bytes
    content: NumbersBody | dict[str, Any]

    def inputs(self, signature: Signature) -> dict[str, Array]:
        """
        Read the tensors.

        Args:
            signature: Gives the names and dtypes. Shapes are not compared with it: the graph decides.

        Returns:
            Every input of the signature by name. Row format: each of shape [rows, …]; columnar: as it was nested.

        Raises:
            InvalidArgument: In TF Serving's words, with the first element that does not fit.
            Unimplemented: In columnar format, for an input that JSON cannot carry (uint16, complex…).
        """
        if not signature.inputs:
            raise InvalidArgument(f"Failed to get input map for signature: {self.signature_name or 'DEFAULT'}")
        document = self.content
        if isinstance(document, NumbersBody):
            arrays = document.inputs({name: spec.dtype for name, spec in signature.inputs.items()})
            if arrays is not None:
                return arrays
            document = json_text.parse_object(self.body)
        booleans = b"true" in self.body or b"false" in self.body
        if "instances" in document and "inputs" in document:
            raise _fault(
                document, "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist"
            )
        if "instances" in document:
            instances = document["instances"]
            if not isinstance(instances, list):
                raise _fault(document, "Expecting 'instances' to be an list/array")
            if not instances:
                raise _fault(document, "No values in 'instances' array")
            return _read_rows(instances, signature.inputs, booleans=booleans)
        if "inputs" in document:
            return _read_columns(document["inputs"], signature.inputs, booleans=booleans)
        raise InvalidArgument("Missing 'inputs' or 'instances' key")


def _fault(document: dict[str, Any], what: str) -> InvalidArgument:
    return InvalidArgument(f"JSON Value: {json_text.describe(document)} {what}")


def parse_request(body: bytes) -> ParsedRequest:
    """
    Parse the body of `POST …:predict`.

    Raises:
        InvalidArgument: If it is no JSON, no object, or `signature_name` is no string.
    """
    if len(body) >= json_simd.MIN_BYTES and (numbers := json_simd.parse(body)) is not None:
        return ParsedRequest(numbers.signature_name, numbers.row_format, body, numbers)
    document = json_text.parse_object(body)
    return ParsedRequest(signature_name(document), "instances" in document, body, document)


def signature_name(document: dict[str, Any]) -> str:
    """Read the `signature_name` of a request, empty if there is none, or raise InvalidArgument."""
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise InvalidArgument(
            f"JSON Value: {json_text.describe(document)} not formatted correctly. "
            "'signature_name' key must be a string value."
        )
    return name


# --- columnar format -------------------------------------------------------------------------------


def _read_columns(value: Any, specs: Mapping[str, TensorSpec], *, booleans: bool) -> dict[str, Array]:
    if not isinstance(value, dict) or json_tensors.is_base64(value):
        if len(specs) > 1:
            raise InvalidArgument(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                "tensorinfo_map"
            )
        (spec,) = specs.values()
        return {spec.name: json_tensors.decode(value, spec.dtype, booleans=booleans)}
    arrays = {}
    for name, spec in specs.items():
        if name not in value:
            raise InvalidArgument(f"Missing named input: {name} in 'inputs' object.")
        arrays[name] = json_tensors.decode(value[name], spec.dtype, booleans=booleans)
    return arrays


# --- row format ------------------------------------------------------------------------------------


def _read_rows(rows: list[Any], specs: Mapping[str, TensorSpec], *, booleans: bool) -> dict[str, Array]:
    if _is_named(rows[0]):
        return _read_named_rows(rows, specs, booleans=booleans)
    if len(specs) > 1:
        raise InvalidArgument(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map"
        )
    (spec,) = specs.values()
    array = json_tensors.decode_numbers(rows, spec.dtype, booleans=booleans)
    if array is None:
        reader = _RowReader(specs)
        for index, row in enumerate(rows):
            if _is_named(row):
                raise InvalidArgument(f"Expecting value/list but got object at item {index} of input list")
            reader.add(index, spec.name, row, where="")
        array = reader.arrays()[spec.name]
    return {spec.name: array}


def _read_named_rows(rows: list[Any], specs: Mapping[str, TensorSpec], *, booleans: bool) -> dict[str, Array]:
    names = specs.keys()
    if all(isinstance(row, dict) and row.keys() == names for row in rows):
        arrays = {}
        for name, spec in specs.items():
            column = json_tensors.decode_numbers([row[name] for row in rows], spec.dtype, booleans=booleans)
            if column is None:
                break
            arrays[name] = column
        else:
            return arrays
    reader = _RowReader(specs)
    for index, row in enumerate(rows):
        if not _is_named(row):
            raise InvalidArgument(f"Expecting object but got list at item {index} of input list")
        for name, value in row.items():
            reader.add(index, name, value, where=f" key: {name}")
        if row.keys() != names:
            raise InvalidArgument(
                f"Failed to process element: {index} of 'instances' list. JSON object: {json_text.describe(row)} "
                f"keys must be equal to: {','.join(sorted(names))}"
            )
    return reader.arrays()


def _is_named(row: Any) -> bool:
    return isinstance(row, dict) and not json_tensors.is_base64(row)


class _RowReader:
    """Collects the rows of each input one by one, and tells the first that does not fit."""

    def __init__(self, specs: Mapping[str, TensorSpec]) -> None:
        self._specs = specs
        self._rows: dict[str, list[Array]] = {}

    def add(self, index: int, name: str, value: Any, *, where: str) -> None:
        """Take element *index* of input *name*; *where* names the key for the error, if there is one."""
        try:
            if name not in self._specs:
                raise InvalidArgument(f"JSON object: does not have named input: {name}")
            array = json_tensors.decode_elements(value, self._specs[name].dtype)
            rows = self._rows.setdefault(name, [])
            _check_like_first(array, rows[0] if rows else array)
        except WireError as error:
            # Whatever the code was: it becomes a word of the message.
            raise InvalidArgument(
                f"Failed to process element: {index}{where} of 'instances' list. "
                f"Error: {error.code.name}: {error.message}"
            ) from error
        rows.append(array)

    def arrays(self) -> dict[str, Array]:
        """Stack the rows of each input, in the signature's order."""
        return {name: np.stack(self._rows[name]) for name in self._specs}


def _check_like_first(array: Array, first: Array) -> None:
    if array.size != first.size:
        raise InvalidArgument(f"Expecting tensor size: {first.size} but got: {array.size}")
    if array.shape != first.shape:
        raise InvalidArgument(f"Expecting shape {_shape(first)} but got: {_shape(array)}")


def _shape(array: Array) -> str:
    return "[" + ",".join(map(str, array.shape)) + "]"


# --- answers ---------------------------------------------------------------------------------------


def encode_response(outputs: Mapping[str, Array], *, row_format: bool, non_finite: NonFinite = "tokens") -> bytes:
    """
    Write the answer of `POST …:predict`, in the format of its request.

    Args:
        outputs: Output name -> array; row format: each of shape [rows, …] with the same rows.
        row_format: Whether the request had `instances`.
        non_finite: What stands for NaN and infinities.

    Raises:
        InvalidArgument: In TF Serving's words: no outputs, a type JSON cannot carry (uint16, complex…), or in row format an
            output without rows or with another number of them.
        Internal: *non_finite* is "error", and there is such a value.
    """
    if not outputs:
        raise InvalidArgument("Cannot convert empty tensor map to JSON")
    if row_format:
        return b'{"predictions":%b}' % _write_rows(outputs, non_finite)
    columns = {name: json_tensors.encode(array, _style(name, non_finite)) for name, array in outputs.items()}
    return b'{"outputs":%b}' % (_write_object(columns) if len(columns) > 1 else next(iter(columns.values())))


def _write_rows(outputs: Mapping[str, Array], non_finite: NonFinite) -> bytes:
    rows: int | None = None
    for name, array in outputs.items():
        if array.ndim == 0:
            raise InvalidArgument(f"Tensor name: {name} has no shape information ")
        if rows is not None and len(array) != rows:
            raise InvalidArgument(f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {rows}")
        rows = len(array)
    if len(outputs) == 1:
        ((name, array),) = outputs.items()
        return json_tensors.encode(array, _style(name, non_finite))
    columns = [json_tensors.encode_rows(array, _style(name, non_finite)) for name, array in outputs.items()]
    return _write_named_rows(list(outputs), columns)


@lru_cache(maxsize=4096)
def _style(output_name: str, non_finite: NonFinite) -> Style:
    return Style("base64" if output_name.endswith(_BYTES_SUFFIX) else "text", "tf_serving", non_finite)


def _write_object(members: Mapping[str, bytes]) -> bytes:
    return b"{" + b",".join(orjson.dumps(name) + b":" + value for name, value in members.items()) + b"}"


def _write_named_rows(names: list[str], columns: list[list[bytes]]) -> bytes:
    keys = [orjson.dumps(name) + b":" for name in names]
    rows = (
        b"{" + b",".join([key + value for key, value in zip(keys, row, strict=True)]) + b"}"
        for row in zip(*columns, strict=True)
    )
    return b"[" + b",".join(rows) + b"]"


# --- the client's side -----------------------------------------------------------------------------


def encode_request(inputs: Mapping[str, npt.ArrayLike], *, row_format: bool = True, signature_name: str = "") -> bytes:
    """
    Write a body for `POST …:predict`: no spaces, float32 in the fewest digits that read back to the same value.

    Args:
        inputs: Input name -> values. One input goes without its name. Row format: each of shape [rows, …] with the
            same rows. Bytes that are not UTF-8 go as b64 objects.
        row_format: `instances` rather than `inputs`.
        signature_name: Left out if empty.

    Raises:
        InvalidArgument: If there is no input, a type JSON cannot carry, or in row format an input without rows or with
            another number of them.
    """
    arrays = {name: tensors.as_array(values) for name, values in inputs.items()}
    if not arrays:
        raise InvalidArgument("a request over REST needs at least one input")
    head = b'"signature_name":%b,' % orjson.dumps(signature_name) if signature_name else b""
    if not row_format:
        columns = {name: json_tensors.encode(array, _REQUEST) for name, array in arrays.items()}
        value = _write_object(columns) if len(columns) > 1 else next(iter(columns.values()))
        return b'{%b"inputs":%b}' % (head, value)
    shapes = {name: array.shape for name, array in arrays.items()}
    if any(not shape or shape[0] != next(iter(shapes.values()))[0] for shape in shapes.values()):
        raise InvalidArgument(f"row format needs inputs with the same number of rows, got shapes {shapes}")
    if len(arrays) == 1:
        value = json_tensors.encode(next(iter(arrays.values())), _REQUEST)
    else:
        value = _write_named_rows(
            list(arrays), [json_tensors.encode_rows(array, _REQUEST) for array in arrays.values()]
        )
    return b'{%b"instances":%b}' % (head, value)


def decode_response(body: bytes) -> dict[str, Array] | Array:
    """
    Read the answer of `POST …:predict`.

    Returns:
        The array of a single output, or output name -> array. JSON tells no types: integers come as int64 (uint64 if need be), others as float64 (cast
        to float32, a float32 output is exact), strings and b64 objects as object arrays of bytes.

    Raises:
        InvalidArgument: If the body is no such answer; the message of an error body is part of ours.
    """
    document = json_text.parse_object(body)
    if "predictions" in document:
        rows = document["predictions"]
        if isinstance(rows, list) and rows and _is_named(rows[0]):
            names = rows[0].keys()
            if not all(isinstance(row, dict) and row.keys() == names for row in rows):
                raise InvalidArgument("the rows of 'predictions' have different outputs")
            return {name: json_tensors.decode_freely([row[name] for row in rows]) for name in names}
        return json_tensors.decode_freely(rows)
    if "outputs" in document:
        value = document["outputs"]
        if _is_named(value):
            return {name: json_tensors.decode_freely(column) for name, column in value.items()}
        return json_tensors.decode_freely(value)
    raise InvalidArgument(f"not an answer of Predict: {json_text.describe(document)}")
