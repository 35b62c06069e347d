"""A source as local files: fetched if it is elsewhere, unpacked if it is in an archive; and found again among what was kept."""

import shutil
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from slipway import archives, files, source_files
from slipway.detection.detect import find_all
from slipway.errors import SourceError
from slipway.fetch import fetch, shown
from slipway.source_settings import BuiltinSource, FileSource, Source

_SCRATCH = ".unpacked"


def keep(source: Source, directory: Path, cache: Path, say: Callable[[str], None]) -> Source:
    """
    Fetch, unpack, check and copy the files of *source* into *directory*.

    Args:
        source: As it stands in the config.
        directory: Gets the source's files, and nothing else: not the archive around them.
        cache: Directory of the cache, for what is fetched.
        say: Told of a download.

    Returns:
        The same source, with a path in *directory*; `kept` gives it again later.

    Raises:
        SourceError: If a file cannot be had, is not what the config says, or is damaged.
    """
    if isinstance(source, BuiltinSource):
        return source
    archive = source.path
    if source.url is not None:
        assert isinstance(source.sha256, str)  # as validated
        archive = fetch(source.url, source.sha256, cache, say)
    elif source.is_archive and isinstance(source.sha256, str):
        source_files.check_digest(source.path, source.sha256)
    if source.is_archive:
        unpacked: Source = _unpacked(source, archive, directory)
        return unpacked
    if source.url is None:
        source_files.copy_source(source, directory)
    else:
        _copy_fetched(source, archive, directory)
    return kept(source, directory)


def kept(source: Source, directory: Path) -> Source:
    """Give *source* with its path in *directory*, where `keep` put its files."""
    if isinstance(source, BuiltinSource):
        return source
    if not source.is_archive:
        return source.model_copy(update={"path": directory / source.path.name})
    if source.inside is not None:
        return source.model_copy(update={"path": directory / PurePosixPath(source.inside).name, "inside": None})
    if source.kind == "saved_model":  # its files lie in the directory itself
        return source.model_copy(update={"path": directory / source.path.name.split(".")[0]})
    return source.model_copy(update={"path": _only(source, directory, source.path.name)})


def _copy_fetched(source: FileSource, fetched: Path, directory: Path) -> None:
    """Copy under its own name: the cache's is its digest."""
    scratch = directory / _SCRATCH
    with files.readable_disk_faults(directory):
        scratch.mkdir()
        try:
            place = scratch / source.path.name
            place.symlink_to(fetched.absolute())
            source_files.copy_source(_at(source, place), directory)
        except SourceError as error:
            raise _of_the_user(error, scratch) from error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _unpacked(source: FileSource, archive: Path, directory: Path) -> Any:
    scratch = directory / _SCRATCH
    with files.readable_disk_faults(directory):
        scratch.mkdir()
        try:
            archives.unpack(archive, scratch)
            path = _only(source, scratch, source.path.name) if source.inside is None else _inside(source, scratch)
            local = _at(source, path)
            source_files.copy_source(local, directory)
        except SourceError as error:
            raise _of_the_user(error, scratch, {str(archive): str(source.url or source.path)}) from error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return _at(local, directory / path.name)


def _at(source: FileSource, path: Path) -> Any:
    """Give *source* as it is at *path*; the digest of one file was that of what was fetched or packed."""
    digests = {} if isinstance(source.sha256, str) else source.sha256
    return source.model_copy(update={"path": path, "url": None, "inside": None, "sha256": digests})


def _of_the_user(error: SourceError, scratch: Path, names: dict[str, str] | None = None) -> SourceError:
    """Say *error* in the names that the user knows."""
    text = str(error).replace(f"{scratch}/", "").replace(str(scratch), "the archive")
    for ours, theirs in (names or {}).items():
        text = text.replace(ours, shown(theirs))
    return SourceError(text)


def _only(source: FileSource, directory: Path, archive: str) -> Path:
    """Find the one source of the right kind below *directory*."""
    found = find_all(directory)
    fitting = [one for one in found if one.kind == source.kind]  # type: ignore[attr-defined]  # every kind says its own
    if len(fitting) == 1:
        return fitting[0].path
    if fitting:
        names = ", ".join(str(one.path.relative_to(directory)) for one in fitting[:5])
        raise SourceError(f"{archive}: holds {len(fitting)} sources of this kind: {names}. Name one as `inside`.")
    there = "; ".join(f"{one.path.relative_to(directory)}: {one.words}" for one in found[:5]) or "no model known here"
    raise SourceError(f"{archive}: expected a source of kind: {source.kind} in it; found {there}.")  # type: ignore[attr-defined]


def _inside(source: FileSource, scratch: Path) -> Path:
    assert source.inside is not None
    inside = PurePosixPath(source.inside)
    if ".." in inside.parts:
        raise SourceError(f"{source.path.name}: inside: {source.inside} leads out of the archive.")
    path = scratch / inside
    if not path.exists() and not list(path.parent.glob(f"{path.name}.*")):
        told = ", ".join(str(one.path.relative_to(scratch)) for one in find_all(scratch)[:5]) or "no model known here"
        raise SourceError(f"{source.path.name}: holds no {source.inside}; it holds: {told}.")
    return path
