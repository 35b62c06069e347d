"""Files that appear whole or not at all, and the digests that name their content."""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from slipway.errors import SourceError, StorageError

# Snakemake puts this file into every directory() output; it is not part of anybody's content.
SNAKEMAKE_TIMESTAMP = ".snakemake_timestamp"


def partial_path(path: Path) -> Path:
    """Name a place beside *path* that no other process uses, on the same file system."""
    return path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.partial")


@contextlib.contextmanager
def readable_disk_faults(path: Path) -> Iterator[None]:
    """Turn a full or read-only disk under *path* into one line that names the place and the way out."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _no_space(path) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            msg = f"{path}: cannot be written ({error.strerror}). Choose a directory you may write to."
            raise StorageError(msg) from error
        raise
    except Exception as error:
        # TensorFlow has exceptions of its own, which carry the system's words but not its number.
        if os.strerror(errno.ENOSPC) in str(error):
            raise _no_space(path) from error
        raise


def _no_space(path: Path) -> StorageError:
    free = shutil.disk_usage(_existing_parent(path)).free
    return StorageError(f"{path}: no space left on its disk ({free / 1e6:.0f} MB free). Free some space and run again.")


def _existing_parent(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def write_bytes(path: Path, data: bytes, *, mode: int | None = None) -> None:
    """
    Write *data* to *path*, whole or not at all; *mode* are the permissions, as usual if None.

    The bytes go to a file beside it, are flushed to the disk, then renamed into place: a reader, or a
    later run after a power cut, sees the old file or the new one.

    Raises:
        StorageError: If the disk is full or the place cannot be written; nothing is left behind.
    """
    partial = partial_path(path)
    with readable_disk_faults(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as file:
                file.write(data)
                file.flush()
                if mode is not None:
                    os.fchmod(file.fileno(), mode)
                os.fsync(file.fileno())
            partial.replace(path)
            sync_directory(path.parent)
        finally:
            partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write *text* as UTF-8 to *path*, whole or not at all."""
    write_bytes(path, text.encode())


def canonical_json(value: Any) -> bytes:
    """Serialise *value* so that equal values give equal bytes: sorted keys, two-space indent, a final newline."""
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode()


def write_json(path: Path, value: Any) -> None:
    """Write *value* as canonical JSON to *path*, whole or not at all."""
    write_bytes(path, canonical_json(value))


@contextlib.contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """
    Fill a directory that replaces *path* only if the block ends well.

    Yields:
        An empty directory beside *path*. Everything in it is flushed to the disk before the rename; if
        the block raises, it is removed and *path* is as it was. What processes that were killed left
        half-written beside *path* goes too.
    """
    partial = partial_path(path)
    with readable_disk_faults(path):
        remove_partials(path.parent)
        partial.mkdir(parents=True)
        try:
            yield partial
            sync_tree(partial)
            replace_directory(partial, path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def replace_directory(new: Path, path: Path) -> None:
    """Put directory *new* in the place of *path*. A directory cannot be replaced in one step, so the old one steps aside."""
    old = partial_path(path)
    with contextlib.suppress(FileNotFoundError):
        path.rename(old)
    new.rename(path)
    sync_directory(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def remove_partials(directory: Path, *, deep: bool = False) -> None:
    """Remove what processes that were killed (`kill -9`) left half-written directly under *directory*, or all below it."""
    for left in list((directory.rglob if deep else directory.glob)(".*.partial")):
        pid = left.name.rsplit(".", 2)[-2].split("-")[0]
        if not (pid.isdigit() and _is_running(pid)):
            shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)


def _is_running(pid: str) -> bool:
    """Whether process *pid* is there; one that has ended may be listed until its parent looks, and some never do."""
    try:
        # Behind the name, which is in brackets and may hold anything.
        state = Path("/proc", pid, "stat").read_bytes().rpartition(b") ")[2][:1]
    except OSError:
        return False
    return state not in {b"Z", b"X"}


def sync_tree(directory: Path) -> None:
    """Flush every file and directory below *directory* to the disk."""
    for root, _, names in os.walk(directory):
        for name in names:
            file = os.open(Path(root, name), os.O_RDONLY | os.O_NOFOLLOW)
            try:
                os.fsync(file)
            finally:
                os.close(file)
        sync_directory(Path(root))


def sync_directory(directory: Path) -> None:
    """Flush the names in *directory* to the disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def refuse_special(path: Path) -> None:
    """
    Raise SourceError if *path* is a pipe, a socket or a device: reading it may never end.

    What is not there at all is left to whoever opens it.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        what = "a pipe" if stat.S_ISFIFO(mode) else "a socket" if stat.S_ISSOCK(mode) else "a device"
        raise SourceError(f"{path}: expected a file, found {what}. Write what it gives to a file, and name that.")


def sha256_bytes(data: bytes) -> str:
    """Digest *data* as `sha256:<64 hex digits>`."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def sha256_file(path: Path) -> str:
    """Digest the content of the file at *path* as `sha256:<64 hex digits>`."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def tree_files(directory: Path) -> dict[str, Path]:
    """List the regular files below *directory* as relative POSIX path -> path, sorted by path, without Snakemake's own."""
    found = {
        path.relative_to(directory).as_posix(): path
        for path in directory.rglob("*")
        if path.is_file() and path.name != SNAKEMAKE_TIMESTAMP
    }
    return dict(sorted(found.items()))


def digest_of_digests(digests: dict[str, str]) -> str:
    """Digest a tree from relative path -> file digest; names and contents count, times and modes do not."""
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
    return sha256_bytes(lines.encode())
