"""What the server asks of a file system, and the answer for local paths. Other file systems are the backends' affair."""

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class FileState:
    """
    What changes when a file is written.

    Attributes:
        size_bytes: Its length.
        changed_at: When it changed last, in seconds since the epoch by the clock of the storage.
    """

    size_bytes: int
    changed_at: float


Tree = Mapping[str, FileState]
"""Every file below a directory: relative POSIX path -> state."""


class Storage(Protocol):
    """
    A file system. Paths are those of the configuration; everything that goes wrong is an OSError.

    Every method may take long or never come back, as a network can.
    """

    def names(self, directory: str) -> list[str]:
        """List what lies directly in *directory*, in alphabetical order."""

    def is_directory(self, path: str) -> bool:
        """Say whether *path* is a directory; False if it is not there."""

    def tree(self, directory: str) -> Tree:
        """List all files below *directory*, following links; a link that leads nowhere is one of -1 bytes."""

    def read(self, path: str, limit_bytes: int) -> bytes:
        """Read *path*, but at most *limit_bytes* from its beginning."""

    def device(self, directory: str) -> int | None:
        """Say on which device *directory* lies, if it is on one: another number means that something was (un)mounted."""


class LocalStorage:
    """Paths of this machine."""

    def names(self, directory: str) -> list[str]:
        """List what lies directly in *directory*."""
        return sorted(os.listdir(directory))  # noqa: PTH208  # names, not paths

    def is_directory(self, path: str) -> bool:
        """Say whether *path* is a directory."""
        return Path(path).is_dir()

    def tree(self, directory: str) -> dict[str, FileState]:
        """List all files below *directory*."""
        files: dict[str, FileState] = {}
        for parent, _, names in os.walk(directory, onerror=_raise, followlinks=True):
            for name in names:
                path = os.path.join(parent, name)  # noqa: PTH118  # thousands of them, at every look
                relative = os.path.relpath(path, directory)
                try:
                    status = os.stat(path)  # noqa: PTH116
                except OSError as error:
                    if error.errno not in {errno.ENOENT, errno.ELOOP}:
                        raise
                    files[relative] = FileState(-1, 0.0)
                else:
                    # Unlike the time of modification, that of the inode cannot be carried over by who copies.
                    files[relative] = FileState(status.st_size, status.st_ctime)
        return files

    def read(self, path: str, limit_bytes: int) -> bytes:
        """Read *path*."""
        with Path(path).open("rb") as file:
            return file.read(limit_bytes)

    def device(self, directory: str) -> int | None:
        """Say on which device *directory* lies."""
        return Path(directory).stat().st_dev


def join(directory: str, *names: str) -> str:
    """Put a path together; also one with a scheme, whose two slashes pathlib would make one."""
    return "/".join([directory.rstrip("/"), *names])


def _raise(error: OSError) -> None:
    raise error
