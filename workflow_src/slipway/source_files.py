"""The files of a user's source: found, checked for damage as far as their formats allow, and copied; no TensorFlow here."""

import glob
import re
import shutil
import zipfile
from collections import Counter
from pathlib import Path

from slipway import files
from slipway.detection.detect import detect, misfit, missing_shards, refuse_pointer
from slipway.detection.keras_files import read_keras_file
from slipway.detection.tensor_bundle import read_index
from slipway.errors import SourceError
from slipway.source_settings import (
    BuiltinSource,
    CheckpointSource,
    FileSource,
    FrozenGraphSource,
    KerasSource,
    SavedModelSource,
    Source,
    Tf1CheckpointSource,
    WeightsSource,
    saved_model_files,
)

_ZIP = b"PK\x03\x04"
_SHARD = re.compile(r"\.data-(\d{5})-of-(\d{5})$")


def copy_source(source: Source, directory: Path) -> None:
    """
    Copy the files of *source* into *directory*, under their own names.

    Raises:
        SourceError: If one is missing, is cut off, is not what its kind says, or has another digest than the
            config gives.
    """
    if isinstance(source, BuiltinSource):
        return
    check_kind(source)
    found = _files_of(source)
    for name, expected in source.digests.items():
        if name not in found:
            raise SourceError(f"{source.path}: sha256 names {name}, but the source is made of: {', '.join(found)}.")
        check_digest(found[name], expected)
    with files.readable_disk_faults(directory):
        for name, path in found.items():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            _copy(path, directory / name)


def _copy(path: Path, place: Path) -> None:
    try:
        file = path.open("rb")
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror}). Make it readable, or copy it again.") from error
    with file, place.open("wb") as copy:
        shutil.copyfileobj(file, copy, 1 << 20)


def _files_of(source: FileSource) -> dict[str, Path]:
    """Find the files of *source*: path in a copy -> file."""
    match source:
        case CheckpointSource():
            found = _checkpoint_files(source.path)
        case Tf1CheckpointSource():
            found = [*_tf1_files(source), *map(_asset, source.assets)]
        case FrozenGraphSource():
            found = [source.path, *map(_asset, source.assets)]
        case SavedModelSource():
            return _saved_model_files(source.path)
        case _:
            found = _model_file(source.path)
    if twice := [name for name, count in Counter(path.name for path in found).items() if count > 1]:
        raise SourceError(
            f"{source.path}: two files of the source are called {twice[0]}; they are kept side by side. Rename one."
        )
    return {path.name: path for path in found}


def _asset(path: Path) -> Path:
    if not path.is_file():
        files.refuse_special(path)
        raise SourceError(f"{path}: not there. `assets` names the files that lookup tables are filled from.")
    return path


def _tf1_files(source: Tf1CheckpointSource) -> list[Path]:
    prefix = source.prefix
    if prefix.is_dir():
        raise SourceError(
            f"{prefix}: has no state file `checkpoint` that would name the latest. {_prefix_hint(prefix)}"
        )
    # Before 2017, a checkpoint was one file.
    found = [prefix] if prefix.is_file() and prefix.suffix not in {".index", ".meta"} else _checkpoint_files(prefix)
    if source.builder:
        return found
    meta = prefix.with_name(f"{prefix.name}.meta")
    if not meta.is_file():
        raise SourceError(
            f"{meta}: not there: the checkpoint has weights, but no graph. Copy it, too, or name the function that builds "
            "the graph: `builder: module:function`."
        )
    return [*found, meta]


def _saved_model_files(directory: Path) -> dict[str, Path]:
    found = {path.relative_to(directory).as_posix(): path for path in saved_model_files(directory)}
    for path in found.values():
        refuse_pointer(path)
    if (directory / "variables").is_dir():
        prefix = directory / "variables/variables"
        _checkpoint_files(prefix)
        if faults := missing_shards(prefix, read_index(prefix.with_name("variables.index"))):
            raise SourceError(f"{directory}: variables/{faults[0]}. Copy all files of the SavedModel.")
    return found


def check_digest(path: Path, expected: str) -> None:
    """Raise SourceError unless the file at *path* has the SHA-256 *expected* (64 hex digits)."""
    files.refuse_special(path)
    try:
        digest = files.sha256_file(path).removeprefix("sha256:")
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror}). Correct the source's `path`.") from error
    if digest != expected:
        raise SourceError(
            f"{path}: expected SHA-256 {expected}, found {digest}. Fetch the file again, or correct sha256 in the config."
        )


# What each kind expects, in words; and what else of another kind it reads.
_EXPECTED = {
    "keras": "a whole model written by Keras (.keras or .h5)",
    "weights": "weights written by Keras (.weights.h5 or .h5)",
    "checkpoint": "a checkpoint written by tf.train.Checkpoint",
    "tf1_checkpoint": "a checkpoint of TensorFlow 1",
    "frozen_graph": "a frozen GraphDef (.pb)",
    "saved_model": "a directory with a SavedModel",
}
_READ_TOO = {"weights": {"keras"}}


def check_kind(source: FileSource) -> None:
    """
    Hold what is at the path of *source* against its kind, by what its bytes are; nothing is loaded.

    Raises:
        SourceError: With what it is instead and how to import that; or if it carries code that was not allowed.
    """
    kind: str = source.kind  # type: ignore[attr-defined]  # every kind says its own
    found = detect(source.path)
    if found.kind != kind and found.kind not in _READ_TOO.get(kind, ()):
        raise SourceError(misfit(_EXPECTED[kind], source.path))
    if isinstance(source, KerasSource | WeightsSource) and not source.unsafe and found.kind == "keras":
        carried = read_keras_file(source.path)
        if carried and carried.code:
            raise SourceError(
                f"{source.path}: carries code that loading it would execute: {', '.join(carried.code[:5])}. Build the model in a "
                "function instead (kind: weights with builder), or write unsafe: true if you trust where the file comes from."
            )


def _model_file(path: Path) -> list[Path]:
    """Read all of a .keras file: it is a zip, which keeps a checksum of every member."""
    try:
        with path.open("rb") as file:
            is_zip = file.read(len(_ZIP)) == _ZIP
        if is_zip:
            with zipfile.ZipFile(path) as archive:
                # No member is larger than it should be, as was seen when it was told what it is.
                if damaged := archive.testzip():
                    raise SourceError(f"{path}: {damaged} in it is damaged. Fetch or save the file again.")
    except (zipfile.BadZipFile, OSError, EOFError, ValueError) as error:
        raise SourceError(f"{path}: cut off or damaged ({error}). Fetch or save the file again.") from error
    return [path]


def _checkpoint_files(prefix: Path) -> list[Path]:
    index = prefix.with_name(f"{prefix.name}.index")
    if not index.is_file():
        raise SourceError(f"{index}: not there. {_prefix_hint(prefix)}")
    shards = {
        int(found[1]): (path, int(found[2]))
        for path in sorted(prefix.parent.glob(f"{glob.escape(prefix.name)}.data-*"))
        if (found := _SHARD.search(path.name))
    }
    count = next(iter(shards.values()))[1] if shards else 1
    for number in range(count):
        if number not in shards:
            raise SourceError(f"{prefix}.data-{number:05}-of-{count:05}: not there. Copy all files of the checkpoint.")
    return [index, *(path for path, _ in shards.values())]


def _prefix_hint(prefix: Path) -> str:
    """Say which prefixes there are: people name the directory, or one of the files."""
    if prefix.suffix == ".index" and prefix.is_file():
        return f"Give the prefix without its ending: {prefix.with_suffix('')}."
    directory = prefix if prefix.is_dir() else prefix.parent
    there = sorted(str(path.with_suffix("")) for path in directory.glob("*.index"))
    if there:
        return f"Give the prefix of a checkpoint as `path`; there are: {', '.join(there)}."
    return f"Give the prefix of a checkpoint as `path`; {directory} holds none."
