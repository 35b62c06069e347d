"""
Files that Keras wrote (`.keras`, `.h5`), told by what they hold; nothing in them is executed or rebuilt.

A `.keras` file is a zip with `config.json`; an HDF5 file keeps the same JSON as an attribute. Both may carry Python code
(Lambda layers), name classes to be imported, or point at other files of the disk: found here, before anything loads them.
"""

import itertools
import json
import math
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal

from slipway import archives, isolation
from slipway.errors import SourceError

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
ZIP_MAGIC = b"PK\x03\x04"
CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"

_MOST_CONFIG_BYTES = 256 << 20
# What a chunked dataset may unpack to, by what is stored of it: zeros pack about 1000 times.
_MOST_UNPACKED = 1100
_UNPACKED_FLOOR_BYTES = 16 << 20
# Packages whose layers come with the framework; anything else is imported, which runs it.
# Layers whose config is a path, or a pickle.
_LOADERS = frozenset({"TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"})
_FRAMEWORKS = ("keras", "keras_hub", "keras_cv", "keras_nlp", "tf_keras", "tensorflow", "builtins")
# TensorFlow's functions that a Keras 2 file may call by name (TFOpLambda) and that reach out of the graph.
_OUTWARD = re.compile(
    r"^(io|raw_ops|train|data|saved_model|summary|profiler|distribute|compat|sysconfig|test|autograph|config|estimator)\."
    r"|(^|\.)(py_function|numpy_function|py_func|load_op_library|load_library|(read|write|matching)_?files?|print)$",
    re.IGNORECASE,
)

_LIBRARY = "the library of HDF5"
_MOST_S = 60  # for what is read in milliseconds
_MOST_CODE = 20
# HDF5 keeps attributes in headers of up to 64 kB, and what is longer apart; Keras cuts its own at 64 kB.
_MOST_ATTRIBUTE_BYTES = 16 << 20

Layout = Literal["whole model", "weights", "weights by layer"]


@dataclass(frozen=True, slots=True)
class KerasFile:
    """
    What a file of Keras says of itself.

    Attributes:
        container: `keras` (a zip) or `h5`.
        layout: A whole model; weights as Keras 3 keeps them (`.weights.h5`); or by the names of layers, as Keras 2 did.
        version: Version of the Keras that wrote it; None where the file does not say (`.weights.h5`).
        code: What of it would run Python code when it is loaded, such as `Lambda layer double`.
    """

    container: Literal["keras", "h5"]
    layout: Layout
    version: str | None
    code: tuple[str, ...]

    @property
    def is_keras2(self) -> bool:
        """Whether Keras 2 (or tf_keras) wrote it."""
        return self.version is not None and not re.match(r"[3-9]|\d\d", self.version)

    @property
    def generation(self) -> str:
        """Say who wrote it, as people say it: `Keras 2 (2.15.0)`."""
        if self.version is None:
            return "Keras"
        return f"Keras {'2' if self.is_keras2 else self.version.split('.')[0]} ({self.version})"


def read_keras_file(path: Path) -> KerasFile | None:
    """
    Read what the file at *path* says of itself; None if it is neither zip nor HDF5, or holds no model.

    Raises:
        SourceError: If it is one of Keras's and is cut off, damaged, or points at other files.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(8)
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror}). Correct the source's `path`.") from error
    if magic.startswith(ZIP_MAGIC):
        return _read_zip(path)
    return _read_h5(path) if magic == HDF5_MAGIC else None


def _read_zip(path: Path) -> KerasFile | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            _refuse_members(path, archive)
            if not {CONFIG, WEIGHTS} & set(names):
                return None
            if CONFIG not in names:
                raise SourceError(f"{path}: a .keras file without its {CONFIG}. Save it again.")
            config = _json(path, _member(path, archive, CONFIG))
            metadata = _json(path, _member(path, archive, METADATA)) if METADATA in names else {}
            if WEIGHTS in names:
                isolation.ask(lambda: _inspect_member(path), str(path), _LIBRARY, _MOST_S)
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        raise SourceError(f"{path}: cut off or damaged ({error}). Fetch or save the file again.") from error
    version = metadata.get("keras_version") if isinstance(metadata, dict) else None
    return KerasFile("keras", "whole model", str(version) if version else None, tuple(_code(config)))


def _refuse_members(path: Path, archive: zipfile.ZipFile) -> None:
    """Refuse what would leave the place it is unpacked to, or grow far beyond the file: Keras stores weights as they are."""
    limits = archives.DEFAULT_LIMITS
    left, names = limits.most_bytes(path.stat().st_size), set()
    if len(archive.infolist()) > limits.count:
        raise SourceError(f"{path}: holds more than {limits.count} files, which Keras does not write: refused.")
    for member in archive.infolist():
        parts = PurePosixPath(member.filename)
        if parts.is_absolute() or ".." in parts.parts or "\\" in member.filename or not member.filename.isprintable():
            raise SourceError(f"{path}: {member.filename[:200]!r} in it leads elsewhere: refused.")
        if member.filename in names:
            raise SourceError(f"{path}: {member.filename} is in it twice: refused.")
        names.add(member.filename)
        left -= member.file_size
    if left < 0:
        raise SourceError(f"{path}: unpacks to far more than its {path.stat().st_size} bytes: refused.")


def _member(path: Path, archive: zipfile.ZipFile, name: str) -> bytes:
    if archive.getinfo(name).file_size > _MOST_CONFIG_BYTES:
        raise SourceError(f"{path}: {name} in it has {archive.getinfo(name).file_size} bytes: not written by Keras.")
    return archive.read(name)


def _json(path: Path, text: bytes | str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{path}: the model's config is no JSON ({error}): damaged. Save it again.") from error


def _inspect_member(path: Path) -> None:
    with zipfile.ZipFile(path) as archive, archive.open(WEIGHTS) as file:
        _inspect_h5(path, file)


def _read_h5(path: Path) -> KerasFile | None:
    """Read it where its library may crash, or run round in damaged links, without harm."""
    told = isolation.ask(lambda: _told_by_h5(path), str(path), _LIBRARY, _MOST_S)
    return KerasFile("h5", told["layout"], told["version"], tuple(told["code"])) if told else None


def _told_by_h5(path: Path) -> dict[str, Any] | None:
    with path.open("rb") as file:
        attributes, names = _inspect_h5(path, file)
    version = _text(attributes.get("keras_version"))
    config = _text(attributes.get("model_config"))
    if config is not None:
        code = list(itertools.islice(_code(_json(path, config)), _MOST_CODE))
        return {"layout": "whole model", "version": version, "code": code}
    if "layer_names" in attributes or _is_numbered(attributes, "layer_names"):
        return {"layout": "weights by layer", "version": version, "code": []}
    if {"layers", "_layer_checkpoint_dependencies", "vars"} & names:
        return {"layout": "weights", "version": version, "code": []}
    return None


def _is_numbered(attributes: Mapping[str, Any], name: str) -> bool:
    """Whether Keras cut attribute *name* into parts, as it does above 64 kB."""
    return f"{name}0" in attributes


def _inspect_h5(path: Path, file: IO[bytes]) -> tuple[dict[str, Any], set[str]]:
    """Read the root's attributes and names, and refuse what reaches out of the file or unpacks to far more than it is."""
    import h5py  # noqa: PLC0415 - a tenth of a second, for these files only

    try:
        with h5py.File(file, "r") as opened:
            _refuse_tricks(path, opened)
            return dict(opened.attrs), set(opened)
    except SourceError:
        raise
    except Exception as error:  # the library raises what it likes for damaged bytes
        told = " ".join(str(error).split())
        raise SourceError(f"{path}: cut off or damaged ({told}). Fetch or save the file again.") from error


def _refuse_tricks(path: Path, opened: Any) -> None:
    import h5py  # noqa: PLC0415

    seen, groups = set(), [opened]
    while groups:
        group = groups.pop()
        if group.id.__hash__() in seen:  # hard links may make circles
            continue
        seen.add(group.id.__hash__())
        _refuse_attributes(path, group)
        for name in group:
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise SourceError(f"{path}: {group.name}/{name} is a link, which Keras does not write: refused.")
            child = group[name]
            if isinstance(child, h5py.Group):
                groups.append(child)
            elif isinstance(child, h5py.Dataset):
                if child.external or child.is_virtual:
                    raise SourceError(
                        f"{path}: {child.name} lies in another file, which Keras does not write: refused."
                    )
                stored = child.id.get_storage_size()
                if child.nbytes > _UNPACKED_FLOOR_BYTES and child.nbytes > stored * _MOST_UNPACKED:
                    raise SourceError(
                        f"{path}: {child.name} is said to have {child.nbytes} bytes, of which {stored} are there: refused."
                    )


def _refuse_attributes(path: Path, owner: Any) -> None:
    """Refuse attributes of which a few bytes say that they are huge: the library makes room for them, and fills it."""
    for name in owner.attrs:
        attribute = owner.attrs.get_id(name)
        size = math.prod(attribute.shape or ()) * attribute.dtype.itemsize
        if size > _MOST_ATTRIBUTE_BYTES:
            raise SourceError(f"{path}: attribute {name} of {owner.name} is said to have {size} bytes: refused.")


def _text(value: Any) -> str | None:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return str(value) if value is not None else None


def _code(config: Any) -> Iterator[str]:
    """Name everything in a model's *config* that would run Python code: each once, in the order in which it stands."""
    told = set()
    pending = [config]
    while pending:
        value = pending.pop()
        if isinstance(value, list):
            pending += reversed(value)
        elif isinstance(value, dict):
            pending += reversed(list(value.values()))
            for line in _code_of(value):
                if line not in told:
                    told.add(line)
                    yield line


def _code_of(value: dict[str, Any]) -> Iterator[str]:
    kind, inner = value.get("class_name"), value.get("config")
    name = inner.get("name", "") if isinstance(inner, dict) else ""
    if kind in {"Lambda", "__lambda__"}:
        yield f"Lambda layer {name}".rstrip()
    elif kind in _LOADERS:
        yield f"layer {name} ({kind}), which loads another model"
    elif isinstance(inner, dict) and isinstance(inner.get("vocabulary"), str):
        yield f"layer {name}, which reads the file {inner['vocabulary']!r}"
    elif kind in {"TFOpLambda", "SlicingOpLambda"} and isinstance(inner, dict):
        function = str(inner.get("function", ""))
        if _OUTWARD.search(function.removeprefix("tf.")):
            yield f"layer {name} calls tf.{function}"
    module = value.get("module")
    if isinstance(module, str) and isinstance(kind, str) and module.split(".")[0] not in _FRAMEWORKS:
        yield f"class {module}.{kind}"
