"""
Turn any model into a small, correctly signed SavedModel that is proven equal to its source; same source, same bytes.

What PATH holds is detected: a checkpoint of TensorFlow 1 or 2, a file of Keras, a frozen graph, a SavedModel, an archive
with one of them, or a URL. Without a contract one is written from the file. The stages checkpoint, export and validate of
the line do the work, each in a process of its own.
"""

import resource
import shutil
import sys
from argparse import SUPPRESS, ArgumentParser, Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, TypeAdapter, ValidationError
from rich.console import Console

from slipway import files, overview, procs
from slipway.contract import read_contract
from slipway.convert import stages, subject
from slipway.convert.stages import Folder
from slipway.convert.subject import Subject, Wanted
from slipway.errors import SettingsError
from slipway.progress import Steps, steps
from slipway.records import CheckpointRecord, Digest, ExportRecord, Parity, Record, TreeManifest, ValidationRecord
from slipway.serving_settings import VersionNumber
from slipway.settings import Name

CONTRACT_FILE = "contract.yaml"
RECORD_FILE = "conversion.json"
GOLDEN_FILE = "golden.npz"
_WORK = ".work"
_TOLD = {
    "checkpoint": "asking the source's own framework",
    "export": "writing the SavedModel",
    "validate": "holding it against the contract and the source's answers",
}
# Of a small model; most of it is the start of TensorFlow.
_STAGE_S = 6.0


class ConversionRecord(Record):
    """What was converted into what: conversion.json beside the SavedModel."""

    model: str
    version: int
    words: str = Field(description="What was found, e.g. a TF1 checkpoint without .meta.")
    source: dict[str, Any] = Field(description="`source` of the version, as the config has it.")
    source_digest: Digest = Field(description="Content of the source's files.")
    contract_digest: Digest
    golden_rows: int
    golden_digest: Digest
    signatures: list[str]
    tree: TreeManifest = Field(description="The SavedModel.")
    bytes: int = Field(description="Of the SavedModel.")
    parity: list[Parity] = Field(description="Its answers against the source's own, for each output of each signature.")
    checks: int = Field(description="Checks that it passed.")
    accuracy: float | None = Field(description="0..1 on golden rows with labels; null without labels.")
    parameters: int | None
    seconds: dict[str, float] = Field(description="Stage -> seconds, the start of TensorFlow included.")
    tools: dict[str, str] = Field(description="Package -> version that made it.")


def add_arguments(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("path", metavar="PATH", help="the model: file, directory, checkpoint prefix, archive or URL")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="gets the SavedModel and more; it must not be there yet"
    )
    parser.add_argument(
        "--contract", type=Path, metavar="FILE", help="what the model promises; without it one is drafted"
    )
    parser.add_argument("--name", help="name of the model; without it that of the path")
    parser.add_argument("--model-version", type=int, default=1, metavar="N", help="number of the version; default: 1")
    group = parser.add_argument_group("what only you know; see docs/sources.md")

    def key(option: str, **more: Any) -> None:
        # What was not said is no key of the source.
        group.add_argument(f"--{option}", default=SUPPRESS, **more)

    key("builder", metavar="MODULE:FUNCTION", help="builds the model or graph of a checkpoint or of weights")
    key(
        "golden", metavar="FILE", help="rows to compare with (.npz, an array for each input); without it they are drawn"
    )
    key("inputs", nargs="+", metavar="NAME=TENSOR", help="of a graph or a signature; without it: what the outputs need")
    key("outputs", nargs="+", metavar="NAME=TENSOR", help="of a graph or a signature; without it: what it ends in")
    key("freeze", nargs="+", metavar="NAME=VALUE", dest="freeze_inputs", help="value of what only training feeds")
    key("signature", help="the signature of a SavedModel that is the model")
    key("root", help="name of the model in a tf.train.Checkpoint")
    key("moving-average", action="store_true", help="take the moving averages of a TF1 checkpoint's weights")
    key("by-name", action="store_true", help="match the layers of weights by name")
    key("loader", choices=["auto", "keras", "keras2"], help="which Keras reads the file")
    key("unsafe", action="store_true", help="run code that a file of Keras carries")
    key("assets", nargs="+", metavar="FILE", help="files that lookup tables of a graph are filled from")
    key("inside", metavar="PATH", help="the model in an archive that holds several")
    key("sha256", metavar="HEX", help="what a file that is fetched must have")


def run(arguments: Namespace) -> None:
    """Convert, print what came out and how to put it on the line; or leave nothing."""
    procs.exit_on_signals()
    out: Path = arguments.out
    if out.exists():
        raise SettingsError(f"{out}: is there already, and nothing is written over. Name another --out, or remove it.")
    for option, kind, value in (
        ("name", Name, arguments.name),
        ("model-version", VersionNumber, arguments.model_version),
    ):
        _check(option, kind, value)
    wanted = Wanted(arguments.path, arguments.contract, _keys(arguments))
    with files.new_directory(out) as directory, steps(1 + len(_TOLD), _STAGE_S * (1 + len(_TOLD))) as told:
        told.begin("looking at what it is")
        found = subject.find(wanted, directory / _WORK / "seen", told.note)
        told.note(f"{arguments.path}: {found.words}")
        shutil.rmtree(directory / _WORK, ignore_errors=True)
        told.end(_STAGE_S)
        try:
            record, made = _convert(found, arguments, directory, told)
        except Exception as error:
            _in_users_words(error, {str(directory): str(out), "`freeze_inputs`": "--freeze"})
            raise
    _print(record, made, found, arguments)


def _check(option: str, kind: Any, value: Any) -> None:
    try:
        TypeAdapter(kind | None).validate_python(value)
    except ValidationError as error:
        raise SettingsError(f"--{option}: {error.errors()[0]['msg']}, got {value}") from error


def _keys(arguments: Namespace) -> dict[str, Any]:
    known = ("builder", "golden", "signature", "root", "moving_average", "by_name", "loader", "unsafe", "assets", "inside", "sha256")  # fmt: skip
    keys = {name: getattr(arguments, name) for name in known if hasattr(arguments, name)}
    for side in ("inputs", "outputs"):
        if hasattr(arguments, side):
            keys[side] = subject.pairs(side, getattr(arguments, side))
    if hasattr(arguments, "freeze_inputs"):
        values = subject.pairs("freeze", arguments.freeze_inputs)
        keys["freeze_inputs"] = {name: yaml.safe_load(value) for name, value in values.items()}
    return keys


def _convert(
    found: Subject, arguments: Namespace, directory: Path, told: Steps
) -> tuple[ConversionRecord, overview.Made]:
    model, version = arguments.name or found.name, arguments.model_version
    contract = directory / CONTRACT_FILE
    if found.contract is None:
        _copy_contract(arguments.contract, contract)
    else:
        files.write_text(contract, found.contract)
    folder, export = Folder(directory / _WORK, model, version), directory / str(version)
    source = found.source.model_dump_json()
    seconds, cpu_s = {}, {}
    for stage, argv in stages.commands(folder, source, contract, export).items():
        told.begin(_TOLD[stage])
        before = _children_cpu_s()
        seconds[stage] = stages.run(stage, argv)
        cpu_s[stage] = _children_cpu_s() - before
        told.end(_STAGE_S)
    made = replace(next(overview.gather(folder.root)), export_s=seconds["export"], export_cpu_s=cpu_s["export"])
    record = _record(found, folder, contract, seconds)
    record.write(directory / RECORD_FILE)
    folder.golden.rename(directory / GOLDEN_FILE)
    shutil.rmtree(folder.root)
    return record, made


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _copy_contract(own: Path, place: Path) -> None:
    """Copy the user's contract with the lists of words that it names, to the same places beside it."""
    for path in read_contract(own).word_files():
        try:
            beside = path.relative_to(own.parent)
        except ValueError:
            raise SettingsError(f"{own}: names {path}, which is not in its directory; move it there") from None
        target = place.parent / beside
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    shutil.copyfile(own, place)


def _record(found: Subject, folder: Folder, contract: Path, seconds: dict[str, float]) -> ConversionRecord:
    checkpoint = CheckpointRecord.read(folder.checkpoint_record)
    export = ExportRecord.read(folder.export_record)
    validation = ValidationRecord.read(folder.validation_record)
    said = subject.config(folder.model, folder.version, found.source, "")["models"][folder.model]
    return ConversionRecord(
        model=folder.model,
        version=folder.version,
        words=found.words,
        source=said["versions"][folder.version]["source"],
        source_digest=checkpoint.tree.digest,
        contract_digest=files.sha256_file(contract),
        golden_rows=checkpoint.golden_rows,
        golden_digest=checkpoint.golden_digest,
        signatures=export.signatures,
        tree=export.tree,
        bytes=sum(entry.bytes for entry in export.tree.files.values()),
        parity=validation.parity,
        checks=len(validation.checks),
        accuracy=validation.accuracy,
        parameters=checkpoint.parameters,
        seconds={stage: round(taken, 3) for stage, taken in seconds.items()},
        tools=export.tools,
    )


def _in_users_words(error: Exception, names: dict[str, str]) -> None:
    """Say *error* in the places that the user knows: where things are made is gone when it is read."""
    for ours, theirs in names.items():
        error.args = tuple(word.replace(ours, theirs) if isinstance(word, str) else word for word in error.args)


def _print(record: ConversionRecord, made: overview.Made, found: Subject, arguments: Namespace) -> None:
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(overview.table([made]))
    out: Path = arguments.out
    passed = f"{record.checks} checks passed; {RECORD_FILE} has all numbers, {CONTRACT_FILE} what was promised."
    lines = yaml.safe_dump(
        subject.config(record.model, record.version, found.source, str(out / CONTRACT_FILE)),
        sort_keys=False,
        allow_unicode=True,
        width=10**6,
    )
    sys.stdout.write(
        f"\n{out} is a base path: {out / str(record.version)} is the SavedModel. {passed}\n"
        f"To put it on the line, in config.yaml:\n\n{lines}"
    )
