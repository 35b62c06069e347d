"""Assemble SavedModel and warm-up records into what a server loads: a TensorFlow Serving version directory as it stands."""

import argparse
import shutil
from collections.abc import Mapping
from pathlib import Path

from slipway import files
from slipway.errors import SettingsError, SourceError
from slipway.records import (
    CheckpointRecord,
    ExportRecord,
    ServableRecord,
    StableHloRecord,
    TreeManifest,
    WarmupRecord,
)
from slipway_wire import manifest, stablehlo
from slipway_wire.manifest import MANIFEST_FILE
from slipway_wire.warmup_log import WARMUP_FILE

FILE_MODE = 0o644
DIRECTORY_MODE = 0o755


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the stage reads and writes."""
    parser.add_argument("--model", required=True, help="name of the model")
    parser.add_argument("--version", type=int, required=True, help="number of the version")
    parser.add_argument("--export", type=Path, required=True, metavar="DIR", help="the SavedModel")
    parser.add_argument("--export-record", type=Path, required=True, metavar="FILE", help="its record (JSON)")
    parser.add_argument("--stablehlo", type=Path, metavar="DIR", help="the same as StableHLO, if it is served so")
    parser.add_argument("--stablehlo-record", type=Path, metavar="FILE", help="its record (JSON)")
    parser.add_argument("--warmup", type=Path, required=True, metavar="FILE", help="the warm-up records (TFRecord)")
    parser.add_argument("--warmup-record", type=Path, required=True, metavar="FILE", help="their record (JSON)")
    parser.add_argument("--checkpoint-record", type=Path, required=True, metavar="FILE", help="the checkpoint's record")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="gets the servable")
    parser.add_argument("--record", type=Path, required=True, metavar="FILE", help="gets its digest and files (JSON)")


def run(arguments: argparse.Namespace) -> None:
    """Verify the parts, put them together, and write down what came of it."""
    checkpoint = CheckpointRecord.read(arguments.checkpoint_record)
    export = ExportRecord.read(arguments.export_record)
    warmup = WarmupRecord.read(arguments.warmup_record)
    export.tree.verify(arguments.export)
    verify_warmup(arguments.warmup, warmup)
    lowered = _lowered(arguments.stablehlo, arguments.stablehlo_record)
    with files.new_directory(arguments.out) as directory:
        assemble(arguments.export, arguments.warmup, directory, arguments.stablehlo)
        tree = TreeManifest.of(directory)
    ServableRecord(
        model=arguments.model,
        version=arguments.version,
        tree=tree,
        checkpoint_digest=checkpoint.tree.digest,
        export_digest=export.tree.digest,
        stablehlo_digest=lowered.tree.digest if lowered else None,
        warmup_digest=warmup.digest,
    ).write(arguments.record)


def _lowered(directory: Path | None, record: Path | None) -> StableHloRecord | None:
    if directory is None or record is None:
        if directory or record:
            raise SettingsError("--stablehlo and --stablehlo-record go together")
        return None
    found = StableHloRecord.read(record)
    found.tree.verify(directory)
    return found


def verify_warmup(path: Path, record: WarmupRecord) -> None:
    """Raise SourceError unless the file at *path* is the one that *record* tells of."""
    if not path.is_file():
        raise SourceError(f"{path}: not there. Run `slipway warmup`, or `snakemake --cores all`.")
    if (found := files.sha256_file(path)) != record.digest:
        msg = f"{path}: changed after it was written: expected {record.digest}, found {found}. Delete it and run again."
        raise SourceError(msg)


def assemble(export: Path, warmup: Path, directory: Path, lowered: Path | None = None) -> None:
    """
    Copy the SavedModel *export* and the records *warmup* into the empty *directory*, with a manifest of both.

    Its StableHLO *lowered*, if any, goes beside the SavedModel, which any other server still finds.

    Modes are set, so that any user may read the servable and the image's layer does not depend on a umask.
    """
    more = (
        {f"{stablehlo.DIRECTORY}/{name}": path for name, path in files.tree_files(lowered).items()} if lowered else {}
    )
    copy_files(files.tree_files(export) | more | {WARMUP_FILE: warmup}, directory)


def copy_files(content: Mapping[str, Path], directory: Path) -> None:
    """Copy *content* (relative path -> file) into the empty *directory*, with a manifest, readable by any user."""
    for name, path in content.items():
        _copy(path, directory / name)
    write_manifest(directory)
    for path in [directory, *directory.rglob("*")]:
        path.chmod(DIRECTORY_MODE if path.is_dir() else FILE_MODE)


def write_manifest(directory: Path) -> None:
    """Write the digests of all files in *directory* beside them, for the server to compare before it loads the version."""
    digests = {
        name: files.sha256_file(path).removeprefix("sha256:") for name, path in files.tree_files(directory).items()
    }
    (directory / MANIFEST_FILE).parent.mkdir(exist_ok=True)
    (directory / MANIFEST_FILE).write_bytes(manifest.encode(digests))


def _copy(path: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, to)
