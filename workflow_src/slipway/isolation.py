"""
Work on files of somebody else's, in a process of its own: whatever they do to it, one readable line comes of it.

TensorFlow checks much of what it reads, and aborts where a check was left out; HDF5 has been known to crash; a graph may
compute for ever. None of this is an exception that Python could catch. So a stage does such work in a fork, which nothing
ran in before, and tells what became of it.
"""

import contextlib
import ctypes
import json
import os
import resource
import select
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from slipway import errors, files, procs
from slipway.errors import SettingsError, SlipwayError, SourceError

TIMEOUT = "SLIPWAY_SOURCE_TIMEOUT_S"
DEFAULT_TIMEOUT_S = 3600.0
_MOST_TOLD_CHARACTERS, _MOST_TOLD_BYTES = 5000, 1 << 15  # a pipe holds twice that, and nobody reads until the end
_GRACE_S = 5.0
# <linux/prctl.h>
_PR_SET_PDEATHSIG = 1
_STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_GPU = Path("/dev/nvidiactl")


def timeout_s(environment: Mapping[str, str]) -> float:
    """
    Give how long such work may take, in seconds: SLIPWAY_SOURCE_TIMEOUT_S, if set, else an hour.

    Raises:
        SettingsError: If it is no positive number.
    """
    given = environment.get(TIMEOUT, "")
    if not given:
        return DEFAULT_TIMEOUT_S
    with contextlib.suppress(ValueError):
        if 0 < (seconds := float(given)) < float("inf"):
            return seconds
    raise SettingsError(f"{TIMEOUT}: should be a number of seconds above 0, is {given!r}.")


def run(
    work: Callable[[], None], what: str, outputs: Sequence[Path], limit_s: float, doing: str = "reading the source"
) -> None:
    """
    Do *work* in a fork, and wait for it. Call it from the main thread, before TensorFlow has run anything.

    The fork has a directory for temporary files of its own, which goes with it. It ends with us, however we end, and so
    does every process that it started and that stayed in its group.

    Args:
        work: Writes files; what it returns is lost.
        what: What the work is about, as errors begin: `digits 1`.
        outputs: What it writes, at least one. If it is killed, what it left half-written beside them is removed.
        limit_s: Seconds it may take.
        doing: What it does, as the beginning of a sentence.

    Raises:
        SlipwayError: What *work* raised; or SourceError if it killed its process, or took too long.
    """
    # Beside an output, where the next run finds it if we are killed.
    scratch = files.partial_path(outputs[0])
    with files.readable_disk_faults(scratch):
        scratch.mkdir(parents=True)
    try:
        status, told = _fork(work, scratch, limit_s)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        for parent in {path.parent for path in outputs}:
            files.remove_partials(parent)
    _outcome(what, status, told, "TensorFlow", _ENDLESS.format(doing, limit_s, TIMEOUT), doing)


def ask(work: Callable[[], Any], what: str, library: str, limit_s: float) -> Any:
    """
    Ask *work* something about a file, in a fork that may be lost.

    Args:
        work: Writes nothing; gives a value that JSON has, of a few kilobytes.
        what: The file, as errors begin.
        library: What reads it, and may crash.
        limit_s: Seconds it may take.

    Raises:
        SlipwayError: As `run` does.
    """
    status, told = _fork(work, None, limit_s)
    endless = f"reading it took {library} more than {limit_s:g} s: it is damaged. Fetch or save it again."
    return _outcome(what, status, told, library, endless)


_ENDLESS = "{} took more than {:g} s and was stopped: a graph that never ends? If it may take longer, set {}."


def _outcome(
    what: str,
    status: int | None,
    told: tuple[str, Any] | None,
    library: str,
    endless: str,
    doing: str = "reading the source",
) -> Any:
    if told is None:
        raise SourceError(f"{what}: {endless if status is None else _end(status, library, doing)}")
    kind, value = told
    if kind:
        raise _error(kind, value)
    return value


def _fork(work: Callable[[], Any], scratch: Path | None, limit_s: float) -> tuple[int | None, tuple[str, Any] | None]:
    """Give the status as `os.waitpid` does (None: it took too long), and the error that was raised, if it came so far."""
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    # A signal that came between the fork and `try` would end us, and not the fork.
    unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
    child = os.fork()
    if child == 0:
        os.close(reading)
        _work(work, scratch, writing, parent, unblocked)
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
        os.close(writing)
        # Both sides do it: whoever comes first.
        with contextlib.suppress(OSError):
            os.setpgid(child, child)
        in_time = _wait(child, limit_s)
        told = _told(reading) if in_time else None
    except BaseException:
        with procs.signals_ignored():
            _end_group(child, signal.SIGTERM)
        raise
    finally:
        os.close(reading)
    with procs.signals_ignored():
        status = _end_group(child)
    return (status if in_time else None), told


def _work(
    work: Callable[[], Any], scratch: Path | None, writing: int, parent: int, unblocked: Collection[int]
) -> NoReturn:
    """Be the fork."""
    code = 1
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
        with contextlib.suppress(OSError):
            os.setpgid(0, 0)
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before we could ask to be told
            os._exit(code)
        if scratch is not None:
            os.environ["TMPDIR"] = tempfile.tempdir = str(scratch.absolute())
        _bound()
        try:
            told = ["", work()]
        except SlipwayError as error:
            told = [_kind(error), str(error)[:_MOST_TOLD_CHARACTERS]]
        os.write(writing, json.dumps(told).encode())
        code = 0
    except procs.Stopped as stopped:
        signal.signal(stopped.signal, signal.SIG_DFL)
        os.kill(os.getpid(), stopped.signal)
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else 1
    except BaseException:  # a bug keeps its traceback; there is nobody above us
        traceback.print_exc()
        with contextlib.suppress(OSError):
            os.write(writing, json.dumps(["bug", ""]).encode())
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _bound() -> None:
    """Leave no core dump behind; and fail in an allocation that the machine cannot hold, before its other processes suffer."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if not _GPU.exists():  # drivers map more than there is, and never use it
        most = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        if hard == resource.RLIM_INFINITY or hard > most:
            resource.setrlimit(resource.RLIMIT_DATA, (most, hard))


def _wait(child: int, limit_s: float) -> bool:
    """Wait until *child* has ended, *limit_s* seconds at most; say whether it has."""
    descriptor = os.pidfd_open(child)
    try:
        return bool(select.select([descriptor], [], [], limit_s)[0])
    finally:
        os.close(descriptor)


def _end_group(child: int, first: signal.Signals = signal.SIGKILL) -> int:
    """End *child* and its group, and give its status as `os.waitpid` does."""
    if first != signal.SIGKILL:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, first)
        _wait(child, _GRACE_S)
    # Not reaped yet, so the id is still its own.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]


def _told(reading: int) -> tuple[str, Any] | None:
    os.set_blocking(reading, False)
    with contextlib.suppress(BlockingIOError, ValueError):
        kind, value = json.loads(os.read(reading, _MOST_TOLD_BYTES))
        return kind, value
    return None


def _end(status: int, library: str, doing: str) -> str:
    """Say how it ended, and what to do."""
    if os.WIFSIGNALED(status):
        number = signal.Signals(os.WTERMSIG(status))
        if number in _STOPPING:
            return f"{doing} was stopped by {number.name}; nothing half-made is kept."
        if number == signal.SIGKILL:
            return (
                f"{doing} was killed (SIGKILL), as the system does when memory runs out. Give it more memory, or "
                "a smaller source."
            )
        return (
            f"{doing} crashed {library} ({number.name}): the file is damaged, or made to do so; what it said "
            "last stands above. Fetch or save it again."
        )
    return (
        f"the process that read the source left with exit code {os.WEXITSTATUS(status)} before it was done. Does a module "
        "of the source's builder call sys.exit?"
    )


def _kind(error: SlipwayError) -> str:
    return next(kind.__name__ for kind in type(error).__mro__ if kind.__module__ == errors.__name__)


def _error(kind: str, text: str) -> BaseException:
    if kind == "bug":  # its traceback is printed
        return SystemExit(1)
    return getattr(errors, kind)(text)  # type: ignore[no-any-return]
