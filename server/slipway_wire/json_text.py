"""
JSON text <-> plain values, and the words TF Serving has for what is wrong with them.

TF Serving parses with RapidJSON, which takes more than the standard: NaN and Infinity, anything after the end of the
top-level value, nesting without limit, bytes that are not UTF-8 inside strings. orjson is several times faster and
strict; so it goes first, and what it refuses is read again by a reader of our own that takes what RapidJSON takes
and refuses the rest in RapidJSON's words.

Values are what orjson gives: dict, list, str, int (within int64 or uint64), float, bool, None. A string may hold lone
surrogates that stand for bytes which are not UTF-8 (Python's "surrogateescape").
"""

import json
import math
import re
from typing import Any

import orjson

from slipway_wire.status import InvalidArgument

_SPACE = re.compile(rb"[ \t\r\n]*")
_STRING = re.compile(rb'"(?:[^"\\\x00-\x1f]|\\.)*+"', re.DOTALL)
_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*+)(\.[0-9]++)?([eE][-+]?[0-9]++)?")
_HALF_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?([eE][-+]?+(?![0-9])|\.(?![0-9]))")
_WORD = re.compile(rb"true|false|null|-?(?:NaN|Infinity|Inf)")
_WORD_VALUE: dict[bytes, Any] = {
    b"true": True,
    b"false": False,
    b"null": None,
    b"NaN": math.nan,
    b"-NaN": math.nan,
    b"Inf": math.inf,
    b"Infinity": math.inf,
    b"-Inf": -math.inf,
    b"-Infinity": -math.inf,
}
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

# The keys that requests are made of, and their texts.
_OUR_KEYS = {key: b'"%b"' % key.encode() for key in ("signature_name", "instances", "inputs", "examples", "context")}

# Offending values are shown up to about this many characters.
_SHOWN = 256


def parse_object(body: bytes) -> dict[str, Any]:
    """
    Parse a request body whose top level must be an object. Of equal keys that mean something there the first counts.

    Raises:
        InvalidArgument: `JSON Parse error: <reason> at offset: <n>` or `JSON Value: <text> Is not object`.
    """
    if not body:
        raise InvalidArgument("JSON Parse error: The document is empty")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        value = parse_leniently(body)
    else:
        # orjson keeps the last of equal keys. Deeper down we let it; here a second "instances" would be a trap.
        if isinstance(value, dict):
            for key in value:
                if key in _OUR_KEYS and body.count(_OUR_KEYS[key]) > 1:
                    value = parse_leniently(body)
                    break
    if not isinstance(value, dict):
        raise InvalidArgument(f"JSON Value: {describe(value)} Is not object")
    return value


def parse_leniently(body: bytes) -> Any:
    """
    Parse what RapidJSON parses with kParseNanAndInfFlag; of equal keys the first counts.

    Raises:
        InvalidArgument: `JSON Parse error: <reason> at offset: <n>`.

    Source: rapidjson/reader.h, rapidjson/error/en.h.
    """
    at = _skip_space(body, len(_BYTE_ORDER_MARK) if body.startswith(_BYTE_ORDER_MARK) else 0)
    if at == len(body):
        raise _parse_error("The document is empty.", at)
    # Containers that are still open, outermost first, each with the key its next value goes to.
    open_containers: list[tuple[list[Any] | dict[str, Any], str]] = []
    while True:
        at = _skip_space(body, at)
        value: Any
        if body.startswith(b"[", at):
            at = _skip_space(body, at + 1)
            if not body.startswith(b"]", at):
                open_containers.append(([], ""))
                continue
            value, at = [], at + 1
        elif body.startswith(b"{", at):
            at = _skip_space(body, at + 1)
            if not body.startswith(b"}", at):
                key, at = _read_key(body, at)
                open_containers.append(({}, key))
                continue
            value, at = {}, at + 1
        else:
            value, at = _read_scalar(body, at)
        # The value goes into its container; if that closes, it is itself a value for the one around it.
        while open_containers:
            container, key = open_containers.pop()
            at = _skip_space(body, at)
            if isinstance(container, list):
                container.append(value)
                closing, missing = b"]", "Missing a comma or ] after an array element."
            else:
                container.setdefault(key, value)
                closing, missing = b"}", "Missing a comma or } after an object member."
            if body.startswith(b",", at):
                at = _skip_space(body, at + 1)
                if isinstance(container, dict):
                    key, at = _read_key(body, at)
                open_containers.append((container, key))
                break
            if not body.startswith(closing, at):
                raise _parse_error(missing, at)
            value, at = container, at + 1
        else:
            return value


def _skip_space(body: bytes, at: int) -> int:
    match = _SPACE.match(body, at)
    assert match is not None  # it matches the empty text too
    return match.end()


def _read_key(body: bytes, at: int) -> tuple[str, int]:
    if not body.startswith(b'"', at):
        raise _parse_error("Missing a name for object member.", at)
    key, at = _read_string(body, at)
    at = _skip_space(body, at)
    if not body.startswith(b":", at):
        raise _parse_error("Missing a colon after a name of object member.", at)
    return key, at + 1


def _read_scalar(body: bytes, at: int) -> tuple[Any, int]:
    if body.startswith(b'"', at):
        return _read_string(body, at)
    if match := _HALF_NUMBER.match(body, at):
        part = "fraction part" if match[1] == b"." else "exponent"
        raise _parse_error(f"Missing {part} in number.", match.end())
    if match := _NUMBER.match(body, at):
        return _number(match, at), match.end()
    if match := _WORD.match(body, at):
        return _WORD_VALUE[match[0]], match.end()
    raise _parse_error("Invalid value.", at)


def _number(match: re.Match[bytes], at: int) -> int | float:
    text = match[0]
    # -2**63 and 2**64 - 1 have 20 characters. Integers outside that range count as doubles.
    if match[1] is None and match[2] is None and len(text) <= 20:
        integer = int(text)
        if -(2**63) <= integer < 2**64:
            return integer
    number = float(text)
    if math.isinf(number):
        raise _parse_error("Number too big to be stored in double.", at)
    return number


def _read_string(body: bytes, at: int) -> tuple[str, int]:
    match = _STRING.match(body, at)
    if match is None:
        control = re.compile(rb'"(?:[^"\\\x00-\x1f]|\\.)*+([\x01-\x1f])', re.DOTALL).match(body, at)
        if control:
            raise _parse_error("Invalid encoding in string.", control.start(1))
        raise _parse_error("Missing a closing quotation mark in string.", at)
    try:
        text: str = json.loads(match[0].decode(errors="surrogateescape"))
    except json.JSONDecodeError as error:
        reason = "Invalid escape character in string."
        if "uXXXX" in error.msg:
            reason = "Incorrect hex digit after \\u escape in string."
        raise _parse_error(reason, at + error.pos) from None
    if _has_escaped_surrogate(text):
        raise _parse_error("The surrogate pair in string is invalid.", at)
    return text, match.end()


def _has_escaped_surrogate(text: str) -> bool:
    # U+DC80 to U+DCFF are our own marks for bytes that are not UTF-8; the others were written as \uXXXX.
    return not text.isascii() and any(
        "\ud800" <= char <= "\udfff" and not "\udc80" <= char <= "\udcff" for char in text
    )


def _parse_error(reason: str, offset: int) -> InvalidArgument:
    return InvalidArgument(f"JSON Parse error: {reason} at offset: {offset}")


def to_bytes(text: str) -> bytes:
    """Give the bytes a JSON string stands for."""
    return text.encode(errors="surrogateescape")


def type_name(value: Any) -> str:
    """Name the kind of a value as RapidJSON does."""
    match value:
        case None:
            return "Null"
        case bool():
            return "True" if value else "False"
        case dict():
            return "Object"
        case list():
            return "Array"
        case str():
            return "String"
    return "Number"


def describe(value: Any) -> str:
    """Write a value for an error message, cut after some 256 characters."""
    text = ""
    for piece in json.JSONEncoder(indent=4, ensure_ascii=False).iterencode(value):
        text += piece
        if len(text) > _SHOWN:
            text = text[:_SHOWN] + "..."
            break
    return text.encode(errors="replace").decode()


def encode_error(message: str) -> bytes:
    """Write the body of every REST error: `{"error": "<message>"}`."""
    return orjson.dumps({"error": message.encode(errors="replace").decode()})


def decode_error(body: bytes) -> str | None:
    """Read the message of a REST error, or None if *body* is something else."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    message = answer.get("error") if isinstance(answer, dict) else None
    return message if isinstance(message, str) else None
