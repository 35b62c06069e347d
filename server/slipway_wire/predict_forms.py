"""
Predict requests of a form that was read before: they differ from it in the values of their tensors and in nothing else.

Clients ask for the same model, with tensors of the same names, types and shapes, again and again. Of such requests only the bytes
inside `tensor_content` differ; all others, lengths included, are those of the first. Then there is nothing to parse.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from slipway_wire import protobuf
from slipway_wire.model_spec import ModelSpec
from slipway_wire.tensors import Array

# What is remembered is chosen by clients.
_MAX_FIXED_BYTES = 1024
_MAX_FORMS_OF_A_LENGTH = 4
_MAX_LENGTHS = 256
# A length that bore no form so often (requests of strings or of typed fields never do) is looked into no more.
_MAX_TRIES = 8

_SPEC, _INPUTS, _OUTPUT_FILTER = 1, 2, 3
_KEY, _VALUE = 1, 2
_DTYPE, _SHAPE, _CONTENT = 1, 2, 4
_VARINT, _LENGTH_DELIMITED = 0, 2
_REQUEST = dict.fromkeys((_SPEC, _INPUTS, _OUTPUT_FILTER), _LENGTH_DELIMITED)
_ENTRY = dict.fromkeys((_KEY, _VALUE), _LENGTH_DELIMITED)
_TENSOR = {_DTYPE: _VARINT, _SHAPE: _LENGTH_DELIMITED, _CONTENT: _LENGTH_DELIMITED}


class _Tensor(NamedTuple):
    """Where one input's values stand, and how they are read."""

    name: str
    begin: int
    end: int
    dtype: Any
    shape: tuple[int, ...]


@dataclass(slots=True)
class _Form:
    """All of a request but its values."""

    head: bytes
    """Up to the first value."""
    rest: tuple[tuple[int, bytes], ...]
    """Between and behind the values: offset and bytes."""
    tensors: tuple[_Tensor, ...]
    spec: ModelSpec
    output_filter: tuple[str, ...]

    def arrays(self, body: bytes) -> dict[str, Array] | None:
        """Read *body*, which has the form's length; None if it is of another form."""
        if not body.startswith(self.head):
            return None
        for offset, fixed in self.rest:
            if not body.startswith(fixed, offset):
                return None
        arrays = {}
        for name, begin, end, dtype, shape in self.tensors:
            # A copy, as protobuf makes one: bytes by themselves begin where every type may.
            values = np.frombuffer(body[begin:end], dtype)
            arrays[name] = values if len(shape) == 1 else values.reshape(shape)
        return arrays


class Forms:
    """The forms of a few hundred requests; used from any thread."""

    def __init__(self) -> None:
        self._of_length: dict[int, list[_Form]] = {}
        self._tries: dict[int, int] = {}
        self._lock = Lock()

    def read(self, body: bytes) -> tuple[ModelSpec, dict[str, Array], tuple[str, ...]] | None:
        """Return spec, inputs and output filter of a request whose form is known; None for any other."""
        for form in self._of_length.get(len(body), ()):
            arrays = form.arrays(body)
            if arrays is not None:
                return form.spec, arrays, form.output_filter
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


def _form(body: bytes, spec: ModelSpec, inputs: Mapping[str, Array], output_filter: tuple[str, ...]) -> _Form | None:
    try:
        places = _values(body)
    except (ValueError, LookupError):
        return None
    fixed_bytes = len(body) - sum(end - begin for begin, end in places.values())
    if not places or fixed_bytes > _MAX_FIXED_BYTES or places.keys() != set(inputs):
        return None
    found = []
    fixed = []
    since = 0
    for name, (begin, end) in sorted(places.items(), key=lambda item: item[1]):
        array = inputs[name]
        # Strings, and what a typed field would have to fill up, have other bytes than these.
        if array.dtype.kind == "O" or array.nbytes != end - begin:
            return None
        found.append(_Tensor(name, begin, end, array.dtype, array.shape))
        fixed.append((since, body[since:begin]))
        since = end
    fixed.append((since, body[since:]))
    form = _Form(fixed[0][1], tuple(fixed[1:]), tuple(found), spec, output_filter)
    again = form.arrays(body)
    if again is None or any(again[name].tobytes() != array.tobytes() for name, array in inputs.items()):
        return None
    return form


def _values(body: bytes) -> dict[str, tuple[int, int]]:
    """
    Find the values of a PredictRequest each of whose inputs has them in `tensor_content`.

    Returns:
        Name -> begin and end in *body*.

    Raises:
        ValueError: It is written in another way: fields that are unknown, come twice, or hold values themselves.
        LookupError: It is cut off, or a part is missing.
    """
    places: dict[str, tuple[int, int]] = {}
    for number, begin, end in _fields(body, 0, len(body), _REQUEST):
        if number != _INPUTS:
            continue
        entry = _once(body, begin, end, _ENTRY)
        name = body[slice(*entry[_KEY])].decode()
        tensor = _once(body, *entry[_VALUE], _TENSOR)
        if name in places or _CONTENT not in tensor:
            raise ValueError(name)
        places[name] = tensor[_CONTENT]
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
        at = stop
    return found
