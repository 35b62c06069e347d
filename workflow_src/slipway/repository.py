"""
A TensorFlow Serving base path as a repository of versions: which there are, and how one is added.

A directory counts when its whole name is a number, as for a server; everything else is left alone. A version appears
by one rename, whole and flushed to the disk, with a manifest that our server verifies.
"""

import errno
import os
import shutil
from pathlib import Path

from slipway import files, locks, servable
from slipway.errors import SourceError, StorageError
from slipway_wire import manifest, paths
from slipway_wire.manifest import MANIFEST_FILE

LOCK = ".slipway.lock"
# What a server can load from a version directory.
_MODELS = ("saved_model.pb", "saved_model.pbtxt", "model.tflite")
_LAST = 2**63 - 1


def versions(base_path: Path) -> dict[int, Path]:
    """Find the versions below *base_path*, lowest first; none if there is no such directory."""
    if not base_path.is_dir():
        return {}
    names = sorted(path.name for path in base_path.iterdir())
    found = {version: base_path / name for name in names if (version := paths.directory_version(name)) is not None}
    return dict(sorted(found.items()))


def next_number(taken: set[int]) -> int:
    """
    Give the number after the highest of *taken*; 1 if there is none.

    Raises:
        SourceError: There is no higher one.
    """
    number = max([*taken, 0]) + 1
    if number > _LAST:
        raise SourceError(f"version {number - 1} is the highest that a server reads (int64); there is none after it.")
    return number


def publish(directory: Path, base_path: Path) -> tuple[int, bool]:
    """
    Add the servable in *directory* to *base_path* as its next version, unless its content is there already.

    Several may do so at once: each gets a number of its own. Who watches *base_path* sees a version when it is whole.

    Returns:
        The version that has the content, and whether it is new.

    Raises:
        SourceError: *directory* holds nothing that a server loads, changes meanwhile, or contradicts its manifest; or a
            version in *base_path* that ought to have the same content is damaged.
        StorageError: The disk is full, or *base_path* cannot be written.
    """
    if not any((directory / name).is_file() for name in _MODELS):
        raise SourceError(f"{directory}: expected a SavedModel, found no saved_model.pb in it.")
    content = _digests(directory)
    given = _manifest(directory)
    if given is not None and (wrong := _difference(given, content)):
        raise SourceError(f"{directory}: {wrong} is not as {MANIFEST_FILE} says. Export it again.")
    with files.readable_disk_faults(base_path):
        base_path.mkdir(parents=True, exist_ok=True)
        with locks.waiting_lock(base_path / LOCK, lambda _: None):
            files.remove_partials(base_path)
            there = versions(base_path)
            for version, path in there.items():
                if _has(path, content):
                    return version, False
            return _add(directory, content, base_path, next_number(set(there))), True


def _add(directory: Path, content: dict[str, str], base_path: Path, number: int) -> int:
    partial = files.partial_path(base_path / str(number))
    try:
        partial.mkdir()
        servable.copy_files(
            {name: path for name, path in _content_files(directory).items() if name in content}, partial
        )
        if wrong := _difference(content, _digests(partial)):
            raise SourceError(
                f"{directory / wrong}: changed while it was copied. Wait until it is written, and try again."
            )
        files.sync_tree(partial)
        return _claim(partial, base_path, number)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _claim(partial: Path, base_path: Path, number: int) -> int:
    """Rename *partial* to *number*, or to the next that is free: somebody else may add versions by other means."""
    while True:
        target = base_path / str(number)
        try:
            # A rename would take the place of an empty directory, which somebody may be about to fill.
            if not os.path.lexists(target):
                partial.rename(target)
                files.sync_directory(base_path)
                return number
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}:
                raise StorageError(f"{target}: cannot be made ({error.strerror}).") from error
        number = next_number({number})


def _content_files(directory: Path) -> dict[str, Path]:
    return {name: path for name, path in files.tree_files(directory).items() if name != MANIFEST_FILE}


def _digests(directory: Path) -> dict[str, str]:
    return {name: files.sha256_file(path).removeprefix("sha256:") for name, path in _content_files(directory).items()}


def _manifest(directory: Path) -> dict[str, str] | None:
    path = directory / MANIFEST_FILE
    return manifest.decode(path.read_bytes()) if path.is_file() else None


def _has(version: Path, content: dict[str, str]) -> bool:
    """Say whether *version* has this content: by its manifest, if it has one, else by its files."""
    said = _manifest(version)
    if said is not None and said != content:
        return False
    # Names tell many versions apart without reading them.
    if said is None and _content_files(version).keys() != content.keys():
        return False
    found = _digests(version)
    if said is not None and (wrong := _difference(content, found)):
        raise SourceError(
            f"{version / wrong}: not as {MANIFEST_FILE} says, so this version is damaged. Remove {version} and try again."
        )
    return found == content


def _difference(expected: dict[str, str], found: dict[str, str]) -> str | None:
    """Name the first file in which the two differ."""
    return min((name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)), default=None)
