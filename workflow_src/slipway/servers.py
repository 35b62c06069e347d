"""
A server that runs here, as a context manager: started, waited for, watched, stopped, and never left behind.

Launch and benchmark both work with it. It knows the server by its flags, its REST status and its signals
alone: any server with TensorFlow Serving's interface would do.
"""

import contextlib
import http.client
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from slipway import engines, guardian, procs
from slipway.engines import Engine
from slipway.errors import EngineError, ServerError
from slipway.oci import serving_config
from slipway.oci.layout import read_layer_files
from slipway.records import EngineRecord, ImageRecord, Protocol
from slipway.security import OPEN, Security, headers, http_connection
from slipway.settings import LaunchSettings
from slipway_wire.paths import rest_path

HOST = "127.0.0.1"
# Until the port opens a try costs microseconds; afterwards the server answers in about one millisecond.
_POLL_S = 0.005
_TAIL_LINES = 8
# Below are ports that services are known by.
_LEAST_OWN_PORT = 12_000
_PORTS_A_PROCESS = 256
_tried = itertools.count()


@dataclass(frozen=True, slots=True)
class ServerSpec:
    """
    Which server to run.

    Attributes:
        model: Name of the model.
        image_layout: OCI layout of the image; None, with `image`: a plain local process.
        image: What the image stage recorded.
        servable_root: Base path of the model; used by a plain local process alone, the image has its own.
        settings: Engine, limits, time limits.
        flags: More server flags; they win over the image's own.
        cpus: CPUs it may use, as in `0,2-3`; None: all.
        python: Interpreter of a plain local process, with the server that it finds; None: this one.
    """

    model: str
    image_layout: Path | None
    image: ImageRecord | None
    servable_root: Path
    settings: LaunchSettings
    flags: tuple[str, ...] = ()
    cpus: str | None = None
    python: Path | None = None

    def versions(self) -> list[int]:
        """List the versions it will serve, lowest first: of those in the image, what its configuration asks for."""
        if self.image is not None:
            # An image without a configuration of its own serves all that is in it.
            if self.image_layout is None or not any(layer.name == "config" for layer in self.image.layers):
                return sorted(self.image.versions)
            config = read_layer_files(self.image_layout, self.image, "config", serving_config.DIRECTORY)
            return serving_config.served_versions(config, self.image.versions)
        return sorted(int(path.name) for path in self.servable_root.iterdir() if path.name.isdigit())

    def labels(self) -> dict[str, int]:
        """Read which labels versions have in the image's configuration: label -> version."""
        if self.image is None or self.image_layout is None:
            return {}
        if not any(layer.name == "config" for layer in self.image.layers):
            return {}
        config = read_layer_files(self.image_layout, self.image, "config", serving_config.DIRECTORY)
        return serving_config.labels(config)


@dataclass(slots=True)
class RunningServer:
    """
    A server all of whose versions are AVAILABLE.

    Attributes:
        host: Where it listens.
        rest_port: REST port there.
        grpc_port: gRPC port there.
        engine: What runs it.
        started: `time.perf_counter()` just before the start.
        ready_s: From then until every version was AVAILABLE and both ports were open.
        versions: Version -> state, as the server reported it.
    """

    host: str
    rest_port: int
    grpc_port: int
    engine: EngineRecord
    started: float
    log: Path
    settings: LaunchSettings
    ready_s: float = 0.0
    versions: dict[int, str] = field(default_factory=dict)
    _process: subprocess.Popen[bytes] = field(kw_only=True)
    _find_first_pid: Callable[[], int | None] = field(kw_only=True)
    _kill: Callable[[], None] = field(kw_only=True)
    _first_pid: int | None = None
    _stopped: tuple[int, float] | None = None

    def addresses(self) -> dict[Protocol, tuple[str, int]]:
        """Give host and port of each protocol."""
        return {"rest": (self.host, self.rest_port), "grpc": (self.host, self.grpc_port)}

    def protection(self) -> dict[Protocol, Security]:
        """Say how connections are protected: on this host they are plain."""
        return {}

    def pids(self) -> list[int]:
        """List the host's ids of the server's processes; [] once it is gone."""
        first = self._server_pid()
        if first is None or self._process.poll() is not None:
            return []
        try:
            process = psutil.Process(first)
            return [first, *(child.pid for child in process.children(recursive=True))]
        except psutil.NoSuchProcess:
            return []

    def check_alive(self) -> None:
        """Raise ServerError, with the last lines it logged, if the server has died."""
        if self._process.poll() is not None and self._stopped is None:
            raise ServerError(
                f"The server died with exit code {exit_code(self._process.returncode)}. {self._last_words()}"
            )

    def stop(self) -> tuple[int, float]:
        """
        End the server: SIGTERM, `stop_timeout_s` seconds of patience, then SIGKILL. Once; later calls repeat the answer.

        Returns:
            Exit code (128 + n if signal n ended it) and seconds from SIGTERM to the end of its process.
        """
        if self._stopped is None:
            with procs.signals_ignored():
                self._stopped = self._stop()
        return self._stopped

    def _stop(self) -> tuple[int, float]:
        first = self._server_pid()
        began = time.perf_counter()
        if self._process.poll() is None:
            # An engine's foreground client hands SIGTERM on to the container.
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)
            while self._process.poll() is None and (first is None or psutil.pid_exists(first)):
                if time.perf_counter() - began > self.settings.stop_timeout_s:
                    self._kill()
                    break
                time.sleep(_POLL_S)
        took = time.perf_counter() - began
        # What follows is the engine's tidying up, not the server's end.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(self.settings.stop_timeout_s)
        return exit_code(procs.stop_group(self._process, grace_s=0)), took

    def _server_pid(self) -> int | None:
        if self._first_pid is None:
            self._first_pid = self._find_first_pid()
        return self._first_pid

    def _last_words(self) -> str:
        return f"Its log: {self.log}; its last lines:\n{textwrap.indent(log_tail(self.log), '    ')}"

    def _wait_until_ready(self, model: str, versions: list[int]) -> None:
        deadline = self.started + self.settings.ready_timeout_s
        seen = "no answer on its REST port"
        while time.perf_counter() < deadline:
            self.check_alive()
            states = version_states(self.host, self.rest_port, model)
            if states is not None:
                seen = ", ".join(f"{v}: {s}" for v, s in sorted(states.items())) or f"no version of {model}"
                if ended := [v for v in versions if states.get(v, "").startswith("END")]:
                    raise ServerError(
                        f"{model} version {ended[0]} did not load: {states[ended[0]]}. {self._last_words()}"
                    )
                if all(states.get(v) == "AVAILABLE" for v in versions) and _accepts(self.host, self.grpc_port):
                    self.ready_s = time.perf_counter() - self.started
                    self.versions = states
                    return
            time.sleep(_POLL_S)
        raise ServerError(
            f"The server was not ready within {self.settings.ready_timeout_s:g} s (launch.ready_timeout_s); "
            f"last seen: {seen}. {self._last_words()}"
        )


@contextlib.contextmanager
def running_server(spec: ServerSpec, *, log: Path) -> Iterator[RunningServer]:
    """
    Run a server for the block. Call it from the main thread.

    Args:
        spec: Which.
        log: Gets what the server writes; an older file is replaced.

    Raises:
        ServerError: If the server dies before it is ready, cannot load a version, or is not ready in time.
        EngineError: If the settings name an engine that does not work here.
    """
    with contextlib.ExitStack() as cleanup:
        server = _start(spec, log, cleanup)
        try:
            server._wait_until_ready(spec.model, spec.versions())  # noqa: SLF001 - one module, one object
            yield server
        finally:
            server.stop()


def _start(spec: ServerSpec, log: Path, cleanup: contextlib.ExitStack) -> RunningServer:
    log.parent.mkdir(parents=True, exist_ok=True)
    output = cleanup.enter_context(log.open("wb", buffering=0))
    rest_port, grpc_port = free_ports(2)
    flags = (f"--port={grpc_port}", f"--rest_api_port={rest_port}", f"--bind_address={HOST}", *spec.flags)
    engine, record = None, engines.process_record({})
    if spec.image is not None and spec.image_layout is not None:
        engine, record = engines.find_engine(spec.image_layout, spec.image, spec.settings)
        if engine is not None:
            # Again: meanwhile another run may have replaced the image of this name.
            engines.load(engine, spec.image_layout, spec.image)
    started = time.perf_counter()
    if engine is None:
        process = procs.start_owned(_process_argv(spec, flags, cleanup), log=output.fileno())
        find_first_pid: Callable[[], int | None] = lambda: process.pid  # noqa: E731
        kill = process.kill
    else:
        assert spec.image is not None
        process, find_first_pid, kill = _start_container(engine, spec, spec.image, flags, output.fileno(), cleanup)
    return RunningServer(
        host=HOST,
        rest_port=rest_port,
        grpc_port=grpc_port,
        engine=record,
        started=started,
        log=log,
        settings=spec.settings,
        _process=process,
        _find_first_pid=find_first_pid,
        _kill=kill,
    )


def _start_container(
    engine: Engine,
    spec: ServerSpec,
    image: ImageRecord,
    flags: tuple[str, ...],
    output: int,
    cleanup: contextlib.ExitStack,
) -> tuple[subprocess.Popen[bytes], Callable[[], int | None], Callable[[], None]]:
    name = f"slipway-{spec.model}-{uuid.uuid4().hex[:12]}"
    # Whether the container still exists at the end or not: the guardian sees to it.
    cleanup.enter_context(guardian.guarded(engines.remove_argv(engine, name), at_exit=True))
    process = procs.start_owned(
        engines.run_argv(
            engine,
            image.image_id.removeprefix("sha256:"),
            name=name,
            owned_by=engines.owner(),
            settings=spec.settings,
            arguments=flags,
            cpus=spec.cpus,
        ),
        log=output,
    )
    return process, lambda: engines.host_pid(engine, name), lambda: _kill_container(engine, name)


def _kill_container(engine: Engine, name: str) -> None:
    with contextlib.suppress(EngineError):
        engines.call(engine.command("kill", "--signal=KILL", name))


def _process_argv(spec: ServerSpec, flags: tuple[str, ...], cleanup: contextlib.ExitStack) -> list[str]:
    """Make the command of a plain local process, with the image's own configuration if there is an image."""
    base_path = str(spec.servable_root.absolute())
    configured = [f"--model_name={spec.model}", f"--model_base_path={base_path}"]
    if spec.image is not None and spec.image_layout is not None:
        directory = cleanup.enter_context(tempfile.TemporaryDirectory(prefix="slipway-config-"))
        inside = read_layer_files(spec.image_layout, spec.image, "config", serving_config.DIRECTORY)
        outside = serving_config.moved(inside, spec.model, directory, base_path)
        for name, content in outside.items():
            Path(directory, name).write_bytes(content)
        flags_inside = outside[serving_config.FLAGS].decode().splitlines()
        configured = [f"--model_config_file={directory}/{serving_config.MODELS_CONFIG}", *flags_inside]
    pinned = ["taskset", "--cpu-list", spec.cpus] if spec.cpus is not None else []
    return [*pinned, str(spec.python or sys.executable), "-I", "-m", "slipway_server", *configured, *flags]


# --- looking at a server ---------------------------------------------------------------------------


def free_ports(count: int) -> list[int]:
    """
    Find *count* different TCP ports that nobody listens on at `HOST`.

    They lie below those that the kernel hands out, each process in a place of its own: until a server has bound them, nobody
    is given them by chance.

    Raises:
        ServerError: Nothing can be bound at `HOST`.
    """
    refusal = None
    with contextlib.ExitStack() as held:
        found: list[int] = []
        for port in itertools.chain(_own_ports(), itertools.repeat(0, count)):
            if len(found) == count:
                break
            one = socket.socket()
            try:
                one.bind((HOST, port))
            except OSError as error:
                one.close()
                refusal = error
                continue
            held.enter_context(one)
            found.append(int(one.getsockname()[1]))
    if len(found) < count:
        raise ServerError(f"{HOST}: no port to listen on can be bound ({refusal}).")
    return found


def _own_ports() -> Iterator[int]:
    """Give ports to try: those below the kernel's own range, from a place on that the process id says, once each."""
    try:
        first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    except (OSError, ValueError):
        return
    ports = range(_LEAST_OWN_PORT, first)
    for _ in ports:
        yield ports[(os.getpid() * _PORTS_A_PROCESS + next(_tried)) % len(ports)]


def version_states(host: str, rest_port: int, model: str, security: Security = OPEN) -> dict[int, str] | None:
    """
    Ask `GET /v1/models/{model}`.

    Returns:
        Version -> state (a version that ended with an error: `END (message)`); None if there is no answer.
    """
    connection = http_connection(host, rest_port, security, timeout_s=2)
    try:
        connection.request("GET", rest_path(model, "status"), headers=headers(rest_port, security))
        answer = json.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
    return {int(one["version"]): _state(one) for one in answer.get("model_version_status", [])}


def _state(status: dict[str, object]) -> str:
    problem = status.get("status")
    message = problem.get("error_message") if isinstance(problem, dict) else ""
    return f"{status['state']} ({message})" if message else str(status["state"])


def _accepts(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def exit_code(returncode: int) -> int:
    """Turn a `Popen.returncode` into a shell's exit code: 128 + n for signal n."""
    return returncode if returncode >= 0 else 128 - returncode


def log_tail(path: Path, lines: int = _TAIL_LINES) -> str:
    """Give the last *lines* lines of *path* that are not empty."""
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    return "\n".join([line for line in text.splitlines() if line.strip()][-lines:]) or "(it logged nothing)"
