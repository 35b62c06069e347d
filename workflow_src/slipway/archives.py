"""
Archives around a model (.tar, .tar.gz, .tgz, .tar.zst, .zip), unpacked without trust in what they say.

An archive from somewhere else may name files outside of its place, link there, hold the same name twice (one for whoever
checks, one for whoever uses), or unpack to more than the disk has. Nothing but plain files and directories comes out of
one here, and an archive that holds anything else is refused whole.
"""

import gzip
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

import zstandard

from slipway import files
from slipway.errors import SourceError

_GZIP, _ZSTD, _ZIP = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PK\x03\x04"
_EMPTY_ZIP = b"PK\x05\x06"
_TAR_MAGIC, _TAR_MAGIC_AT, _TAR_BLOCK = b"ustar", 257, 512
_CHUNK_BYTES = 1 << 20
# What stands in front of a member: names and attributes; tarfile takes it into memory in one piece.
_MOST_HEADER_BYTES = 1 << 20
_LONGEST_NAME, _LONGEST_PART = 1000, 255
# What macOS adds: attributes of files, which are no part of any model.
_MACOS = "__MACOSX"


@dataclass(frozen=True, slots=True)
class Limits:
    """
    What an archive may unpack to.

    Attributes:
        total_bytes: All files together.
        ratio: Unpacked size by packed size; weights hardly shrink, a bomb does a thousand times.
        floor_bytes: Up to here the ratio does not matter.
        count: Files and directories.
    """

    total_bytes: int = 64 << 30
    ratio: float = 100
    floor_bytes: int = 256 << 20
    count: int = 20_000

    def most_bytes(self, packed: int) -> int:
        """Give what an archive of *packed* bytes may unpack to."""
        return min(self.total_bytes, max(self.floor_bytes, int(packed * self.ratio)))


DEFAULT_LIMITS = Limits()


def kind_of_archive(path: Path) -> str | None:
    """Name the archive at *path* by its first bytes (`tar`, `tar.gz`, `tar.zst`, `zip`), or None if it is none."""
    files.refuse_special(path)
    try:
        with path.open("rb") as file:
            head = file.read(_TAR_BLOCK)
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror}). Correct the source's `path`.") from error
    if head.startswith((_ZIP, _EMPTY_ZIP)):
        return "zip"
    if head.startswith(_GZIP):
        return "tar.gz"
    if head.startswith(_ZSTD):
        return "tar.zst"
    return "tar" if head[_TAR_MAGIC_AT:].startswith(_TAR_MAGIC) else None


def unpack(path: Path, directory: Path, limits: Limits = DEFAULT_LIMITS) -> None:
    """
    Unpack the archive at *path* into *directory*, which is there and empty; the caller removes it on failure.

    Raises:
        SourceError: If it is no archive, is cut off or damaged, holds what no model needs, or grows too large.
    """
    kind = kind_of_archive(path)
    if kind is None:
        raise SourceError(
            f"{path}: expected an archive (.tar, .tar.gz, .tgz, .tar.zst, .zip), found none by its bytes."
        )
    place = _Place(path, directory, limits)
    try:
        if kind == "zip":
            _unpack_zip(path, place)
        else:
            with path.open("rb") as file:
                _unpack_tar(path, _decompressed(kind, file), place)
    except (
        tarfile.TarError, zipfile.BadZipFile, zlib.error, zstandard.ZstdError, EOFError, RecursionError, ValueError,
        NotImplementedError, gzip.BadGzipFile, RuntimeError, OverflowError,
    ) as error:  # fmt: skip
        told = " ".join(str(error).split()) or type(error).__name__
        raise SourceError(f"{path}: cut off or damaged ({told}). Fetch or pack the archive again.") from error


class _Place:
    """Where an archive's members go, and what came so far."""

    def __init__(self, archive: Path, directory: Path, limits: Limits) -> None:
        self.directory, self._archive, self._limits = directory, archive, limits
        self._left = self.most_bytes = limits.most_bytes(archive.stat().st_size)
        self._kinds: dict[PurePosixPath, str] = {}

    def refuse(self, name: str, why: str) -> SourceError:
        """Say why the member *name* cannot be taken."""
        return SourceError(f"{self._archive}: {name[:200]!r} {why}: the archive is refused.")

    def add_directory(self, name: str) -> None:
        """Make a directory; one that is there already does no harm."""
        if (path := self.path(name)) is not None:
            self._claim(path, "directory")
            (self.directory / path).mkdir(parents=True, exist_ok=True)

    def add_file(self, name: str, size: int, content: IO[bytes]) -> None:
        """Write a file of *size* bytes, or refuse it."""
        path = self.path(name)
        if size > self._left:
            raise self.too_large()
        if path is None:
            return
        if path in self._kinds:
            raise self.refuse(name, "is in it twice")
        self._claim(path, "file")
        target = self.directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        written = 0
        with target.open("xb") as file:
            while chunk := content.read(min(_CHUNK_BYTES, size - written + 1)):
                written += len(chunk)
                if written > size:
                    raise self.refuse(name, "is longer than the archive says")
                file.write(chunk)
        if written < size:
            raise EOFError(f"{name} ends after {written} of {size} bytes")
        self._left -= size

    def too_large(self) -> SourceError:
        """Say that it grows beyond its limits."""
        return SourceError(
            f"{self._archive}: unpacks to more than {self.most_bytes} bytes, of {self._archive.stat().st_size} packed: the "
            "archive is refused. Unpack it yourself if it is sound, and give what came out as `path`."
        )

    def path(self, name: str) -> PurePosixPath | None:
        """Give where the member *name* goes, None for what is left out, or refuse it."""
        path = PurePosixPath(name)
        if path.is_absolute() or (len(name) > 1 and name[1] == ":"):
            raise self.refuse(name, "is an absolute name")
        if ".." in path.parts:
            raise self.refuse(name, "leads out of the archive (..)")
        if "\\" in name or not name.isprintable():
            raise self.refuse(name, "has characters that no file of a model has")
        if len(name) > _LONGEST_NAME or any(len(os.fsencode(part)) > _LONGEST_PART for part in path.parts):
            raise self.refuse(name, "is too long a name")
        if _MACOS in path.parts or path.name.startswith("._") or not path.parts:
            return None
        return path

    def _claim(self, path: PurePosixPath, kind: str) -> None:
        for parent in path.parents:
            if self._kinds.setdefault(parent, "directory") != "directory":
                raise self.refuse(str(path), f"lies in {parent}, which is a file in it")
        if self._kinds.setdefault(path, kind) != kind:
            raise self.refuse(str(path), "is a file and a directory in it")
        if len(self._kinds) > self._limits.count:
            raise SourceError(f"{self._archive}: holds more than {self._limits.count} files: the archive is refused.")


# --- tar -------------------------------------------------------------------------------------------


def _decompressed(kind: str, file: IO[bytes]) -> Any:
    if kind == "tar.gz":
        return gzip.GzipFile(fileobj=file)
    if kind == "tar.zst":
        # The library's default limit of the window, 128 MiB, is that of the command, too.
        return zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
    return file


class _Forward:
    """A stream as tarfile reads it, forward only: exact reads, none of them large, none beyond what is allowed."""

    def __init__(self, stream: Any, most_bytes: int, place: _Place) -> None:
        self._stream, self._most, self._place = stream, most_bytes, place
        self._at = 0
        self.last = b""

    def tell(self) -> int:
        return self._at

    def read(self, size: int) -> bytes:
        if size > _MOST_HEADER_BYTES:
            raise tarfile.TarError(f"a header of {size} bytes")
        parts, missing = [], size
        while missing and (part := self._stream.read(missing)):
            parts.append(part)
            missing -= len(part)
        self.last = b"".join(parts)
        self._at += len(self.last)
        if self._at > self._most:
            raise self._place.too_large()
        return self.last

    def seek(self, at: int) -> None:
        while self._at < at and self.read(min(_CHUNK_BYTES, at - self._at)):
            pass
        if self._at != at:
            raise EOFError("it ends within a member")


def _unpack_tar(path: Path, stream: Any, place: _Place) -> None:
    # Headers and padding come on top of the files.
    most = DEFAULT_LIMITS.count * 4 * _TAR_BLOCK + place.most_bytes
    forward = _Forward(stream, most, place)
    with tarfile.TarFile(fileobj=forward, mode="r") as archive:  # type: ignore[arg-type]  # all that it uses of a file
        for member in _members(archive, forward):
            if member.isdir():
                place.add_directory(member.name)
            elif member.isreg() and not member.issparse():
                place.path(member.name)
                tarfile.data_filter(member, str(place.directory))  # a second opinion
                content = archive.extractfile(member)
                assert content is not None  # a regular file
                place.add_file(member.name, member.size, content)
            else:
                raise place.refuse(member.name, f"is {_kind(member)}, and not a plain file")


def _members(archive: tarfile.TarFile, forward: _Forward) -> Iterator[tarfile.TarInfo]:
    while (member := archive.next()) is not None:
        yield member
    # tarfile takes a damaged header for the end, and a missing end for one.
    if len(forward.last) < _TAR_BLOCK:
        raise EOFError("its end is missing")
    while forward.last:
        if any(forward.last):
            raise tarfile.TarError("there are bytes behind its end, or a header is damaged")
        forward.read(_CHUNK_BYTES)


def _kind(member: tarfile.TarInfo) -> str:
    if member.issym() or member.islnk():
        return f"a link to {member.linkname[:200]!r}"
    if member.issparse():
        return "a file with holes"
    return "a device or a pipe" if member.isdev() else "something else"


# --- zip -------------------------------------------------------------------------------------------


def _unpack_zip(path: Path, place: _Place) -> None:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            mode = member.external_attr >> 16
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise place.refuse(member.filename, "is a link or a device, and not a plain file")
            if member.flag_bits & 1:
                raise place.refuse(member.filename, "is encrypted")
            # A directory of members that is damaged; zipfile would seek to before the file.
            if member.header_offset < 0:
                raise zipfile.BadZipFile(f"a member begins at byte {member.header_offset}")
            # The name as it stands, before zipfile cuts it at a zero byte.
            if member.is_dir():
                place.add_directory(member.orig_filename)
                continue
            with archive.open(member) as content:
                place.add_file(member.orig_filename, member.file_size, content)
