"""Values as Python source that people can read: as many lines as it takes, short things side by side."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

WIDTH = 100
_STEP = "    "


def literal(value: Any, indent: str = "") -> str:
    """
    Write *value* as Python source that evaluates to it.

    Args:
        value: Of dictionaries with str keys, lists, str, bytes, bool, int, finite float and None.
        indent: Of the line that it begins in; further lines begin there or further right.
    """
    flat = _flat(value)
    # One column is left for the comma behind it.
    if len(indent) + len(flat) < WIDTH or not isinstance(value, dict | list):
        return flat
    deeper = indent + _STEP
    if isinstance(value, dict):
        lines = [f"{json.dumps(key, ensure_ascii=False)}: {literal(member, deeper)}," for key, member in value.items()]
        return "{\n" + "".join(f"{deeper}{line}\n" for line in lines) + indent + "}"
    items = [_flat(item) for item in value]
    if any(len(deeper) + len(item) >= WIDTH for item in items):
        lines = [f"{literal(item, deeper)}," for item in value]
    else:
        lines = list(_packed(items, WIDTH - len(deeper)))
    return "[\n" + "".join(f"{deeper}{line}\n" for line in lines) + indent + "]"


def _flat(value: Any) -> str:
    match value:
        case dict():
            return (
                "{"
                + ", ".join(f"{json.dumps(key, ensure_ascii=False)}: {_flat(member)}" for key, member in value.items())
                + "}"
            )
        case list():
            return "[" + ", ".join(map(_flat, value)) + "]"
        case str():
            return json.dumps(value, ensure_ascii=False)
        case _:
            return repr(value)


def _packed(items: Sequence[str], width: int) -> Iterator[str]:
    """Put as many of *items* into each line as fit, with their commas."""
    line = ""
    for item in items:
        longer = f"{line} {item}," if line else f"{item},"
        if line and len(longer) > width:
            yield line
            longer = f"{item},"
        line = longer
    if line:
        yield line
