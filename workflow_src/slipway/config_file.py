"""
Edits of config.yaml that leave everything else in it as it is, to the byte: comments, order, quotes, blank lines.

The YAML library says where a value stands, and the new text is put there; then the whole is parsed again and must be
what was meant. What cannot be edited like that (aliases, merge keys) is refused, not rewritten.
"""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml

from slipway import files, locks
from slipway.errors import SettingsError
from slipway.settings import Settings, parse_settings
from slipway.sheet import with_sheet

Key = str | int
# libyaml, where it is there: a config of a thousand models takes the pure parser a second.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Config:
    """
    A config as it stands in its file.

    Attributes:
        path: The file.
        text: What it holds.
        data: The same, parsed.
        settings: The same, checked, with the models of its sheet.
    """

    path: Path
    text: str
    data: Mapping[str, Any]
    settings: Settings


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Be the only one who edits *path* for the block; waits for others. The lock lies beside it and goes with its holder."""
    real = path.resolve()
    if not real.parent.is_dir():
        raise SettingsError(f"{path}: no config there; looked in {Path.cwd()}. --config names another.")
    with locks.waiting_lock(real.with_name(f".{real.name}.lock"), lambda _: None):
        yield


def read(path: Path) -> Config:
    """
    Read the config at *path*.

    Raises:
        SettingsError: It is not there, is not YAML, or has faults: one line each.
    """
    try:
        text = path.read_bytes().decode()
    except OSError as error:
        raise SettingsError(f"{path}: no config there ({error.strerror}). --config names another.") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}).") from error
    return _parsed(path, text)


def _parsed(path: Path, text: str) -> Config:
    try:
        data = yaml.load(text, _Loader)  # noqa: S506 - a safe loader, in C
    except yaml.YAMLError as error:
        raise SettingsError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise SettingsError(f"{path}: expected a mapping with `models`, found {type(data).__name__}.")
    # A file for --configfile goes without the format, which config/config.yaml says.
    return Config(path, text, data, parse_settings(with_sheet({"format": 1} | data, str(path)), str(path)))


def write(config: Config, text: str) -> Config:
    """
    Put *text* into the config's file, whole or not at all, if it is a valid config.

    Raises:
        SettingsError: It is not; nothing is written then.
        StorageError: It cannot be written.
    """
    new = _parsed(config.path, text)
    real = config.path.resolve()
    files.write_bytes(real, text.encode(), mode=real.stat().st_mode & 0o7777)
    return new


def set_value(config: Config, keys: tuple[Key, ...], value: Any) -> Config:
    """
    Set what stands at *keys*, mappings on the way included, and give the config that results; nothing is written.

    Raises:
        SettingsError: The file is written in a way that cannot be edited in place.
    """
    wanted = _copied(config.data)
    inner = wanted
    for key in keys[:-1]:
        if not isinstance(inner.get(key), dict):
            inner[key] = {}
        inner = inner[key]
    inner[keys[-1]] = value
    return _edited(config, keys, wanted, value)


def append_value(config: Config, key: str, value: Any) -> Config:
    """Append to the list at top level that *key* names, or begin it; else as `set_value`."""
    wanted = _copied(config.data)
    wanted[key] = [*(wanted.get(key) or []), value]
    root = _compose(config.text)
    found = _child(root, key)
    if not isinstance(found, yaml.SequenceNode) or not found.value:
        return _edited(config, (key,), wanted, [value])
    last = _end(found.value[-1], found.value[-1].start_mark.index)
    if found.flow_style:
        text = _spliced(config.text, last, last, f", {_flow(value)}")
    else:
        text = _with_line(config.text, last, found.start_mark.column, f"- {_flow(value)}")
    return _checked(config, text, wanted, (key,))


def _edited(config: Config, keys: tuple[Key, ...], wanted: dict[Any, Any], value: Any) -> Config:
    node = _compose(config.text)
    depth = 0
    while depth < len(keys) - 1 and isinstance(found := _child(node, keys[depth]), yaml.MappingNode):
        node, depth = found, depth + 1
    rest = keys[depth:]
    if not isinstance(node, yaml.MappingNode):
        raise _cannot(config, keys, value)
    # What is not there yet comes as one value around the new one.
    for key in reversed(rest[1:]):
        value = {key: value}
    present = _child(node, rest[0])
    if present is not None:
        start = present.start_mark.index
        end = _end(present, start)
        text = _spliced(config.text, start, end, f"{'' if end > start else ' '}{_flow(value)}")
    elif node.flow_style:
        here = _end(node.value[-1][1], node.value[-1][0].end_mark.index) if node.value else node.end_mark.index - 1
        text = _spliced(config.text, here, here, f"{', ' if node.value else ''}{_flow(rest[0])}: {_flow(value)}")
    else:
        last_key, last = node.value[-1]
        line = f"{_flow(rest[0])}: {_flow(value)}"
        if depth == 0 and isinstance(value, list):
            line = f"{_flow(rest[0])}:" + "".join(f"\n  - {_flow(item)}" for item in value)
        column = node.value[0][0].start_mark.column
        text = _with_line(config.text, _end(last, last_key.end_mark.index), column, line)
    return _checked(config, text, wanted, keys)


def _checked(config: Config, text: str, wanted: Any, keys: tuple[Key, ...]) -> Config:
    try:
        data = yaml.load(text, _Loader)  # noqa: S506 - a safe loader, in C
    except yaml.YAMLError:
        data = None
    if data != wanted:
        value = wanted
        for key in keys:
            value = value[key]
        raise _cannot(config, keys, value)
    return Config(config.path, text, data, config.settings)


def _cannot(config: Config, keys: tuple[Key, ...], value: Any) -> SettingsError:
    where = ".".join(map(str, keys))
    return SettingsError(
        f"{config.path}: {where}: cannot be edited without rewriting the file (aliases or merge keys?). "
        f"Nothing was changed; write it by hand: {_flow(keys[-1])}: {_flow(value)}"
    )


def _compose(text: str) -> yaml.Node:
    # The parser in Python: its marks count characters.
    return cast("yaml.Node", yaml.compose(text, yaml.SafeLoader))


def _child(node: yaml.Node | None, key: Key) -> yaml.Node | None:
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            if isinstance(name, yaml.ScalarNode) and name.value == str(key):
                return value  # type: ignore[no-any-return]  # PyYAML's nodes are untyped inside
    return None


def _end(node: yaml.Node, at_least: int) -> int:
    """Find where the text of *node* ends; block collections have no end of their own. An alias ends with its key's line."""
    if node.start_mark.index < at_least:
        return at_least
    if isinstance(node, yaml.MappingNode) and not node.flow_style and node.value:
        return _end(node.value[-1][1], node.value[-1][0].end_mark.index)
    if isinstance(node, yaml.SequenceNode) and not node.flow_style and node.value:
        return _end(node.value[-1], node.start_mark.index)
    if isinstance(node, yaml.ScalarNode) and node.style in {"|", ">"}:
        # It ends where the next begins; blank lines between belong to neither.
        held = node.end_mark.buffer[: node.end_mark.pointer] if node.end_mark.buffer else ""
        return node.end_mark.index - (len(held) - len(held.rstrip()))
    return int(node.end_mark.index)


def _spliced(text: str, start: int, end: int, new: str) -> str:
    return text[:start] + new + text[end:]


def _with_line(text: str, after: int, column: int, line: str) -> str:
    """Put *line* below the line in which *after* lies."""
    newline = "\r\n" if "\r\n" in text else "\n"
    end = text.find("\n", after)
    head, tail = (text, "") if end < 0 else (text[: end + 1], text[end + 1 :])
    if not head.endswith("\n"):
        head += newline
    return f"{head}{' ' * column}{line.replace(chr(10), newline)}{newline}{tail}"


def _flow(value: Any) -> str:
    """Write *value* on one line."""
    text: str = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), allow_unicode=True, sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...")


def _copied(value: Any) -> Any:
    """Copy *value* with nothing shared in it: what an alias repeats is edited in one place only."""
    if isinstance(value, dict):
        return {key: _copied(inner) for key, inner in value.items()}
    return [_copied(inner) for inner in value] if isinstance(value, list) else value
