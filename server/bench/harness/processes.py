"""The processes of a run: who serves, on which CPUs, and what they have used."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

WAIT_S = 120.0
BENCH = Path(__file__).parents[1]


class NoAnswer(SystemExit):
    """A server does not start, does not answer, or answers wrong: ours ends the run, another's cell is left out of it."""


def cpu_s(pid: int) -> float:
    """
    CPU seconds of all threads of *pid* and of its children, in nanosecond steps.

    Threads and processes that ended since are not in it.
    """
    total = 0
    for process in (pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))):
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{process}/task").iterdir():
                with contextlib.suppress(OSError):
                    total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port: int = bound.getsockname()[1]
        return port


@dataclass
class Started:
    """A process that serves, with those that it started itself."""

    process: subprocess.Popen[bytes]
    grpc_port: int = 0
    rest_port: int = 0
    has_metrics: bool = False


class Servers:
    """All servers of a run; they end with it."""

    def __init__(self, directory: Path, cpus: Sequence[int]) -> None:
        """Keep logs in *directory*; *cpus*: where pinned servers run."""
        self.directory = directory
        self._cpus = cpus
        self._all: list[subprocess.Popen[Any]] = []
        self._scratch: tempfile.TemporaryDirectory[str] | None = None

    @property
    def scratch(self) -> Path:
        """Where servers may leave what nobody wants when they have ended; its path is short enough for Unix sockets."""
        if self._scratch is None:
            self._scratch = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        return Path(self._scratch.name)

    def start(
        self,
        name: str,
        arguments: Sequence[str],
        *,
        is_pinned: bool,
        python: str = sys.executable,
        environment: Mapping[str, str] | None = None,
        **options: Any,
    ) -> subprocess.Popen[Any]:
        """Start `PYTHON ARGUMENTS`; its log is NAME.log."""
        pin = ["taskset", "-c", ",".join(map(str, self._cpus))] if is_pinned else []
        with (self.directory / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [*pin, python, *arguments],
                stderr=log,
                env={
                    **os.environ,
                    "TF_CPP_MIN_LOG_LEVEL": "2",
                    "CUDA_VISIBLE_DEVICES": "",
                    **({"PYTHONPATH": str(BENCH)} if environment is None else environment),
                },
                start_new_session=True,
                **{"stdout": log, **options},
            )
        self._all.append(process)
        return process

    def inside(self, name: str, arguments: Sequence[str], *, is_pinned: bool, **options: Any) -> subprocess.Popen[Any]:
        """Start `inside.py ARGUMENTS`."""
        return self.start(name, ["-m", "harness.inside", *arguments], is_pinned=is_pinned, **options)

    def export(self, model: str) -> Path:
        """Write *model* in a process of its own, unless it is there; give its base path."""
        base_path = self.directory / "models" / model
        if not base_path.exists():
            process = self.inside(f"export-{model}", ["export", model, str(base_path / "1")], is_pinned=False)
            if process.wait() != 0:
                log = (self.directory / f"export-{model}.log").read_text()
                raise SystemExit(f"{model} could not be exported:\n{log[-3000:]}")
        return base_path

    def echo(self, kind: str, answer: bytes) -> Started:
        """Start an echo of *kind*, `grpc` or `rest`."""
        port = free_port()
        canned = self.directory / f"{kind}-{port}.answer"
        canned.write_bytes(answer)
        process = self.inside(f"echo-{kind}-{port}", ["echo", kind, str(canned), str(port)], is_pinned=True)
        self.wait_for_port(process, port, f"echo-{kind}-{port}")
        return Started(process, grpc_port=port, rest_port=port)

    def caller(
        self,
        base_path: Path,
        model: str,
        which: str,
        callers: int,
        seconds: float,
        *,
        is_pinned: bool,
        rows: int = 0,
        count: int = 0,
        is_frozen: bool = False,
    ) -> Callable[[], dict[str, float]]:
        """
        Start a process that calls *model* itself; give what measures it once.

        Args:
            base_path: Of the model.
            model: Its name.
            which: Question that is asked.
            callers: Threads.
            seconds: For how long.
            is_pinned: Whether it has the servers' CPUs alone.
            rows: Of each call; 0: as it is asked.
            count: Calls of each caller, instead of a time.
            is_frozen: Whether variables become constants.
        """
        name = f"in-process-{model}-{callers}-{rows}{'-frozen' if is_frozen else ''}"
        more = [f"--count={count}", *(["--frozen"] if is_frozen else [])]
        process = self.inside(
            name,
            ["call", model, which, str(base_path / "1"), str(seconds), str(callers), str(rows), *more],
            is_pinned=is_pinned,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

        def line() -> str:
            assert process.stdout is not None
            if not (line := process.stdout.readline()):
                raise SystemExit(f"{name} ended; its log is in {self.directory} (kept with --output)")
            return str(line)

        def measure() -> dict[str, float]:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
            found: dict[str, float] = json.loads(line())
            return found

        line()  # else its warm-up would be in somebody's measurement
        return measure

    def slipway(
        self,
        name: str,
        models: Mapping[str, Path],
        flags: Sequence[str],
        *,
        is_pinned: bool,
        checkout: Path | None = None,
    ) -> Started:
        """Start the server with *models*: that of another *checkout*, or the one that is installed."""
        ready = self.directory / f"{name}.ready"
        ready.unlink(missing_ok=True)
        config = self.directory / f"{name}.config"
        entries = (
            f'config {{ name: "{key}" base_path: "{path}" model_platform: "tensorflow" }}'
            for key, path in models.items()
        )
        config.write_text("model_config_list { " + " ".join(entries) + " }")
        monitoring = self.directory / "monitoring.config"
        monitoring.write_text("prometheus_config { enable: true }")
        process = self.start(
            name,
            [
                *("-m", "slipway_server", "--port=auto", "--rest_api_port=auto", "--bind_address=127.0.0.1"),
                *(f"--ready_file={ready}", f"--model_config_file={config}", f"--monitoring_config_file={monitoring}"),
                *flags,
            ],
            is_pinned=is_pinned,
            environment=None if checkout is None else {"PYTHONPATH": str(checkout / "server")},
        )
        self.wait_for(process, ready.exists, name)
        found = json.loads(ready.read_text())
        return Started(process, found["grpc_port"], found["rest_port"], has_metrics=True)

    def end(self, process: subprocess.Popen[Any]) -> None:
        """End *process* and whatever it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self._all.remove(process)

    def close(self) -> None:
        """End all, and remove what they left."""
        for process in list(self._all):
            self.end(process)
        if self._scratch is not None:
            self._scratch.cleanup()
            self._scratch = None

    def wait_for_port(self, process: subprocess.Popen[Any], port: int, what: str) -> None:
        """Wait until somebody listens on *port*."""

        def is_open() -> bool:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                return True
            return False

        self.wait_for(process, is_open, what)

    def wait_for(self, process: subprocess.Popen[Any], is_ready: Callable[[], bool], what: str) -> None:
        """Wait for *process*, which is *what*; its end, or two minutes, is an error that shows the end of its log."""
        deadline = time.monotonic() + WAIT_S
        while not is_ready():
            if process.poll() is not None or time.monotonic() > deadline:
                log = (self.directory / f"{what}.log").read_text(errors="replace")
                raise NoAnswer(f"{what} did not start. The end of its log:\n{log[-2000:]}")
            time.sleep(0.05)
