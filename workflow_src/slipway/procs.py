"""Processes that never outlive their owner: signals become exceptions, and orphans end themselves."""

import _thread
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import IO

import psutil

from slipway import guardian

# <linux/prctl.h>
_PR_SET_PDEATHSIG = 1
_STOPPING_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Stopped(SystemExit):
    """A signal ended us; its code is a shell's for that signal, 128 + n."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.signal = signal.Signals(number)


def exit_on_signals() -> None:
    """
    Let SIGTERM, SIGINT and SIGHUP raise Stopped in the main thread, so that `finally` blocks run.

    Python drops what is raised in a finalizer or in a hook at a fork, with a word on standard error; a signal that is
    dropped so is sent again.
    """

    def leave(number: int, _frame: FrameType | None) -> None:
        if _held.holds:
            _held.number = number
        else:
            raise Stopped(number)

    for number in _STOPPING_SIGNALS:
        signal.signal(number, leave)

    def dropped(unraisable: "sys.UnraisableHookArgs") -> None:
        if isinstance(unraisable.exc_value, Stopped):
            # Not from here, where it would be dropped again; and not by `threading`, whose locks may be held here.
            _thread.start_new_thread(_send_again, (unraisable.exc_value.signal,))
        else:
            sys.__unraisablehook__(unraisable)

    sys.unraisablehook = dropped


class _Held:
    """Whether a stop has to wait, and which has come since."""

    holds = False
    number: int | None = None


_held = _Held()


@contextlib.contextmanager
def stops_held() -> Iterator[None]:
    """
    Let Stopped be raised at the end of the block, not in it: a process that is being started must not be lost to us.

    It would go on, and write where we are clearing up. For the main thread, and not to be nested.
    """
    _held.holds = True
    try:
        yield
    finally:
        number, _held.number = _held.number, None
        _held.holds = False
        if number is not None:
            raise Stopped(number)


def _send_again(number: signal.Signals) -> None:
    time.sleep(0.01)
    os.kill(os.getpid(), number)


def die_with_snakemake(poll_s: float = 0.5) -> None:
    """
    Send ourselves SIGTERM when the Snakemake above us, or a shell between it and us, vanishes, even by `kill -9`.

    A killed Snakemake cannot stop its jobs; without this an export or a benchmark would go on beside the next
    run. Whoever started Snakemake is not watched: a run under `nohup` outlives its login shell. Processes are
    known by id *and* start time, because ids are used again. Without a Snakemake above us nothing is watched.
    """
    above = psutil.Process().parents()
    snakemake = next((place for place, process in enumerate(above) if _is_snakemake(process)), None)
    if snakemake is None:
        return
    watched = above[: snakemake + 1]

    def watch() -> None:
        while all(process.is_running() for process in watched):
            time.sleep(poll_s)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="snakemake-watch", daemon=True).start()


def _is_snakemake(process: psutil.Process) -> bool:
    """Whether *process* is the `snakemake` script or `python -m snakemake`; a shell that mentions either is not."""
    with contextlib.suppress(psutil.Error):
        words = process.cmdline()
        # The interpreter, its options, then the script or the module.
        return "snakemake" in {Path(word).name for word in words[:4]} and not words[0].endswith("sh")
    return False


def _kill_when_parent_dies() -> None:
    # Runs in the child between fork and exec. The signal follows the *thread* that forked: start
    # children from the main thread.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def start_owned(
    argv: Sequence[str],
    *,
    log: IO[bytes] | int | None = None,
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
    talk: bool = False,
) -> subprocess.Popen[bytes]:
    """
    Start *argv* in a process group of its own that the kernel kills if we die. Call it from the main thread.

    Args:
        argv: Program and arguments.
        log: Gets standard output and standard error; None: ours.
        env: Environment; None: ours.
        cwd: Working directory; None: ours.
        talk: Standard input and standard output are unbuffered pipes to us; *log* gets standard error alone.
    """
    merged = subprocess.STDOUT if log is not None else None
    return subprocess.Popen(
        argv,
        bufsize=0,
        stdin=subprocess.PIPE if talk else subprocess.DEVNULL,
        stdout=subprocess.PIPE if talk else log,
        stderr=log if talk else merged,
        env=env,
        cwd=cwd,
        start_new_session=True,
        preexec_fn=_kill_when_parent_dies,  # noqa: PLW1509 - one prctl call, no locks, no Python objects shared
    )


def run_owned(argv: Sequence[str], *, env: dict[str, str] | None = None) -> tuple[int, str]:
    """
    Run *argv* to its end; it and all of its group end with us, too. Call it from the main thread.

    Returns:
        Exit status and everything it wrote.
    """
    with tempfile.TemporaryFile() as output:
        status = _run_to_its_end(lambda: start_owned(argv, log=output, env=env))
        output.seek(0)
        return status, output.read().decode(errors="replace")


def relay_owned(argv: Sequence[str], sink: IO[bytes], *, env: dict[str, str] | None = None) -> tuple[int, list[str]]:
    """
    Run *argv* to its end as `run_owned` does, and pass on what it writes while it runs.

    Args:
        argv: Program and arguments.
        sink: Gets standard output and standard error as they come.
        env: Environment; None: ours.

    Returns:
        Exit status, and the last lines it wrote (at most 50, each of at most 2000 characters).
    """
    tail: deque[str] = deque(maxlen=50)
    reading, writing = os.pipe()

    def relay() -> None:
        with os.fdopen(reading, "rb") as pipe:
            # In pieces, so that a line without an end, such as a progress bar, does not fill the memory.
            while line := pipe.readline(2000):
                sink.write(line)
                sink.flush()
                tail.append(line.decode(errors="replace").rstrip())

    relaying = threading.Thread(target=relay, name="relay", daemon=True)

    def start() -> subprocess.Popen[bytes]:
        try:
            return start_owned(argv, log=writing, env=env)
        finally:
            os.close(writing)
            relaying.start()

    try:
        status = _run_to_its_end(start)
    finally:
        # Its group is gone, and with it the last writer; one that left the group is not waited for.
        relaying.join(5)
    return status, list(tail)


def _run_to_its_end(start: Callable[[], subprocess.Popen[bytes]]) -> int:
    """Wait for the process that *start* starts, then end all of its group; so does a guardian if we are killed."""
    with contextlib.ExitStack() as until_known:
        until_known.enter_context(stops_held())
        process = start()
        try:
            until_known.close()
            kill_group = f"import os; os.killpg({process.pid}, {signal.SIGKILL:d})"
            with guardian.guarded([sys.executable, "-I", "-S", "-c", kill_group], at_exit=False):
                return process.wait()
        finally:
            stop_group(process, grace_s=5)


def stop_group(process: subprocess.Popen[bytes], grace_s: float) -> int:
    """
    End *process* and all of its group: SIGTERM, up to *grace_s* seconds of patience, then SIGKILL.

    Returns:
        The exit status as `Popen.returncode` gives it (negative: killed by that signal).
    """
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace_s)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


@contextlib.contextmanager
def signals_ignored() -> Iterator[None]:
    """Let a second Ctrl-C not cut short the tear-down that the first one began."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in _STOPPING_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
