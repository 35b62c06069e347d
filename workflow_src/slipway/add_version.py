"""
Add a version: `slipway add-version MODEL --source …` claims the next number in the config; `--servable` publishes a SavedModel.

The number is one more than the highest that the config, or a directory given by --repository, knows. Whoever adds the
same content again gets the number that it has; any number of processes may add at once. The number goes to stdout.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from slipway import config_file, repository
from slipway.config_file import Config
from slipway.errors import SettingsError, SourceError
from slipway.settings import ModelSettings, fault_lines
from slipway.source_digest import content_digest
from slipway.source_settings import BuiltinSource, Source

CONFIG = Path("config/config.yaml")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what is added, and where."""
    parser.add_argument("model", nargs="?", help="name of the model in the config")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--source",
        metavar="YAML|FILE",
        help="what the version is made from: `source` of the config as YAML or JSON, a .yaml or .json file with it, or "
        "the path of a model's file",
    )
    what.add_argument("--servable", type=Path, metavar="DIR", help="SavedModel to publish into --repository")
    parser.add_argument("--config", type=Path, default=CONFIG, metavar="FILE", help="the config (default: %(default)s)")
    parser.add_argument("--contract", type=Path, metavar="FILE", help="contract of a model that is new to the config")
    parser.add_argument(
        "--repository",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="base path of a server: its numbers are taken, too; may be given several times",
    )


def run(arguments: argparse.Namespace) -> None:
    """Add the version and print its number."""
    if arguments.servable:
        if len(arguments.repository) != 1 or arguments.model or arguments.contract:
            raise SettingsError(
                "--servable: is published into one directory, and no config: give one --repository DIR."
            )
        number, is_new = repository.publish(arguments.servable, arguments.repository[0])
        place = arguments.repository[0] / str(number)
        _say(number, f"{place}: published" if is_new else f"{place}: has this content already; nothing to do")
        return
    if not arguments.model:
        raise SettingsError("MODEL: the name of a model in the config is needed with --source.")
    source = read_source(arguments.source)
    with config_file.locked(arguments.config):
        config = config_file.read(arguments.config)
        taken = {version for directory in arguments.repository for version in repository.versions(directory)}
        number, new = claim(config, arguments.model, source, contract=arguments.contract, taken=taken)
        if new is None:
            _say(
                number,
                f"{arguments.config}: version {number} of {arguments.model} has this content already; nothing to do",
            )
            return
        written = config_file.write(config, new.text)
    _say(number, f"{arguments.config}: version {number} added to {arguments.model}")
    if number not in written.settings.served(arguments.model):
        sys.stderr.write(
            f"It is not served: models.{arguments.model}.serving says which versions are. "
            f"To serve it: slipway rollback {arguments.model} --to {number} --reason …\n"
        )


def _say(number: int, what: str) -> None:
    sys.stderr.write(f"{what}\n")
    sys.stdout.write(f"{number}\n")


def claim(
    config: Config, model: str, source: dict[str, Any], *, contract: Path | None, taken: set[int]
) -> tuple[int, Config | None]:
    """
    Find the number for *source* among the versions of *model*, and the config with it.

    Args:
        config: As it is.
        model: Name in the config; with *contract* it may be new.
        source: `source` of the version, as in the config.
        contract: The contract of a new model.
        taken: Numbers that the config does not know of.

    Returns:
        The version, and the config that has it, or None if it had that content already.

    Raises:
        SettingsError: The source is none, the model is unknown, or the config cannot be edited.
        SourceError: A file is missing, or a file of an older version has changed.
    """
    made = parse_source(source)
    digest = content_digest(made)
    known = config.settings.models.get(model)
    if known is None and contract is None:
        there = ", ".join(sorted(config.settings.models))
        raise SettingsError(f"{config.path}: no model {model}; there are: {there}. A new one needs --contract FILE.")
    if known and contract and known.contract != contract:
        raise SettingsError(f"--contract: {model} has the contract {known.contract}, got {contract}.")
    if known:
        if (same := _version_with(digest, known)) is not None:
            return same, None
        _check_older(model, known, made)
    log = [number for entry in config.settings.rollbacks if entry.model == model for number in (entry.source, entry.to)]
    number = repository.next_number({*(known.versions if known else ()), *log, *taken})
    entry = {"source": source, "digest": digest}
    if model in (config.data.get("models") or {}):
        new = config_file.set_value(config, ("models", model, "versions", number), entry)
    else:
        shared = known.contract if known else contract
        new = config_file.set_value(config, ("models", model), {"contract": str(shared), "versions": {number: entry}})
    if known is None and contract is not None and not contract.is_file():
        raise SettingsError(f"--contract: no file {contract}; looked in {Path.cwd()}")
    return number, new


def parse_source(given: dict[str, Any]) -> Source:
    """Check *given* as `source` of a version, or raise SettingsError with a line per fault."""
    try:
        source: Source = TypeAdapter(Source).validate_python(given)
    except ValidationError as error:
        raise SettingsError("\n".join(fault_lines(error, "--source"))) from error
    return source


def _version_with(digest: str, model: ModelSettings) -> int | None:
    for version, made in sorted(model.versions.items()):
        try:
            if (made.digest or content_digest(made.source)) == digest:
                return version
        except SourceError:
            continue  # its files are gone: nobody can tell any more
    return None


def _check_older(model: str, known: ModelSettings, new: Source) -> None:
    """Refuse what would change an older version: its files under the same names, with another content."""
    shared = set(new.files())
    for version, made in sorted(known.versions.items()):
        if isinstance(made.source, BuiltinSource) or made.digest is None:
            continue
        if (common := sorted(shared & set(made.source.files()))) and _has_changed(made.source, made.digest):
            raise SourceError(
                f"{common[0]}: version {version} of {model} is made from it, too, and its content has changed since. "
                "Versions do not change: keep the files of each under names of their own."
            )


def _has_changed(source: Source, digest: str) -> bool:
    try:
        return content_digest(source) != digest
    except SourceError:
        return True


def read_source(text: str) -> dict[str, Any]:
    """
    Read what stands after --source.

    Raises:
        SettingsError: It is neither a mapping, nor a file with one, nor a model's file of a kind that needs no more.
    """
    path = Path(text)
    if text.lstrip()[:1] == "{" or "\n" in text or (": " in text and not path.exists()):
        return _mapping(text, "--source")
    if path.suffix in {".yaml", ".yml", ".json"} and path.is_file():
        return _mapping(path.read_text(encoding="utf-8"), str(path))
    if path.suffix in {".keras", ".h5"} and not path.name.endswith(".weights.h5"):
        return {"kind": "keras", "path": text}
    if (path / "saved_model.pb").is_file():
        return {"kind": "saved_model", "path": text}
    if path.with_name(f"{path.name}.meta").is_file():
        return {"kind": "tf1_checkpoint", "path": text}
    there = "is there, but its path alone" if path.exists() else "is not there, and its path"
    raise SettingsError(
        f"--source: {text} {there} does not say what it is; "
        "give `source` as in the config, such as '{kind: weights, path: …, builder: module:function}'."
    )


def _mapping(text: str, name: str) -> dict[str, Any]:
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingsError(f"{name}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(found, dict):
        raise SettingsError(f"{name}: expected a mapping such as {{kind: keras, path: …}}, found {found!r}")
    return found
