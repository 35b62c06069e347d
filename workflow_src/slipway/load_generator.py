"""The load generator as a process of ours: orders in, windows and outcomes out (`slipway_wire.loads`)."""

import contextlib
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from slipway import procs
from slipway.errors import InvalidMeasurement
from slipway_wire.loads import LoadOrder, LoadOutcome, LoadWindow
from slipway_wire.tolerances import Tolerances

T = TypeVar("T")

# Of payloads.tfrecord, payloads.tolerances.json.
TOLERANCES_SUFFIX = ".tolerances.json"
_STOP_GRACE_S = 2.0
# To import Locust, to connect all users, to write the samples: seconds beyond the load itself.
_PATIENCE_S = 60.0
_POLL_S = 0.1


class LoadGenerator:
    """A running generator; made by `load_generator`."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self._log = log
        self._unread = b""

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def run(
        self, order: LoadOrder, check: Callable[[], None], observe: Callable[[LoadWindow], T]
    ) -> tuple[LoadOutcome, T]:
        """
        Run one load.

        Args:
            order: Which.
            check: Called now and then; raises if waiting has become pointless, because the server died.
            observe: Called as soon as the window is known; returns when it is over.

        Returns:
            The outcome, and what *observe* returned.

        Raises:
            InvalidMeasurement: If the generator fails, or is not done long after it should be.
        """
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # told better by the missing answer
            self._process.stdin.write(order.to_line())
            self._process.stdin.flush()
        window = LoadWindow.from_line(self._line(check, _PATIENCE_S))
        observed = observe(window)
        left_s = (window.end_ns - time.monotonic_ns()) / 1e9
        outcome = LoadOutcome.from_line(self._line(check, left_s + order.drain_s + _PATIENCE_S))
        return outcome, observed

    def _line(self, check: Callable[[], None], timeout_s: float) -> bytes:
        assert self._process.stdout is not None
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._unread:
            check()
            if time.monotonic() > deadline:
                raise InvalidMeasurement(f"The load generator said nothing for {timeout_s:.0f} s. {self._last_words()}")
            if select.select([self._process.stdout], [], [], _POLL_S)[0]:
                # Unbuffered: gives what is there.
                read = self._process.stdout.read(65536)
                if not read:
                    raise InvalidMeasurement(
                        f"The load generator died with exit code {self._process.wait()}. {self._last_words()}"
                    )
                self._unread += read
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def _last_words(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "Its last lines:\n" + "\n".join(f"    {line}" for line in lines[-8:]) if lines else "It logged nothing."


@contextlib.contextmanager
def load_generator(payloads: Path, tolerances: Tolerances, *, log: Path) -> Iterator[LoadGenerator]:
    """
    Run a generator for the block. Call it from the main thread.

    Args:
        payloads: Payload file (`slipway_wire.payloads`).
        tolerances: How near answers must come; kept beside the payloads, for whoever sends them again.
        log: Gets what it complains of.
    """
    argv = [sys.executable, "-I", "-W", "ignore", "-m", "slipway_loadtests"]
    near = payloads.with_suffix(TOLERANCES_SUFFIX)
    near.write_bytes(tolerances.to_json())
    arguments = ["--payloads", str(payloads), "--tolerances", str(near)]
    with log.open("wb") as complaints:
        process = procs.start_owned([*argv, *arguments], log=complaints, talk=True)
        try:
            yield LoadGenerator(process, log)
        finally:
            with procs.signals_ignored():
                assert process.stdin is not None
                assert process.stdout is not None
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.close()
                procs.stop_group(process, _STOP_GRACE_S)
                process.stdout.close()
