"""
REST bodies of Predict, in row format (`instances`, `predictions`) and columnar format (`inputs`, `outputs`).

A server reads a request in two steps, as TF Serving checks it: `parse_request` needs nothing but the body;
`ParsedRequest.inputs` needs the signature, for JSON tells neither dtypes nor which input is meant.

Source: tensorflow_serving/util/json_tensor.cc.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, chain
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

_NO_OUTPUTS = "Cannot convert empty tensor map to JSON"


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


@dataclass(frozen=True, slots=True, eq=False)
class NumbersForm:
    """
    Requests that are nothing but numbers, of one shape, for a single float32 input.

    Attributes:
        row_format: Whether they are `instances`.
        shape: Of the input.
    """

    row_format: bool
    shape: tuple[int, ...]

    @property
    def rows(self) -> int:
        """The size along axis 0."""
        return self.shape[0]

    def fits(self, inputs: Mapping[str, Array]) -> bool:
        """Say whether *inputs*, all that a model takes, are what a request of this form brings."""
        return len(inputs) == 1 and all(
            array.dtype == np.float32 and array.shape == self.shape for array in inputs.values()
        )

    def joined(self, values: Sequence[Array], like: Mapping[str, Array]) -> dict[str, Array]:
        """
        Read the inputs of several requests of this form, joined along axis 0.

        Args:
            values: What `find_form` has found in each.
            like: What one of them brings.
        """
        numbers = np.concatenate(values)
        # Beyond float32 is infinity.
        with np.errstate(over="ignore"):
            return dict.fromkeys(like, numbers.astype(np.float32).reshape(-1, *self.shape[1:]))


@dataclass(frozen=True, slots=True, eq=False)
class StringsForm:
    """
    Requests that are nothing but strings for a single input, each as text or as a b64 object.

    Attributes:
        rows: Of each request.
    """

    rows: int

    def fits(self, inputs: Mapping[str, Array]) -> bool:
        """Say whether *inputs*, all that a model takes, are what a request of this form may bring."""
        return len(inputs) == 1 and all(
            array.dtype == object and array.shape == (self.rows,) for array in inputs.values()
        )

    def joined(self, values: Sequence[list[Any]], like: Mapping[str, Array]) -> dict[str, Array]:
        """
        Read the inputs of several requests of this form, joined along axis 0.

        Args:
            values: What `form_of` has found in each.
            like: What one of them brings.

        Raises:
            InvalidArgument: Something is no string.
        """
        array = np.empty(self.rows * len(values), object)
        array[:] = [json_tensors.decode_string(value) for value in chain.from_iterable(values)]
        return dict.fromkeys(like, array)


# Bodies without their numbers -> what they are. Clients choose them.
_numbers_forms: dict[bytes, NumbersForm] = {}
_MAX_NUMBERS_FORMS = 256
_MAX_BARE_BYTES = 4096

_strings_form = lru_cache(maxsize=1024)(StringsForm)


def find_form(body: bytes) -> tuple[NumbersForm, Array] | None:
    """
    Say of what form a request is that is nothing but numbers, if `form_of` has seen that form before.

    Its text without its numbers is that of the form. So if it is JSON and nothing but numbers, and as many, then each stands
    where it stands in the form: there is no other place for it.

    Returns:
        The form, and its numbers as float64 of shape [n].
    """
    form = _numbers_forms.get(body.translate(None, json_simd.IN_NUMBERS))
    if form is None:
        return None
    numbers = json_simd.numbers(body, "instances" if form.row_format else "inputs")
    return (form, numbers) if numbers is not None and numbers.size == math.prod(form.shape) else None


def form_of(request: ParsedRequest) -> tuple[NumbersForm | StringsForm, Any] | None:
    """
    Say of what form a small request is, if it has one, and remember it.

    Returns:
        The form, always the same object for requests that are alike; and the values, which may turn out to be none.
    """
    document = request.content
    if isinstance(document, NumbersBody):
        shape = document.shape
    else:
        if ("inputs" in document) == ("instances" in document):
            return None
        rows = document["instances" if request.row_format else "inputs"]
        if not isinstance(rows, list) or not rows:
            return None
        if isinstance(rows[0], str) or json_tensors.is_base64(rows[0]):
            return _strings_form(len(rows)), rows
        shape = json_tensors.shape_of_first(rows)
    if not shape or 0 in shape:
        return None
    bare = request.body.translate(None, json_simd.IN_NUMBERS)
    if len(bare) > _MAX_BARE_BYTES or json_tensors.structure_bytes(shape) > len(bare):
        return None
    key = b"instances" if request.row_format else b"inputs"
    expected = b'{"%b":%b}' % (key, json_tensors.structure(shape))
    if bare != expected.translate(None, json_simd.IN_NUMBERS):
        return None
    if len(_numbers_forms) >= _MAX_NUMBERS_FORMS:
        # The first that came is not the last that is asked for: what is, is soon back.
        _numbers_forms.pop(next(iter(_numbers_forms)), None)
    _numbers_forms.setdefault(bare, NumbersForm(request.row_format, shape))
    return find_form(request.body)


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
        raise InvalidArgument(_NO_OUTPUTS)
    if row_format:
        return b'{"predictions":%b}' % _write_rows(outputs, non_finite)
    columns = {name: json_tensors.encode(array, _style(name, non_finite)) for name, array in outputs.items()}
    return b'{"outputs":%b}' % (_write_object(columns) if len(columns) > 1 else next(iter(columns.values())))


def encode_responses(
    outputs: Mapping[str, Array], sizes: Sequence[int], *, row_format: bool, non_finite: NonFinite = "tokens"
) -> list[bytes] | None:
    """
    Write the answers of several requests at once.

    Args:
        outputs: Output name -> array of shape [rows, …] that holds the rows of the requests, one behind the other.
        sizes: Rows of each request, >= 1.
        row_format: See `encode_response`.
        non_finite: Likewise.

    Returns:
        What `encode_response` gives for each; None where an array is too large to be written in one piece.

    Raises:
        WireError: What `encode_response` raises for one of them.
    """
    if not outputs:
        raise InvalidArgument(_NO_OUTPUTS)
    if any(array.size > json_tensors.PIECE for array in outputs.values()):
        return None
    names = list(outputs)
    columns = [json_tensors.encode_rows(array, _style(name, non_finite)) for name, array in outputs.items()]
    stops = list(accumulate(sizes))
    starts = [0, *stops[:-1]]
    if row_format and len(names) > 1:
        rows = _named_rows(names, columns)
        return [
            b'{"predictions":[%b]}' % b",".join(rows[start:stop]) for start, stop in zip(starts, stops, strict=True)
        ]
    of_each = [
        [b"[" + b",".join(column[start:stop]) + b"]" for start, stop in zip(starts, stops, strict=True)]
        for column in columns
    ]
    if row_format:
        return [b'{"predictions":%b}' % value for value in of_each[0]]
    if len(names) == 1:
        return [b'{"outputs":%b}' % value for value in of_each[0]]
    return [
        b'{"outputs":%b}' % _write_object(dict(zip(names, values, strict=True)))
        for values in zip(*of_each, strict=True)
    ]


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
    return b"[" + b",".join(_named_rows(names, columns)) + b"]"


def _named_rows(names: list[str], columns: list[list[bytes]]) -> list[bytes]:
    keys = [orjson.dumps(name) + b":" for name in names]
    return [
        b"{" + b",".join([key + value for key, value in zip(keys, row, strict=True)]) + b"}"
        for row in zip(*columns, strict=True)
    ]


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
