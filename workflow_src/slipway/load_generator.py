"""The load generator as processes of ours: orders in, windows and outcomes out (`slipway_wire.loads`)."""

import contextlib
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from slipway import procs
from slipway.errors import InvalidMeasurement
from slipway.shared_load import common_window, shares, together
from slipway_wire import samples
from slipway_wire.loads import LoadOrder, LoadOutcome, LoadWindow
from slipway_wire.tolerances import Tolerances

T = TypeVar("T")

# Of payloads.tfrecord, payloads.tolerances.json.
TOLERANCES_SUFFIX = ".tolerances.json"
_STOP_GRACE_S = 2.0
# To import Locust, to connect all users, to write the samples: seconds beyond the load itself.
_PATIENCE_S = 60.0
_POLL_S = 0.1


class _Process:
    """One process, a line at a time."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log
        self._unread = b""

    def tell(self, line: bytes) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # told better by the missing answer
            self.process.stdin.write(line)
            self.process.stdin.flush()

    def line(self, check: Callable[[], None], timeout_s: float) -> bytes:
        assert self.process.stdout is not None
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._unread:
            check()
            if time.monotonic() > deadline:
                raise InvalidMeasurement(f"The load generator said nothing for {timeout_s:.0f} s. {self._last_words()}")
            if select.select([self.process.stdout], [], [], _POLL_S)[0]:
                # Unbuffered: gives what is there.
                read = self.process.stdout.read(65536)
                if not read:
                    self.process.wait()
                    self.check_alive()
                self._unread += read
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def check_alive(self) -> None:
        if (code := self.process.poll()) is not None:
            raise InvalidMeasurement(f"The load generator died with exit code {code}. {self._last_words()}")

    def _last_words(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "Its last lines:\n" + "\n".join(f"    {line}" for line in lines[-8:]) if lines else "It logged nothing."


class LoadGenerator:
    """Running processes that make one load at a time together; made by `load_generator`."""

    def __init__(self, processes: Sequence[_Process]) -> None:
        self._processes = processes

    @property
    def pids(self) -> list[int]:
        """Its process ids."""
        return [each.process.pid for each in self._processes]

    def run(
        self, order: LoadOrder, check: Callable[[], None], observe: Callable[[LoadWindow], T]
    ) -> tuple[LoadOutcome, T]:
        """
        Run one load.

        Args:
            order: Which; every process gets its share, and all begin at once.
            check: Called now and then; raises if waiting has become pointless, because the server died.
            observe: Called as soon as the window is known; returns when it is over.

        Returns:
            The outcome, and what *observe* returned. The sample file is there, with the requests of all processes.

        Raises:
            InvalidMeasurement: If a process fails, or is not done long after it should be.
        """
        parts = shares(order, len(self._processes))
        taking_part = self._processes[: len(parts)]

        def check_all() -> None:
            check()
            for each in taking_part if len(parts) > 1 else ():
                each.check_alive()

        for each, part in zip(taking_part, parts, strict=True):
            each.tell(part.to_line())
        window = common_window(LoadWindow.from_line(each.line(check_all, _PATIENCE_S)) for each in taking_part)
        if len(parts) > 1:
            for each in taking_part:
                each.tell(window.to_line())
        observed = observe(window)
        left_s = (window.end_ns - time.monotonic_ns()) / 1e9
        patience_s = left_s + order.drain_s + _PATIENCE_S
        outcomes = [LoadOutcome.from_line(each.line(check_all, patience_s)) for each in taking_part]
        if len(parts) > 1:
            files = [Path(part.samples) for part in parts]
            samples.write(Path(order.samples), samples.merged([samples.read(file) for file in files]))
            for file in files:
                file.unlink()
        return together(outcomes), observed


@contextlib.contextmanager
def load_generator(payloads: Path, tolerances: Tolerances, *, log: Path, processes: int = 1) -> Iterator[LoadGenerator]:
    """
    Run a generator for the block. Call it from the main thread.

    Args:
        payloads: Payload file (`slipway_wire.payloads`).
        tolerances: How near answers must come; kept beside the payloads, for whoever sends them again.
        log: Gets what it complains of.
        processes: How many make each load together.
    """
    near = payloads.with_suffix(TOLERANCES_SUFFIX)
    near.write_bytes(tolerances.to_json())
    argv = [sys.executable, "-I", "-W", "ignore", "-m", "slipway_loadtests"]
    argv += ["--payloads", str(payloads), "--tolerances", str(near)]
    with log.open("wb") as complaints:
        started: list[_Process] = []
        try:
            # Those that had been started before one could not be are in the list all the same, and end.
            started.extend(_Process(procs.start_owned(argv, log=complaints, talk=True), log) for _ in range(processes))
            yield LoadGenerator(started)
        finally:
            with procs.signals_ignored():
                _stop([each.process for each in started])


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    # All are told before one is waited for.
    for process in processes:
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
    for process in processes:
        assert process.stdout is not None
        procs.stop_group(process, _STOP_GRACE_S)
        process.stdout.close()
