"""Processes that never outlive their owner: signals become exceptions, and orphans end themselves."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import IO

import psutil

from slipway import guardian

# <linux/prctl.h>
_PR_SET_PDEATHSIG = 1
_STOPPING_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def exit_on_signals() -> None:
    """Let SIGTERM, SIGINT and SIGHUP raise SystemExit(128 + n) in the main thread, so that `finally` blocks run."""

    def leave(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    for number in _STOPPING_SIGNALS:
        signal.signal(number, leave)


def die_with_ancestors(poll_s: float = 0.5) -> None:
    """
    Send ourselves SIGTERM when the shell or the Snakemake above us vanishes, even by `kill -9`.

    A killed Snakemake cannot stop its jobs; without this an export or a benchmark would go on beside
    the next run. The three nearest ancestors are watched by process id *and* start time, because ids
    are used again.
    """
    watched = [process for process in psutil.Process().parents() if process.pid > 1][:3]

    def watch() -> None:
        while all(process.is_running() for process in watched):
            time.sleep(poll_s)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="ancestor-watch", daemon=True).start()


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
        process = start_owned(argv, log=output, env=env)
        kill_group = f"import os; os.killpg({process.pid}, {signal.SIGKILL:d})"
        with guardian.guarded([sys.executable, "-I", "-S", "-c", kill_group], at_exit=False):
            try:
                status = process.wait()
            finally:
                stop_group(process, grace_s=5)
        output.seek(0)
        return status, output.read().decode(errors="replace")


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
