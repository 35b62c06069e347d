"""
Floats -> JSON text with the digits that TF Serving writes.

Its rule: six significant digits as C's `%g` writes them; if those do not read back to the same number, nine (of a
double seventeen); then `.0` if the text has neither a point nor an exponent. So 3 is `3.0`, 9000000 is `9e+06`,
float32(0.1) is `0.1`, 0.00003 is `3e-05`.

Formatting every element by itself costs 0.5 µs. But between 1e-4 and 1e6 (or 1e9) the text is plain decimal notation, and
there the rounding can be left to a few exact operations of numpy, and the writing to orjson, for its shortest text of a
double that is nearest to a decimal of up to 15 digits is that decimal. Only what is smaller or larger goes one by one.

Source: tensorflow_serving/util/json_tensor.cc (WriteDecimal).
"""

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from slipway_wire.tensors import Array

FEW = 24
"""Up to this many elements a loop in Python costs less than some 20 calls of numpy."""

_FLOAT = struct.Struct("<f")

# The range in which `%g` and orjson both write plain decimals. Six digits reach up to 1e6, nine up to 1e9.
_PLAIN_FROM, _PLAIN_BELOW_6, _PLAIN_BELOW_9 = 1e-4, 1e6, 1e9
_POINT = ord(".")
_EXPONENT = ord("e")


def _powers(exponents: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    # By Python's parser, because numpy's power is not exact.
    return np.array([float(f"1e{exponent}") for exponent in exponents.tolist()])


# By binary exponent of a float32: the decimal exponent of the least number that has it.
_DECIMAL_EXPONENT = np.array([int(f"{2.0 ** (b - 127):e}".partition("e")[2]) for b in range(255)] + [38])
_LEAST = -46
_TENS = np.arange(_LEAST, 40)
# By decimal exponent: what brings the first six (nine) digits in front of the point. One of up and down is 1, and exact.
_UP_6, _DOWN_6 = _powers(np.maximum(5 - _TENS, 0)), _powers(np.maximum(_TENS - 5, 0))
_UP_9 = _powers(np.maximum(8 - _TENS, 0))
_NEXT = _powers(_TENS + 1)


Words = Sequence[tuple[int, bytes]]
"""Texts by index into a flat array, the least index first."""

# Stands in the text wherever an element has to be written by other means; no element that is written plainly is like it.
_ELSEWHERE = 1e300
_ELSEWHERE_TEXT = orjson.dumps(_ELSEWHERE)


def text(value: float, *, is_double: bool) -> bytes:
    """
    Write one finite number: the rule itself, for whatever the quick ways do not know.

    Args:
        value: Exactly a float32 (float16, bfloat16), unless *is_double*.
        is_double: Whether it is to read back to the same double rather than float32.
    """
    written = b"%.6g" % value
    back = float(written)
    if back != value and (is_double or _FLOAT.pack(back) != _FLOAT.pack(value)):
        written = (b"%.17g" if is_double else b"%.9g") % value
    return written if _POINT in written or _EXPONENT in written else written + b".0"


def tokens(flat: Array, words: Words = ()) -> list[bytes]:
    """Write the elements of *flat*, an array of shape [n], each by itself; see `nested`."""
    if flat.size <= FEW and not words:
        return few(as_floats(flat), flat.dtype)
    return nested(flat, words)[1:-1].split(b",") if flat.size else []


def nested(array: Array, words: Words = ()) -> bytes:
    """
    Write *array* as nested lists.

    A half or bfloat16 is told by at most five digits, so it has up to six, as much as the first half of the rule gives.

    Args:
        array: Of at least one dimension, finite except where *words* say what to write.
        words: (index into the flat array, text), the least index first.
    """
    decimals, odd = _decimals(array.reshape(-1))
    if words:
        special = dict(words)
        odd = sorted({**dict(odd), **special}.items())
    if odd:
        decimals[[index for index, _ in odd]] = _ELSEWHERE
    whole = orjson.dumps(decimals.reshape(array.shape), option=orjson.OPT_SERIALIZE_NUMPY)
    if not odd:
        return whole
    pieces = whole.split(_ELSEWHERE_TEXT)
    pieces[:-1] = [piece + written for piece, (_, written) in zip(pieces[:-1], odd, strict=True)]
    return b"".join(pieces)


def as_floats(array: Array) -> list[float]:
    """Give the elements of *array* in their order; to numpy a bfloat16 is no float."""
    flat = array.reshape(-1)
    values: list[float] = flat.tolist() if flat.dtype.kind == "f" else flat.astype(np.float32).tolist()
    return values


def few(values: list[float], dtype: "np.dtype[Any] | None") -> list[bytes]:
    """Write finite *values*, elements of an array of *dtype*, each by itself."""
    size = dtype.itemsize if dtype else 4
    if size == 2:
        return [_six(value) for value in values]
    return [text(value, is_double=size == 8) for value in values]


def _six(value: float) -> bytes:
    written = b"%.6g" % value
    return written if _POINT in written or _EXPONENT in written else written + b".0"


def _decimals(flat: Array) -> tuple[npt.NDArray[np.float64], Words]:
    """
    Round to the digits that are to be written.

    Returns:
        Doubles whose shortest text is what is wanted, and the texts where it is not.
    """
    if flat.dtype.itemsize == 8:
        return _decimals_of_doubles(flat)
    is_half = flat.dtype.itemsize == 2
    values = flat.astype(np.float32) if is_half else np.ascontiguousarray(flat)
    sizes = np.abs(values)
    exact = sizes.astype(np.float64)
    exponent = _DECIMAL_EXPONENT[sizes.view(np.uint32) >> 23] - _LEAST
    exponent += exact >= _NEXT[exponent]
    up, down = _UP_6[exponent], _DOWN_6[exponent]
    rounded = np.rint(exact * up / down) * down / up
    # Between 1e-4 and 1e9 all of this is exact: 24 bits of a float32 and 28 of 10**12 = 2**12 * 5**12 fit into 53.
    is_six = np.ones(len(values), bool) if is_half else rounded.astype(np.float32) == sizes
    if not is_six.all():
        up = _UP_9[exponent]
        rounded = np.where(is_six, rounded, np.rint(exact * up) / up)
    plain = (exact >= _PLAIN_FROM) & (rounded < np.where(is_six, _PLAIN_BELOW_6, _PLAIN_BELOW_9))
    plain |= exact == 0
    np.copysign(rounded, values, out=rounded)
    if plain.all():
        return rounded, []
    odd = np.flatnonzero(~plain)
    return rounded, list(zip(odd.tolist(), _written_odd(values[odd], is_six[odd]), strict=True))


def _written_odd(values: Array, is_six: Array) -> list[bytes]:
    # Their texts have an exponent. Below the normal range, decimal digits say more than the number has: the rule itself.
    least_normal = float(np.finfo(np.float32).smallest_normal)
    pattern = b",".join([b"%.6g" if six else b"%.9g" for six in is_six.tolist()])
    written = (pattern % tuple(values.tolist())).split(b",")
    for index in np.flatnonzero(np.abs(values) < least_normal).tolist():
        written[index] = text(float(values[index]), is_double=False)
    return written


def _decimals_of_doubles(flat: Array) -> tuple[npt.NDArray[np.float64], Words]:
    values = np.array(flat, np.float64)  # a copy: it will be written to
    sizes = np.abs(values)
    with np.errstate(all="ignore"):
        exponent = np.floor(np.log10(sizes))
        plain = (sizes >= _PLAIN_FROM) & (sizes < _PLAIN_BELOW_6)
        exponent = np.where(plain, exponent, 0).astype(np.int64) - _LEAST
        up, down = _UP_6[exponent], _DOWN_6[exponent]
        # A double that six digits tell is the one nearest to them; another cannot come out equal.
        plain &= np.rint(sizes * up / down) * down / up == sizes
    plain |= sizes == 0
    odd = np.flatnonzero(~plain).tolist()
    texts = [text(value, is_double=True) for value in values[odd].tolist()]
    return values, list(zip(odd, texts, strict=True))
