"""Locks that are never stale: the kernel drops them with the process that holds them, even after `kill -9`."""

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from slipway.errors import SlipwayError

# Held for the life of the process; dropping the file object would drop the lock.
_held: list[IO[str]] = []


class LockedError(SlipwayError):
    """Another process is at it already."""


def _open(path: Path) -> IO[str]:
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666), "r+")


def _sign(file: IO[str]) -> None:
    # Whoever waited has read, and would write behind a gap of zero bytes.
    file.seek(0)
    file.truncate()
    file.write(str(os.getpid()))
    file.flush()


def _try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def claim_working_directory(directory: Path = Path()) -> None:
    """
    Take *directory* for this run, until this process ends.

    Raises:
        LockedError: If another run has it.
    """
    file = _open(directory / ".slipway" / "run.lock")
    if not _try_lock(file):
        holder = file.read().strip()
        file.close()
        raise LockedError(
            f"{directory.resolve()}: another run (process {holder or 'unknown'}) works in this directory. "
            f"Wait for it to end, or stop it with: kill {holder or '<process id>'}"
        )
    _sign(file)
    _held.append(file)


@contextlib.contextmanager
def waiting_lock(path: Path, on_wait: Callable[[str], None]) -> Iterator[None]:
    """
    Hold the lock at *path* for the block, waiting for it as long as it takes.

    Args:
        path: The lock's file; it is created and never removed (removing it would let two hold "the" lock).
        on_wait: Called once, with the holder's process id as text, if somebody else has it.
    """
    with _open(path) as file:
        if not _try_lock(file):
            on_wait(file.read().strip() or "unknown")
            fcntl.flock(file, fcntl.LOCK_EX)
        _sign(file)
        yield
