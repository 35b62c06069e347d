"""What is to be converted: a path and what its user said -> a source, and a contract where none was given."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from pydantic import TypeAdapter, ValidationError

from slipway import archives
from slipway.contract import Contract, read_contract
from slipway.convert import draft
from slipway.detection.advice import model_name
from slipway.detection.detect import Found, detect, find_all
from slipway.errors import SettingsError, SourceError
from slipway.fetch import fetch
from slipway.settings import cache_directory, fault_lines
from slipway.source_settings import (
    CheckpointSource,
    FrozenGraphSource,
    GraphSource,
    KerasSource,
    SavedModelSource,
    Source,
    Tf1CheckpointSource,
    WeightsSource,
    url_name,
)

Say = Callable[[str], None]
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_KINDS: Mapping[str, type[Any]] = {
    get_args(kind.model_fields["kind"].annotation)[0]: kind
    for kind in (KerasSource, WeightsSource, CheckpointSource, Tf1CheckpointSource, FrozenGraphSource, SavedModelSource)
}
_OPTIONS = {"freeze_inputs": "freeze", "moving_average": "moving-average", "by_name": "by-name"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """
    What the user said.

    Attributes:
        path: The model: files, an archive, or a URL.
        contract: Their contract, if they have one.
        keys: Keys of the source that they gave, such as `builder` and `golden`.
    """

    path: str
    contract: Path | None = None
    keys: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Subject:
    """
    What is converted.

    Attributes:
        words: What it is, for people.
        name: What to call the model.
        source: As the config has it.
        contract: The contract that was drafted, as YAML; None: the user's own holds.
    """

    words: str
    name: str
    source: Source
    contract: str | None


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a model was found: `path` and `inside` as the config has them."""

    found: Found
    path: str
    inside: str | None = None


def find(wanted: Wanted, scratch: Path, say: Say) -> Subject:
    """
    Find out what is at a path, and what its contract can be.

    Args:
        wanted: What the user said.
        scratch: An empty directory for what is fetched, unpacked or looked at; nothing in it is needed afterwards.
        say: Told of a download.

    Raises:
        SourceError: There is no model, it is damaged, or only its user knows what is missing; the line names the option.
        SettingsError: An option is wrong, or none of this kind of source.
    """
    place = _look(wanted, scratch, say)
    found = place.found
    if found.kind is None or found.is_damaged:
        raise SourceError(f"{wanted.path}: this is {found.words}. {found.next_step()}")
    keys = _keys(wanted, place)
    name = model_name(Path(url_name(wanted.path) if _URL.match(wanted.path) else place.path))
    if wanted.contract is not None:
        source = _source(keys | _ends_by_name(found, keys, read_contract(wanted.contract)))
        return Subject(found.words, name, source, None)
    drafted, source = draft.draft(found.path, _source(keys), scratch, say)
    return Subject(found.words, name, source, drafted)


def _look(wanted: Wanted, scratch: Path, say: Say) -> _Place:
    """Tell what is at the path, fetched and unpacked."""
    path = Path(wanted.path)
    is_far = _URL.match(wanted.path) is not None
    if is_far:
        digest = wanted.keys.get("sha256")
        if not isinstance(digest, str):
            raise SettingsError(f"--sha256: needed for what is fetched: the SHA-256 of {wanted.path}")
        path = scratch / "fetched" / url_name(wanted.path)
        path.parent.mkdir(parents=True)
        path.symlink_to(fetch(wanted.path, digest, cache_directory(os.environ), say).absolute())
    found = detect(path)
    if found.kind is not None or not path.is_file() or archives.kind_of_archive(path) is None:
        return _Place(found, wanted.path if is_far else str(found.path))
    unpacked = scratch / "unpacked"
    unpacked.mkdir(parents=True)
    archives.unpack(path, unpacked)
    models = find_all(unpacked)
    names = [str(one.path.relative_to(unpacked)) for one in models]
    inside = wanted.keys.get("inside") or (names[0] if len(names) == 1 else None)
    if inside not in names:
        raise SourceError(
            f"{wanted.path}: expected one model in it, found: {', '.join(names[:8]) or 'none'}. Name one: --inside."
        )
    return _Place(models[names.index(inside)], wanted.path, inside)


def _keys(wanted: Wanted, place: _Place) -> dict[str, Any]:
    """Put together the keys of the source: what was said goes before what was found."""
    found = place.found
    fields = _KINDS[str(found.kind)].model_fields
    if foreign := [key for key in wanted.keys if key not in fields]:
        option = _OPTIONS.get(foreign[0], foreign[0])
        raise SettingsError(f"--{option}: {wanted.path} is {found.words}, for which there is no such option")
    asked = [key for key, value in found.keys.items() if isinstance(value, str) and value.endswith("…")]
    if "builder" in asked and "builder" not in wanted.keys:
        raise SourceError(
            f"{wanted.path}: this is {found.words}. Name the function that builds it: --builder module:function, "
            "found from the working directory."
        )
    # `unsafe` is for the user to say; guesses of inputs and outputs are looked at again where they are needed.
    told = {key: v for key, v in found.keys.items() if key not in {"unsafe", "inputs", "outputs", *asked}}
    at = {"kind": found.kind, "path": place.path} | ({"inside": place.inside} if place.inside else {})
    return at | told | dict(wanted.keys)


def _ends_by_name(found: Found, keys: Mapping[str, Any], contract: Contract) -> dict[str, Any]:
    """Take the tensors of a graph that are called as the contract calls its inputs and outputs, where none were named."""
    chosen: dict[str, Any] = {}
    for side, wanted in (("inputs", contract.default.inputs), ("outputs", contract.default.outputs)):
        guesses = found.keys.get(side)
        if issubclass(_KINDS[str(found.kind)], GraphSource) and side not in keys and isinstance(guesses, dict):
            chosen[side] = {name: tensor for name, tensor in guesses.items() if name in wanted} or {
                name: name for name in wanted
            }
    return chosen


def _source(keys: Mapping[str, Any]) -> Source:
    try:
        source: Source = TypeAdapter(Source).validate_python(dict(keys))
    except ValidationError as error:
        raise SettingsError("\n".join(fault_lines(error, "the source"))) from error
    return source


def config(name: str, version: int, source: Source, contract: str) -> dict[str, Any]:
    """Give what stands in config.yaml to have the line do it all: a model with one version."""
    said = source.model_dump(mode="json", exclude_defaults=True)
    at = {"kind": source.kind, "path": str(getattr(source, "url", None) or getattr(source, "path", ""))}
    told = at | {key: value for key, value in said.items() if key not in {"kind", "path", "url"}}
    return {"models": {name: {"contract": contract, "versions": {version: {"source": told}}}}}


def pairs(option: str, given: Sequence[str]) -> dict[str, str]:
    """
    Read `NAME=VALUE` words.

    Raises:
        SettingsError: One has no `=`, or a name stands there twice.
    """
    found: dict[str, str] = {}
    for word in given:
        name, equals, value = word.partition("=")
        if not name or not equals or not value:
            raise SettingsError(f"--{option}: expected NAME=VALUE, got {word!r}")
        if name in found:
            raise SettingsError(f"--{option}: {name} stands there twice")
        found[name] = value
    return found
