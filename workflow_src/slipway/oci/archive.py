"""A layer's files as a tar stream that depends on nothing but them: sorted, with times, owners and modes fixed."""

import io
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

# 1980-01-01: the earliest time that a zip, and with it a wheel, can hold. The same in every build, so that a
# layer whose files did not change keeps its digest from commit to commit.
MTIME = 315532800
_COPY_BYTES = 1 << 20


class Readable(Protocol):
    """What a file's content is read from."""

    def read(self, size: int = -1, /) -> bytes:
        """Give at most *size* bytes; b"" at the end."""


class Sink(Protocol):
    """Where a tar stream goes."""

    def write(self, data: bytes, /) -> object:
        """Take all of *data*."""


@dataclass(frozen=True, slots=True)
class Entry:
    """
    One member of a layer.

    Attributes:
        path: Relative to the image's root, `/`-separated.
        kind: What it is.
        mode: Permissions.
        target: Where a link points.
        open: Gives size and content of a file, or None if it is not to be; called once, when its turn comes.
    """

    path: str
    kind: Literal["file", "directory", "link"]
    mode: int
    target: str = ""
    open: Callable[[], tuple[int, Readable] | None] | None = None

    def __post_init__(self) -> None:
        parts = self.path.split("/")
        if not self.path or "\0" in self.path or any(part in ("", ".", "..") for part in parts):
            raise ValueError(f"{self.path!r}: not a path inside an image")


def file(path: str, content: bytes | Path, *, executable: bool = False) -> Entry:
    """Make a regular file from bytes or from a file of ours."""
    return lazy_file(path, lambda: _opened(content), executable=executable)


def lazy_file(path: str, opener: Callable[[], tuple[int, Readable] | None], *, executable: bool = False) -> Entry:
    """Make a regular file whose content is asked for only when it is written."""
    return Entry(path, "file", 0o755 if executable else 0o644, open=opener)


def directory(path: str, mode: int = 0o755) -> Entry:
    """Make a directory. Parents of other entries need no entry of their own."""
    return Entry(path, "directory", mode)


def link(path: str, target: str) -> Entry:
    """Make a symbolic link."""
    return Entry(path, "link", 0o777, target=target)


def _opened(content: bytes | Path) -> tuple[int, Readable]:
    data = content.read_bytes() if isinstance(content, Path) else content
    return len(data), io.BytesIO(data)


def write_archive(entries: Iterable[Entry], sink: Sink) -> None:
    """
    Write *entries* and all their parent directories as a PAX tar.

    Owner and group are 0 without names, times are `MTIME`; a later entry replaces an earlier one of its path.
    """
    ordered = dict(sorted(_with_parents(entries)))
    with tarfile.open(fileobj=_Writable(sink), mode="w|", format=tarfile.PAX_FORMAT, bufsize=_COPY_BYTES) as archive:
        for entry in ordered.values():
            _add(archive, entry)


def _with_parents(entries: Iterable[Entry]) -> Iterator[tuple[str, Entry]]:
    given = {entry.path: entry for entry in entries}
    for path in list(given):
        parent = path.rpartition("/")[0]
        while parent and parent not in given:
            given[parent] = directory(parent)
            parent = parent.rpartition("/")[0]
    yield from given.items()


def _add(archive: tarfile.TarFile, entry: Entry) -> None:
    member = tarfile.TarInfo(entry.path)
    member.mtime, member.mode = MTIME, entry.mode
    if entry.kind == "directory":
        member.type = tarfile.DIRTYPE
        archive.addfile(member)
    elif entry.kind == "link":
        member.type, member.linkname = tarfile.SYMTYPE, entry.target
        archive.addfile(member)
    else:
        assert entry.open is not None
        if (opened := entry.open()) is None:
            return
        member.size, content = opened
        archive.addfile(member, content)
        assert not content.read(1)  # a reader that verifies does so at its end


class _Writable(io.RawIOBase):
    """What tarfile's stream mode wants, over a plain sink."""

    def __init__(self, sink: Sink) -> None:
        super().__init__()
        self._sink = sink

    def writable(self) -> bool:
        return True

    def write(self, data: bytes, /) -> int:  # type: ignore[override]
        self._sink.write(data)
        return len(data)
