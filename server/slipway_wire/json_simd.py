"""
Request bodies that hold nothing but numbers -> ndarrays, at the speed of simdjson.

Only what is plain is read here: an object with `instances` or `inputs` and perhaps a `signature_name`, whose tensors are
regular lists of numbers, in JSON as the standard has it, or with NaN and infinities in them. For all else `parse` gives None, and the way through Python
values (json_text, json_tensors) decides what it means or which error it is. So whatever is accepted here must mean there
the same; a property test compares the two.

simdjson's DOM flattens nested lists without looking at their lengths. What proves them regular is the text itself: without
digits, signs, points, exponents and space, a regular tensor is `[[,,],[,,]]`, which is built from the shape and compared;
and there must be as many numbers as there are places for them.
"""

import math
import re
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import orjson
import simdjson

from slipway_wire import json_tensors
from slipway_wire.dtypes import DataType
from slipway_wire.tensors import Array

MIN_BYTES = 4096
"""Below this, Python's objects cost less than a parser's set-up."""

# Larger bodies are read piece by piece: each call into simdjson keeps all other threads waiting, this long for about half
# a millisecond. From 64 KiB to 1 MiB it costs the same.
_PIECE_BYTES = 256 * 1024

# Everything that numbers and the space around them are made of.
IN_NUMBERS = b"0123456789+-.eE \t\r\n"

# Parsers keep buffers as large as the largest body they have read; these are kept for the next one.
_KEPT_PARSERS = 4
_KEPT_BYTES = 4 * 1024 * 1024
_parsers: list[simdjson.Parser] = []

# A row of a few numbers is read faster as Python's; see `_named_rows`.
_MIN_ELEMENTS = 16

# As json_tensors: numpy's limit.
_MAX_DIMENSIONS = 64

_NAME = rb'"signature_name"\s*+:\s*+"([\w.:/-]*+)"'
_HEAD = re.compile(rb"\s*+\{\s*+(?:" + _NAME + rb'\s*+,\s*+)?"(instances|inputs)"\s*+:\s*+\[')
_TAIL = re.compile(rb"\]\s*+(?:,\s*+" + _NAME + rb"\s*+)?\}\s*+\Z")
_TAIL_BYTES = 512
_OPENING = re.compile(rb"(?:\s*+\[)*+")
_SEPARATOR = re.compile(rb"\s*+,")


@dataclass(frozen=True, slots=True)
class NumbersBody:
    """
    The body of a Predict request, read.

    Attributes:
        signature_name: As sent; empty stands for the default.
        row_format: Whether it has `instances`.
        tensors: The only tensor, or name -> tensor: int64, uint64 or float64, in pieces along dimension 0. Integers
            that fit into neither integer type together are float64.
    """

    signature_name: str
    row_format: bool
    tensors: "Pieces | dict[str, Pieces]"

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the only tensor; empty if there are several."""
        return () if isinstance(self.tensors, dict) else self.tensors.shape

    def inputs(self, specs: "dict[str, DataType]") -> dict[str, Array] | None:
        """
        Give every input its tensor in the type it declares.

        Args:
            specs: Input name -> type.

        Returns:
            None if names, types or values do not fit; then the error is for others to find.
        """
        tensors = self.tensors
        if not isinstance(tensors, dict):
            if len(specs) != 1:
                return None
            tensors = dict.fromkeys(specs, tensors)
        elif self.row_format and tensors.keys() != specs.keys():
            return None
        arrays = {}
        for name, data_type in specs.items():
            pieces = tensors.get(name)
            array = None if pieces is None else pieces.cast(data_type)
            if array is None:
                return None
            arrays[name] = array
        return arrays


@dataclass(frozen=True, slots=True)
class Pieces:
    """
    A tensor as flat arrays, one behind the other, and the shape of the whole.

    Raises:
        ValueError: There are fewer elements than places: to the text without its numbers, [[1],[]] looks like [[],[]].
    """

    parts: Sequence[Array]
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        if sum(part.size for part in self.parts) != math.prod(self.shape):
            raise ValueError("fewer elements than places")

    def cast(self, data_type: DataType) -> Array | None:
        """Convert to *data_type* as json_tensors does, or give None if it would refuse or look closer."""
        parts = [json_tensors.cast_numbers(part, data_type) for part in self.parts]
        if any(part is None for part in parts):
            return None
        whole: Array = parts[0] if len(parts) == 1 else np.concatenate(parts)  # type: ignore[arg-type,assignment]
        return whole.reshape(self.shape)


def numbers(body: bytes, key: str) -> Array | None:
    """
    Read all numbers of *body*, an object, that stand in the lists below *key*, in their order.

    Returns:
        float64 of shape [n]; None if it is not JSON as simdjson has it, or there is anything else in those lists.
    """
    parser = _parsers.pop() if _parsers else simdjson.Parser()
    try:
        document: Any = parser.parse(body)
        return np.frombuffer(document[key].as_buffer(of_type="d"), np.float64)
    except (ValueError, TypeError, RuntimeError, KeyError, AttributeError, UnicodeDecodeError):
        return None
    finally:
        if len(body) <= _KEPT_BYTES and len(_parsers) < _KEPT_PARSERS:
            _parsers.append(parser)


def parse(body: bytes) -> NumbersBody | None:
    """Read *body*, or give None if it is not as plain as it must be."""
    read = _read(body)
    if read is None and (b"NaN" in body or b"Inf" in body):
        return _read_with_words(body)
    return read


def _read(body: bytes) -> NumbersBody | None:
    parser = _parsers.pop() if _parsers else simdjson.Parser()
    try:
        read = _read_in_pieces(parser, body) if len(body) > 2 * _PIECE_BYTES else None
        return read or _read_whole(parser, body)
    except (ValueError, TypeError, RuntimeError, KeyError, UnicodeDecodeError):
        # Not JSON as simdjson has it, or not only numbers; the other way will find out.
        return None
    finally:
        if len(body) <= _KEPT_BYTES and len(_parsers) < _KEPT_PARSERS:
            _parsers.append(parser)


def _read_whole(parser: simdjson.Parser, body: bytes) -> NumbersBody | None:
    document = parser.parse(body)
    if not isinstance(document, simdjson.Object):
        return None
    keys = list(document.keys())
    if sorted(keys) not in (["inputs"], ["instances"], ["inputs", "signature_name"], ["instances", "signature_name"]):
        return None
    name = document["signature_name"] if "signature_name" in keys else ""
    key = "instances" if "instances" in keys else "inputs"
    if not isinstance(name, str):
        return None
    read = _tensors(document[key], row_format=key == "instances")
    if read is None:
        return None
    tensors, text = read
    members = [b'"%b":%b' % (one.encode(), text if one == key else orjson.dumps(name)) for one in keys]
    if body.translate(None, IN_NUMBERS) != (b"{" + b",".join(members) + b"}").translate(None, IN_NUMBERS):
        return None
    return NumbersBody(name, key == "instances", tensors)


def _tensors(value: Any, *, row_format: bool) -> tuple[Pieces | dict[str, Pieces], bytes] | None:
    """Read the tensors below `instances` or `inputs`, and say what its text must be without its numbers."""
    if isinstance(value, simdjson.Object) and not row_format:
        return _columns(value)
    if not isinstance(value, simdjson.Array) or not len(value):
        return None
    if row_format and isinstance(value[0], simdjson.Object):
        return _named_rows(value)
    shape = _shape(value)
    return Pieces([_numbers(value)], shape), json_tensors.structure(shape)


def _columns(value: simdjson.Object) -> tuple[dict[str, Pieces], bytes] | None:
    tensors, members = {}, []
    for name in value.keys():  # noqa: SIM118  # no mapping; its items would be Python lists
        column = value[name]
        if not isinstance(column, simdjson.Array) or name in tensors:
            return None
        shape = _shape(column)
        tensors[name] = Pieces([_numbers(column)], shape)
        members.append(orjson.dumps(name) + b":" + json_tensors.structure(shape))
    return tensors, b"{" + b",".join(members) + b"}"


def _named_rows(rows: simdjson.Array) -> tuple[dict[str, Pieces], bytes] | None:
    first: Any = rows[0]
    names = list(first.keys())
    shapes = {name: _shape(first[name]) for name in names if isinstance(first[name], simdjson.Array)}
    if len(set(names)) < len(names) or max(map(np.prod, shapes.values()), default=0) < _MIN_ELEMENTS:
        return None
    columns: dict[str, list[Any]] = {name: [] for name in names}
    row: Any
    for row in rows:
        for name in names:
            value = row[name]
            columns[name].append(_numbers(value) if name in shapes else value)
    tensors = {}
    for name, column in columns.items():
        # Equal shapes are proven by the text.
        flat = np.concatenate(column) if name in shapes else _scalars(column)
        tensors[name] = Pieces([flat], (len(column), *shapes.get(name, ())))
    members = [orjson.dumps(name) + b":" + json_tensors.structure(shapes.get(name, ())) for name in names]
    return tensors, json_tensors.structure((len(rows),), b"{" + b",".join(members) + b"}")


def _scalars(values: list[Any]) -> Array:
    if any(type(value) not in (int, float) for value in values):
        raise TypeError("not only numbers")
    array = np.array(values)
    if array.dtype.kind not in "iuf":
        raise TypeError("integers beyond every type")
    return array


def _shape(value: Any) -> tuple[int, ...]:
    """Follow the first elements down; a number has no dimension."""
    shape: list[int] = []
    while isinstance(value, simdjson.Array):
        size = len(value)
        shape.append(size)
        if not size:
            break
        value = value[0]
    if len(shape) > _MAX_DIMENSIONS:
        raise ValueError("more dimensions than an array can have")
    return tuple(shape)


def _numbers(value: simdjson.Array) -> Array:
    """Flatten nested lists of numbers; raises if there is anything else in them."""
    try:
        return np.frombuffer(value.as_buffer(of_type="i"), np.int64)
    except TypeError:
        return np.frombuffer(value.as_buffer(of_type="d"), np.float64)
    except ValueError:
        # An integer beyond int64.
        try:
            return np.frombuffer(value.as_buffer(of_type="u"), np.uint64)
        except (TypeError, ValueError):
            return np.frombuffer(value.as_buffer(of_type="d"), np.float64)


# --- NaN and infinities ----------------------------------------------------------------------------


def _numbers_for_words() -> dict[bytes, tuple[bytes, float, float]]:
    """
    Choose numbers that nobody sends, to stand for what JSON has no number for.

    Returns:
        Word -> its text, with space around it so that it joins nothing; its value; what it stands for. A word comes
        before those that are part of it.
    """
    chosen: dict[bytes, tuple[bytes, float, float]] = {}
    for exponent, (meaning, words) in enumerate(
        [(-np.inf, (b"-Infinity", b"-Inf")), (np.inf, (b"Infinity", b"Inf")), (np.nan, (b"-NaN", b"NaN"))], start=280
    ):
        text = f" -{1 + secrets.randbelow(9)}.{secrets.randbelow(10**15):015}1e-{exponent} ".encode()
        chosen |= dict.fromkeys(words, (text, float(text), meaning))
    return chosen


_NUMBER_FOR_WORD = _numbers_for_words()


def _read_with_words(body: bytes) -> NumbersBody | None:
    text = body
    for word, (number, _, _) in _NUMBER_FOR_WORD.items():
        if number.strip() in body:
            return None
        text = text.replace(word, number)
    read = _read(text)
    if read is None:
        return None
    # The words may also have been part of names.
    names = [read.signature_name, *(read.tensors if isinstance(read.tensors, dict) else ())]
    if any(number.decode() in name for number, _, _ in _NUMBER_FOR_WORD.values() for name in names):
        return None
    if isinstance(read.tensors, dict):
        return replace(read, tensors={name: _with_words(pieces) for name, pieces in read.tensors.items()})
    return replace(read, tensors=_with_words(read.tensors))


def _with_words(pieces: Pieces) -> Pieces:
    parts = []
    for part in pieces.parts:
        if part.dtype.kind == "f":
            part = part.copy()  # noqa: PLW2901  # simdjson's buffer is not ours
            for _, value, meaning in _NUMBER_FOR_WORD.values():
                part[part == value] = meaning
        parts.append(part)
    return Pieces(parts, pieces.shape)


# --- large bodies ----------------------------------------------------------------------------------


def _read_in_pieces(parser: simdjson.Parser, body: bytes) -> NumbersBody | None:
    """Read one tensor in pieces of whole rows, each of which is JSON and regular by itself and like the first."""
    head = _HEAD.match(body)
    tail_at = max(len(body) - _TAIL_BYTES, 0)
    tail = _TAIL.search(body[tail_at:])
    if head is None or tail is None or (head[1] is not None and tail[1] is not None):
        return None
    parts: list[Array] = []
    rows, inner = 0, None
    expected_of, expected = None, b""
    for piece in _pieces(body, head.end(), tail_at + tail.start()):
        array: Any = parser.parse(b"[" + piece + b"]")
        shape = _shape(array)
        if not shape[0]:
            return None
        if inner is None:
            inner = shape[1:]
        if shape != expected_of:
            if json_tensors.structure_bytes(shape) > len(piece) + 2:
                return None
            expected_of, expected = shape, json_tensors.structure(shape)[1:-1]
        if shape[1:] != inner or piece.translate(None, IN_NUMBERS) != expected:
            return None
        parts.append(_numbers(array))
        rows += shape[0]
        del array
    if inner is None:
        return None
    name = head[1] or tail[1] or b""
    return NumbersBody(name.decode(), head[2] == b"instances", Pieces(parts, (rows, *inner)))


def _pieces(body: bytes, start: int, end: int) -> Iterator[bytes]:
    """Cut body[start:end], the elements of a list, behind elements; elsewhere only if the list is not regular."""
    opening = _OPENING.match(body, start, end)
    assert opening is not None  # it matches the empty text too
    # So many brackets in a row close an element of a regular list, and nothing less does.
    closing = b"]" * opening[0].count(b"[")
    while start < end:
        at = body.find(closing or b",", min(start + _PIECE_BYTES, end), end)
        cut = end if at < 0 else at + len(closing)
        yield body[start:cut]
        separator = _SEPARATOR.match(body, cut, end)
        if separator is None and cut < end:
            raise ValueError("no comma between two elements")
        start = end if separator is None else separator.end()
        if separator is not None and start >= end:
            raise ValueError("no element behind a comma")
