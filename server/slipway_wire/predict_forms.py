"""
Predict requests of a form that was read before: they differ from it in the values of their tensors and in nothing else.

Clients ask for the same model, with tensors of the same names, types and shapes, again and again. Of such requests only the bytes
inside `tensor_content` differ, or those of the one string that a tensor is (a serialized tf.Example, a picture); all others, lengths
included, are those of the first. Then there is nothing to parse, and the values of several can be joined as they stand.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from slipway_wire import protobuf, tensors
from slipway_wire.model_spec import ModelSpec
from slipway_wire.tensors import Array

# What is remembered is chosen by clients.
_MAX_FIXED_BYTES = 1024
# Each has two fixed bytes or more: what has more fields is of no form, and may have millions of them.
_MAX_FIELDS = _MAX_FIXED_BYTES // 2
_MAX_FORMS_OF_A_LENGTH = 4
_MAX_LENGTHS = 256
# A length that bore no form so often (requests of several strings or of typed fields never do) is looked into no more.
_MAX_TRIES = 8

_SPEC, _INPUTS, _OUTPUT_FILTER = 1, 2, 3
_KEY, _VALUE = 1, 2
_DTYPE, _SHAPE, _CONTENT, _STRING = 1, 2, 4, 8
_VARINT, _LENGTH_DELIMITED = 0, 2
_REQUEST = dict.fromkeys((_SPEC, _INPUTS, _OUTPUT_FILTER), _LENGTH_DELIMITED)
_ENTRY = dict.fromkeys((_KEY, _VALUE), _LENGTH_DELIMITED)
_TENSOR = {_DTYPE: _VARINT, **dict.fromkeys((_SHAPE, _CONTENT, _STRING), _LENGTH_DELIMITED)}


class _Tensor(NamedTuple):
    """Where one input's values stand, and how they are read: those of an object array are one string."""

    name: str
    begin: int
    end: int
    dtype: Any
    shape: tuple[int, ...]


@dataclass(slots=True, eq=False)
class Form:
    """
    All of a request but its values.

    Attributes:
        spec: As the request has it.
        output_filter: Likewise.
        rows: The size along axis 0 that all inputs share; 0 if they share none.
    """

    head: bytes
    """Up to the first value."""
    rest: tuple[tuple[int, bytes], ...]
    """Between and behind the values: offset and bytes."""
    tensors: tuple[_Tensor, ...]
    spec: ModelSpec
    output_filter: tuple[str, ...]
    rows: int

    def has(self, body: bytes) -> bool:
        """Say whether *body*, which has the form's length, is of this form."""
        if not body.startswith(self.head):
            return False
        for offset, fixed in self.rest:  # noqa: SIM110  # a generator costs as much as all else that is done here
            if not body.startswith(fixed, offset):
                return False
        return True

    def arrays(self, body: bytes) -> dict[str, Array]:
        """Read *body*, which is of this form."""
        arrays = {}
        for name, begin, end, dtype, shape in self.tensors:
            # A copy, as protobuf makes one: bytes by themselves begin where every type may.
            value = body[begin:end]
            values = _object_array([value]) if dtype.kind == "O" else tensors.read_content(value, dtype)
            arrays[name] = values if len(shape) == 1 else values.reshape(shape)
        return arrays

    def fits(self, inputs: Mapping[str, Array]) -> bool:
        """Say whether *inputs* are those of a request of this form: others may be the model's own, by default."""
        return inputs.keys() == {name for name, *_ in self.tensors}

    def joined(self, bodies: Sequence[bytes], _like: object = None) -> dict[str, Array]:
        """
        Read all *bodies*, which are of this form, with at least one row.

        Returns:
            Input -> what `arrays` gives for each of them, joined along axis 0.
        """
        arrays = {}
        for name, begin, end, dtype, (rows, *inner) in self.tensors:
            pieces = [body[begin:end] for body in bodies]
            values = _object_array(pieces) if dtype.kind == "O" else tensors.read_content(b"".join(pieces), dtype)
            arrays[name] = values.reshape(rows * len(bodies), *inner) if inner else values
        return arrays


class Forms:
    """The forms of a few hundred requests; used from any thread."""

    def __init__(self) -> None:
        self._of_length: dict[int, list[Form]] = {}
        self._tries: dict[int, int] = {}
        self._lock = Lock()

    def find(self, body: bytes) -> Form | None:
        """Return the form of a request if it is known."""
        for form in self._of_length.get(len(body), ()):
            if form.has(body):
                return form
        return None

    def is_worth_a_look(self, body: bytes) -> bool:
        """Say whether the form of *body*, which is not known, may be worth remembering."""
        return self._tries.get(len(body), 0) < _MAX_TRIES

    def remember(
        self, body: bytes, spec: ModelSpec, inputs: Mapping[str, Array], output_filter: tuple[str, ...]
    ) -> None:
        """
        Keep the form of *body*, if it has one.

        Args:
            body: A valid PredictRequest.
            spec: As it was read from it.
            inputs: Likewise. They are looked at only if all their values stand in *body*: few bytes can ask for large arrays.
            output_filter: Likewise.

        Raises:
            InvalidArgument: An input is malformed.
        """
        length = len(body)
        with self._lock:
            if length not in self._tries and len(self._tries) >= _MAX_LENGTHS:
                oldest = next(iter(self._tries))
                del self._tries[oldest]
                self._of_length.pop(oldest, None)
            self._tries[length] = self._tries.get(length, 0) + 1
        form = _form(body, spec, inputs, output_filter)
        if form is not None:
            with self._lock:
                self._of_length[length] = [form, *self._of_length.get(length, [])][:_MAX_FORMS_OF_A_LENGTH]


def _form(body: bytes, spec: ModelSpec, inputs: Mapping[str, Array], output_filter: tuple[str, ...]) -> Form | None:
    try:
        places = _values(body)
    except (ValueError, LookupError):
        return None
    fixed_bytes = len(body) - sum(end - begin for _, begin, end in places.values())
    if not places or fixed_bytes > _MAX_FIXED_BYTES or places.keys() != set(inputs):
        return None
    found = []
    fixed = []
    since = 0
    for name, (field, begin, end) in sorted(places.items(), key=lambda item: item[1][1]):
        array = inputs[name]
        # Several strings, and what a typed field would have to fill up, have other bytes than these.
        if (field == _STRING) != (array.dtype.kind == "O") or not _stands_in(body, begin, end, array):
            return None
        found.append(_Tensor(name, begin, end, array.dtype, array.shape))
        fixed.append((since, body[since:begin]))
        since = end
    fixed.append((since, body[since:]))
    sizes = {tensor.shape[:1] for tensor in found}
    rows = sum(sizes.pop()) if len(sizes) == 1 else 0
    # By name, as all else that is decoded: a request reads the same whether its form was known or not.
    by_name = tuple(sorted(found, key=lambda tensor: tensor.name))
    return Form(fixed[0][1], tuple(fixed[1:]), by_name, spec, output_filter, rows)


def _stands_in(body: bytes, begin: int, end: int, array: Array) -> bool:
    """Say whether *array* is what stands there, and nothing else."""
    if array.dtype.kind == "O":
        return array.size == 1 and bool(array.item() == body[begin:end])
    return array.nbytes == end - begin and array.tobytes() == body[begin:end]


def _object_array(values: list[bytes]) -> Array:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def _values(body: bytes) -> dict[str, tuple[int, int, int]]:
    """
    Find the values of a PredictRequest each of whose inputs has them in `tensor_content`, or is one string.

    Returns:
        Name -> number of the field, begin and end in *body*.

    Raises:
        ValueError: It is written in another way: fields that are unknown, come twice, or hold values themselves.
        LookupError: It is cut off, or a part is missing.
    """
    places: dict[str, tuple[int, int, int]] = {}
    for number, begin, end in _fields(body, 0, len(body), _REQUEST):
        if number != _INPUTS:
            continue
        entry = _once(body, begin, end, _ENTRY)
        name = body[slice(*entry[_KEY])].decode()
        tensor = _once(body, *entry[_VALUE], _TENSOR)
        if name in places or (_CONTENT in tensor) == (_STRING in tensor):
            raise ValueError(name)
        field = _CONTENT if _CONTENT in tensor else _STRING
        places[name] = field, *tensor[field]
    return places


def _once(body: bytes, begin: int, end: int, known: Mapping[int, int]) -> dict[int, tuple[int, int]]:
    """Read a message of fields that come once at most: number -> where its value stands."""
    found: dict[int, tuple[int, int]] = {}
    for number, start, stop in _fields(body, begin, end, known):
        if number in found:
            raise ValueError(number)
        found[number] = start, stop
    return found


def _fields(body: bytes, begin: int, end: int, known: Mapping[int, int]) -> list[tuple[int, int, int]]:
    """
    List the fields of a message.

    Args:
        body: What holds it.
        begin: Where it begins.
        end: Where it ends.
        known: Number -> wire type. To protobuf a number with another type is another field.

    Returns:
        Number, begin and end of the value.
    """
    found = []
    at = begin
    while at < end:
        tag, at = protobuf.read_varint(body, at)
        number, wire_type = tag >> 3, tag & 7
        if known.get(number) != wire_type:
            raise ValueError(number)
        if wire_type == _LENGTH_DELIMITED:
            length, at = protobuf.read_varint(body, at)
            stop = at + length
        else:
            _, stop = protobuf.read_varint(body, at)
        if stop > end:
            raise IndexError(stop)
        found.append((number, at, stop))
        if len(found) > _MAX_FIELDS:
            raise ValueError(number)
        at = stop
    return found
