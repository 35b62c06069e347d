"""
What the server adds to a model call: CPU per request and throughput, next to an echo and to the call in one process.

    python server/bench/overhead.py [--quick] [--rounds=5] [--seconds=5] [--output=DIRECTORY]

Needs `wrk` and `h2load` (Debian: apt-get install wrk nghttp2-client), TensorFlow, and for the compute-bound part Keras. Writes
`overhead.json` and `overhead.md`, and prints the latter.

Small requests (half_plus_two, a CNN of the size of the digits model): server on one CPU, load generator on the others; next to the
server an echo on grpc.aio and one on our own HTTP layer, which take the same requests and give answers of the same size, and the
same call in a process without any protocol. Compute-bound (ResNet50, batch 8): nothing is pinned, and the same calls are made in
the process that loaded the model. Large (224x224x3, batch 32): one request at a time, REST and gRPC in turn.

Everything is measured in rounds, each cell once a round, in an order that changes; a ratio is taken within its round, and the
median of rounds is told with the smallest and the largest. Ratios within one run are what counts: times move with the machine.
"""

import argparse
import asyncio
import contextlib
import importlib.util
import json
import os
import platform
import random
import re
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from slipway_wire import paths, predict

WAIT_S = 120.0
IN_FLIGHT = 64
HALF = "half_plus_two"
CNN, RESNET, LARGE = "digits_cnn", "resnet50", "large_input"
INPUT_SHAPES: dict[str, tuple[int, ...]] = {
    HALF: (1, 1),
    CNN: (1, 8, 8, 1),
    RESNET: (8, 224, 224, 3),
    LARGE: (32, 224, 224, 3),
}


# Models


def export(name: str, directory: Path) -> None:
    """Write SavedModel *name* with random weights; input `x`, float32, in a process of its own."""
    import tensorflow as tf  # noqa: PLC0415

    tf.random.set_seed(0)
    if name == RESNET:
        import keras  # noqa: PLC0415

        keras.applications.ResNet50(weights=None, name="resnet").export(str(directory), verbose=False)
        return

    class Model(tf.Module):  # type: ignore[misc]  # TensorFlow ships no types
        def __init__(self) -> None:
            super().__init__()
            shapes = ((3, 3, 1, 32), (3, 3, 32, 64), (1024, 64), (64, 10)) if name == CNN else ()
            self.weights = [tf.Variable(tf.random.normal(shape, stddev=0.05)) for shape in shapes]

        @tf.function(input_signature=[tf.TensorSpec((None, *INPUT_SHAPES[name][1:]), tf.float32, "x")])  # type: ignore[untyped-decorator]
        def __call__(self, x: Any) -> Any:
            if name == HALF:
                return {"y": x / 2 + 2}
            if name == LARGE:
                # Little to compute, all of the input to move.
                return {"y": tf.reduce_max(x, axis=(1, 2, 3))}
            for kernel in self.weights[:2]:
                x = tf.nn.relu(tf.nn.conv2d(x, kernel, 1, "SAME"))
            x = tf.reshape(tf.nn.max_pool2d(x, 2, 2, "VALID"), (-1, 1024))
            return {"y": tf.nn.relu(x @ self.weights[2]) @ self.weights[3]}

    model = Model()
    tf.saved_model.save(model, str(directory), signatures={"serving_default": model.__call__})


def images(name: str) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Make an input of *name*: pixels, k / 255, so that JSON is as long as it is in practice."""
    pixels = np.random.default_rng(0).integers(0, 256, INPUT_SHAPES[name])
    return (pixels / 255).astype(np.float32)


# Servers: started by this script with --serve, but for the one that is measured.


def serve_grpc_echo(answer: bytes, port: int) -> None:
    """Answer every call with *answer* on grpc.aio, with the least that takes."""
    import grpc  # noqa: PLC0415

    async def echo(body: bytes, context: object) -> bytes:
        return answer

    async def run() -> None:
        server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)])
        handler = grpc.unary_unary_rpc_method_handler(echo)
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(paths.PREDICTION_SERVICE, {"Predict": handler}),)
        )
        server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        await server.wait_for_termination()

    import uvloop  # noqa: PLC0415

    uvloop.run(run())


def serve_http_echo(answer: bytes, port: int) -> None:
    """Answer every request with *answer* on httptools and uvloop, with the least that takes."""
    import httptools  # noqa: PLC0415
    import uvloop  # noqa: PLC0415

    whole = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(answer), answer)

    class Echo(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport
            self.parser = httptools.HttpRequestParser(self)

        def data_received(self, data: bytes) -> None:
            self.parser.feed_data(data)

        def on_url(self, url: bytes) -> None:
            pass

        def on_header(self, name: bytes, value: bytes) -> None:
            pass

        def on_body(self, body: bytes) -> None:
            pass

        def on_message_complete(self) -> None:
            self.transport.write(whole)  # type: ignore[attr-defined]

    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", port, backlog=1024)
        await server.serve_forever()

    uvloop.run(run())


def in_process(directory: Path, name: str, seconds: float, callers: int) -> None:
    """Call the model of *directory* for *seconds* from *callers* threads, as the server calls it; print calls/s and CPU µs."""
    from slipway_server.backends.saved_model import SavedModelLoader  # noqa: PLC0415
    from slipway_server.servables.loader import Call  # noqa: PLC0415

    servable = SavedModelLoader(directory).load()
    (signature,) = (one for key, one in servable.signatures.items() if key == "serving_default")
    (alias,) = signature.inputs
    call = Call("serving_default", {alias: images(name)}, tuple(signature.outputs))

    def repeat(until: float) -> int:
        calls = 0
        while time.monotonic() < until:
            servable.run(call)
            calls += 1
        return calls

    repeat(time.monotonic() + min(seconds, 1.0))
    for line in sys.stdin:
        if not line.strip():
            break
        began, used = time.monotonic(), time.process_time()
        with ThreadPoolExecutor(callers) as pool:
            calls = sum(pool.map(repeat, [began + seconds] * callers))
        took, used = time.monotonic() - began, time.process_time() - used
        print(json.dumps({"per_s": calls / took, "cpu_us": 1e6 * used / calls}), flush=True)  # noqa: T201
    servable.close()


# Processes


def cpu_s(pid: int) -> float:
    """CPU seconds of all threads of *pid*, in nanosecond steps; threads that ended since are not in it."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
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
    """A process that serves."""

    process: subprocess.Popen[bytes]
    grpc_port: int = 0
    rest_port: int = 0
    has_metrics: bool = False


class Servers:
    """All servers of a run; they end with it."""

    def __init__(self, directory: Path, cpus: Sequence[int]) -> None:
        """Keep logs in *directory*; *cpus*: where pinned servers run."""
        self._directory = directory
        self._cpus = cpus
        self._all: list[subprocess.Popen[Any]] = []

    def start(self, name: str, arguments: Sequence[str], *, is_pinned: bool, **options: Any) -> subprocess.Popen[Any]:
        """Start `python ARGUMENTS`; its log is NAME.log."""
        pin = ["taskset", "-c", ",".join(map(str, self._cpus))] if is_pinned else []
        with (self._directory / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [*pin, sys.executable, *arguments],
                stderr=log,
                env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": ""},
                **{"stdout": log, **options},
            )
        self._all.append(process)
        return process

    def echo(self, kind: str, answer: bytes) -> Started:
        """Start an echo of *kind*, `grpc` or `rest`."""
        port = free_port()
        canned = self._directory / f"{kind}-{port}.answer"
        canned.write_bytes(answer)
        process = self.start(
            f"echo-{kind}-{port}",
            [__file__, f"--serve={kind}-echo", f"--answer={canned}", f"--port={port}"],
            is_pinned=True,
        )
        self._wait_for_port(process, port)
        return Started(process, grpc_port=port, rest_port=port)

    def slipway(self, name: str, models: Mapping[str, Path], flags: Sequence[str], *, is_pinned: bool) -> Started:
        """Start the server with *models*."""
        ready = self._directory / f"{name}.ready"
        ready.unlink(missing_ok=True)
        config = self._directory / f"{name}.config"
        entries = (
            f'config {{ name: "{key}" base_path: "{path}" model_platform: "tensorflow" }}'
            for key, path in models.items()
        )
        config.write_text("model_config_list { " + " ".join(entries) + " }")
        monitoring = self._directory / "monitoring.config"
        monitoring.write_text("prometheus_config { enable: true }")
        process = self.start(
            name,
            [
                *("-m", "slipway_server", "--port=auto", "--rest_api_port=auto", "--bind_address=127.0.0.1"),
                *(f"--ready_file={ready}", f"--model_config_file={config}", f"--monitoring_config_file={monitoring}"),
                *flags,
            ],
            is_pinned=is_pinned,
        )
        deadline = time.monotonic() + WAIT_S
        while not ready.exists():
            self._check(process, deadline, name)
        found = json.loads(ready.read_text())
        return Started(process, found["grpc_port"], found["rest_port"], has_metrics=True)

    def close(self) -> None:
        """End all."""
        for process in self._all:
            process.kill()
            process.wait()

    def _wait_for_port(self, process: subprocess.Popen[Any], port: int) -> None:
        deadline = time.monotonic() + WAIT_S
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                return
            self._check(process, deadline, f"the echo on port {port}")

    def _check(self, process: subprocess.Popen[Any], deadline: float, what: str) -> None:
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"{what} did not start; its log is in {self._directory} (kept with --output)")
        time.sleep(0.05)


# Load


@dataclass(frozen=True)
class Request:
    """What is sent again and again, in both protocols."""

    model: str
    rest: Path
    """A Lua script for wrk."""
    grpc: Path
    """A message with its five bytes in front."""


def requests_for(model: str, alias: str, directory: Path) -> Request:
    """Write the files that the load generators read."""
    x = images(model)
    body = json.dumps({"instances": x.tolist()}, separators=(",", ":")).encode()
    rest = directory / f"{model}.lua"
    json_file = directory / f"{model}.json"
    json_file.write_bytes(body)
    rest.write_text(
        f'local file = io.open("{json_file}", "rb")\nwrk.method = "POST"\nwrk.body = file:read("*a")\nfile:close()\n'
        'wrk.headers["Content-Type"] = "application/json"\n'
    )
    message = predict.encode_request(model, {alias: x})
    grpc = directory / f"{model}.grpc"
    grpc.write_bytes(b"\0" + struct.pack(">I", len(message)) + message)
    return Request(model, rest, grpc)


def load(command: Sequence[str], cpus: Sequence[int], seconds: float) -> tuple[str, float]:
    """Run a load generator on *cpus*; give its output and the share of a CPU that it used."""
    before = os.times()
    began = time.monotonic()
    done = subprocess.run(
        ["taskset", "-c", ",".join(map(str, cpus)), *command],
        capture_output=True,
        text=True,
        timeout=seconds + WAIT_S,
        check=False,
    )
    took = time.monotonic() - began
    after = os.times()
    if done.returncode != 0:
        raise SystemExit(f"{command[0]} failed: {(done.stderr or done.stdout).strip()}")
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return done.stdout, used / took


_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


def good_answers(server: Started, model: str) -> float:
    """Ask the server how many requests for *model* it has answered OK; 0 if it does not count."""
    if not server.has_metrics:
        return 0
    with urllib.request.urlopen(
        f"http://127.0.0.1:{server.rest_port}/monitoring/prometheus/metrics", timeout=WAIT_S
    ) as answer:
        lines = answer.read().decode().splitlines()
    start = f':tensorflow:serving:request_count{{model_name="{model}",status="OK"'
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(start))


def drive(
    protocol: str,
    server: Started,
    request: Request,
    seconds: float,
    cpus: Sequence[int],
    in_flight: int,
    count: int = 0,
) -> dict[str, float]:
    """
    Keep *in_flight* requests going, and give requests/s, server CPU µs per request and the generator's CPU share.

    Args:
        protocol: `rest` or `grpc`.
        server: Where to.
        request: What.
        seconds: For how long, unless *count* says how many.
        cpus: Where the generator runs.
        in_flight: At once.
        count: gRPC: requests in all. With few a second, those cut off at the end of a time would matter.
    """
    answered, used = good_answers(server, request.model), cpu_s(server.process.pid)
    if protocol == "rest":
        url = f"http://127.0.0.1:{server.rest_port}/v1/models/{request.model}:predict"
        command = ["wrk", "-t1", f"-c{in_flight}", f"-d{seconds:g}s", "-s", str(request.rest), "--timeout", "60s", url]
        output, share = load(command, cpus, seconds)
        found = re.search(r"(\d+) requests in ([\d.]+)(ms|s|m)", output)
        if found is None or "Non-2xx" in output or "Socket errors" in output:
            raise SystemExit(f"wrk was not answered well:\n{output}")
        count, took = int(found[1]), float(found[2]) * _SECONDS[found[3]]
    else:
        url = f"http://127.0.0.1:{server.grpc_port}{paths.GRPC_PREDICT}"
        connections = min(in_flight, 8)
        command = [
            "h2load",
            "-t1",
            f"-c{connections}",
            f"-m{in_flight // connections}",
            "-w24",
            "-W24",
            f"-d{request.grpc}",
        ]
        command += [f"-n{count}"] if count else ["-D", f"{seconds:g}"]
        command += ["-H", "content-type: application/grpc", "-H", "te: trailers", url]
        output, share = load(command, cpus, seconds)
        found = re.search(r"finished in ([\d.]+)(us|ms|s|m)", output)
        totals = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", output)
        if found is None or totals is None or any(int(totals[index]) for index in (2, 3, 4)):
            raise SystemExit(f"h2load was not answered well:\n{output}")
        # With -D what counts came within the time asked for; it takes a moment longer to end.
        took = float(found[1]) * _SECONDS[found[2]] if count else seconds
        count = int(totals[1])
    used = cpu_s(server.process.pid) - used
    # To h2load every gRPC error is a success.
    if server.has_metrics and good_answers(server, request.model) - answered < count:
        raise SystemExit(f"{request.model} over {protocol}: not all of {count} requests were answered well")
    return {"per_s": count / took, "cpu_us": 1e6 * used / max(count, 1), "generator_cpu": share}


# Measurement


@dataclass
class Cell:
    """What is measured once a round."""

    name: str
    measure: Callable[[], dict[str, float]]
    rounds: list[dict[str, float]] = field(default_factory=list)


def run_rounds(cells: Sequence[Cell], rounds: int, told: Callable[[str], None]) -> None:
    """Measure every cell once a round, in an order that changes."""
    order = random.Random(0)  # noqa: S311  # a shuffle, no secret
    for number in range(rounds):
        for cell in order.sample(cells, len(cells)):
            cell.rounds.append(cell.measure())
            told(f"round {number + 1}/{rounds}: {cell.name}: {cell.rounds[-1]}")


def spread(values: Sequence[float]) -> dict[str, float]:
    """Give median, smallest and largest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def ratio(cells: Mapping[str, Cell], above: str, below: str, key: str) -> dict[str, float]:
    """Give the spread of `above / below`, each taken within its round."""
    pairs = zip(cells[above].rounds, cells[below].rounds, strict=True)
    return spread([one[key] / other[key] for one, other in pairs])


def grpc_call(server: Started, model: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Ask once, with grpcio, and give the outputs: what load generators do not read is right."""
    import grpc  # noqa: PLC0415

    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}", options=_UNLIMITED) as channel:
        answer = channel.unary_unary(paths.GRPC_PREDICT)(predict.encode_request(model, inputs), timeout=WAIT_S)
    return dict(predict.decode_response(answer)[1])


_UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def latencies(server: Started, model: str, alias: str, repeats: int) -> dict[str, float]:
    """Send the large input *repeats* times over each protocol, in turn; give p50 in ms of both and their ratio."""
    import http.client  # noqa: PLC0415

    import grpc  # noqa: PLC0415

    x = images(LARGE)
    # The shortest digits that read back to the same float32; those of doubles would be twice as many.
    body = b'{"inputs":%b}' % orjson.dumps(x, option=orjson.OPT_SERIALIZE_NUMPY)
    message = predict.encode_request(model, {alias: x})
    took: dict[str, list[float]] = {"rest": [], "grpc": []}
    with contextlib.ExitStack() as cleanup:
        channel = cleanup.enter_context(grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}", options=_UNLIMITED))
        connection = cleanup.enter_context(
            contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=WAIT_S))
        )

        def over_rest() -> None:
            connection.request("POST", f"/v1/models/{model}:predict", body)
            answer = connection.getresponse()
            content = answer.read()
            if answer.status != 200:
                raise SystemExit(f"REST answered {answer.status}: {content[:500]!r}")

        def over_grpc() -> None:
            channel.unary_unary(paths.GRPC_PREDICT)(message, timeout=WAIT_S)

        for number in range(repeats + 1):
            for protocol, call in (("rest", over_rest), ("grpc", over_grpc)):
                began = time.perf_counter()
                call()
                if number:
                    took[protocol].append(1e3 * (time.perf_counter() - began))
    p50 = {name: statistics.median(values) for name, values in took.items()}
    return {
        "rest_ms": p50["rest"],
        "grpc_ms": p50["grpc"],
        "ratio": p50["rest"] / p50["grpc"],
        "json_mb": len(body) / 1e6,
    }


def grpc_transports() -> list[str]:
    """List the transports that this server can choose from."""
    usage = subprocess.run(
        [sys.executable, "-m", "slipway_server", "--help"], capture_output=True, text=True, check=False
    ).stdout
    return ["slipway", "grpcio"] if "--grpc_transport" in usage else [""]


@dataclass(frozen=True)
class Target:
    """A ratio or a number that is aimed at."""

    name: str
    found: Mapping[str, float]
    wanted: float
    is_at_least: bool = True

    @property
    def is_met(self) -> bool:
        """Say whether the median meets it."""
        median = self.found["median"]
        return median >= self.wanted if self.is_at_least else median <= self.wanted


def _processor() -> str:
    """Name the CPU as the kernel does."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


class Bench:
    """One run."""

    def __init__(self, arguments: argparse.Namespace, directory: Path) -> None:
        self._arguments = arguments
        self._directory = directory
        cpus = sorted(os.sched_getaffinity(0))
        self._server_cpus, self._client_cpus = cpus[:1], cpus[1:] or cpus
        self._all_cpus = cpus
        self.servers = Servers(directory, self._server_cpus)
        self.targets: list[Target] = []
        self.results: dict[str, Any] = {
            "environment": {
                "cpus": len(cpus),
                "machine": _processor(),
                "python": platform.python_version(),
                "kernel": platform.release(),
                "load_1m_at_start": os.getloadavg()[0],
            },
            "rounds": arguments.rounds,
            "seconds": arguments.seconds,
            "in_flight": IN_FLIGHT,
        }

    def told(self, line: str) -> None:
        """Say how far it is, on stderr."""
        sys.stderr.write(f"{line}\n")

    def export(self, name: str) -> Path:
        """Export *name* in a process of its own; give its base path."""
        base_path = self._directory / "models" / name
        if base_path.exists():
            return base_path
        self.told(f"exporting {name}")
        process = self.servers.start(
            f"export-{name}", [__file__, f"--export={name}", f"--answer={base_path / '1'}"], is_pinned=False
        )
        if process.wait() != 0:
            log = (self._directory / f"export-{name}.log").read_text()
            raise SystemExit(f"{name} could not be exported:\n{log[-3000:]}")
        return base_path

    def alias(self, server: Started, model: str) -> str:
        """Ask the server what the model's input is called."""
        url = f"http://127.0.0.1:{server.rest_port}/v1/models/{model}/metadata"
        with urllib.request.urlopen(url, timeout=WAIT_S) as answer:  # http, to ourselves
            signatures = json.load(answer)["metadata"]["signature_def"]["signature_def"]
        (alias,) = signatures["serving_default"]["inputs"]
        return str(alias)

    def _caller(
        self, base_path: Path, name: str, callers: int, seconds: float, *, is_pinned: bool
    ) -> Callable[[], dict[str, float]]:
        process = self.servers.start(
            f"in-process-{name}",
            [
                __file__,
                f"--in-process={name}",
                f"--answer={base_path / '1'}",
                f"--seconds={seconds}",
                f"--callers={callers}",
            ],
            is_pinned=is_pinned,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

        def measure() -> dict[str, float]:
            process.stdin.write("go\n")
            process.stdin.flush()
            line = process.stdout.readline()
            if not line:
                raise SystemExit(f"in-process-{name} ended; see its log in {self._directory}")
            found: dict[str, float] = json.loads(line)
            return found

        return measure

    def small(self) -> None:
        """half_plus_two and the CNN, a row at a time."""
        for model in (HALF, CNN):
            base_path = self.export(model)
            cells = dict(self._small_cells(model, base_path))
            run_rounds(list(cells.values()), self._arguments.rounds, self.told)
            self._add(model, cells)
            for name in cells:
                if name.startswith("grpc"):
                    self.targets.append(
                        Target(
                            f"{model}: {name} : grpc.aio echo, throughput",
                            ratio(cells, name, "echo grpc", "per_s"),
                            0.8,
                        )
                    )
            rest = spread([one["per_s"] for one in cells["rest"].rounds])
            if model == HALF:
                # One CPU is the server's, so requests/s are requests/s per core.
                self.targets.append(Target(f"{model}: REST requests/s on one core", rest, 30_000))

    def _small_cells(self, model: str, base_path: Path) -> Iterator[tuple[str, Cell]]:
        seconds, cpus = self._arguments.seconds, self._client_cpus
        flags = (
            ("--tensorflow_intra_op_parallelism=1", "--enable_batching")
            if self._arguments.batching
            else ("--tensorflow_intra_op_parallelism=1",)
        )
        for transport in grpc_transports():
            more = (f"--grpc_transport={transport}",) if transport else ()
            server = self.servers.slipway(
                f"{model}-{transport or 'server'}", {model: base_path}, (*flags, *more), is_pinned=True
            )
            alias = self.alias(server, model)
            request = requests_for(model, alias, self._directory)
            outputs = grpc_call(server, model, {alias: images(model)})
            if model == HALF and not np.array_equal(outputs["y"], images(model) / 2 + 2):
                raise SystemExit(f"the server's answer is wrong: {outputs}")
            name = f"grpc, {transport}" if transport else "grpc"
            yield name, Cell(name, partial(drive, "grpc", server, request, seconds, cpus, IN_FLIGHT))
            if transport in {"", "slipway"}:
                yield "rest", Cell("rest", partial(drive, "rest", server, request, seconds, cpus, IN_FLIGHT))
                spec = predict.decode_request(predict.encode_request(model, {}, version=1)).spec
                answers = {"grpc": predict.encode_response(spec, outputs), "rest": self._rest_answer(server, model)}
        for protocol, answer in answers.items():
            echo = self.servers.echo(protocol, answer)
            name = f"echo {protocol}"
            yield name, Cell(name, partial(drive, protocol, echo, request, seconds, cpus, IN_FLIGHT))
        yield "in process", Cell("in process", self._caller(base_path, model, 1, seconds, is_pinned=True))

    def _rest_answer(self, server: Started, model: str) -> bytes:
        import http.client  # noqa: PLC0415

        connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=WAIT_S)
        connection.request("POST", f"/v1/models/{model}:predict", (self._directory / f"{model}.json").read_bytes())
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        if answer.status != 200:
            raise SystemExit(f"{model} over REST: {answer.status} {content[:500]!r}")
        return content

    def compute_bound(self) -> None:
        """ResNet50, batch 8, over gRPC and in process, on all CPUs."""
        if importlib.util.find_spec("keras") is None:
            self.results["skipped"] = {RESNET: "Keras is not installed"}
            return
        base_path = self.export(RESNET)
        server = self.servers.slipway(RESNET, {RESNET: base_path}, (), is_pinned=False)
        request = requests_for(RESNET, self.alias(server, RESNET), self._directory)
        seconds = self._arguments.seconds if self._arguments.quick else 4 * self._arguments.seconds
        cells = {}
        for callers in (1, 2):
            remote, local = f"grpc, {callers} in flight", f"in process, {callers} callers"
            # A number, not a time: with a few calls a second, one that is cut off at the end would show.
            count = 4 * callers if self._arguments.quick else 40 * callers
            cells[remote] = Cell(
                remote, partial(drive, "grpc", server, request, seconds, self._all_cpus, callers, count)
            )
            cells[local] = Cell(local, self._caller(base_path, RESNET, callers, seconds, is_pinned=False))
        grpc_call(server, RESNET, {self.alias(server, RESNET): images(RESNET)})
        run_rounds(list(cells.values()), self._arguments.rounds, self.told)
        self._add(RESNET, cells)
        for callers in (1, 2):
            found = ratio(cells, f"grpc, {callers} in flight", f"in process, {callers} callers", "per_s")
            self.targets.append(
                Target(f"{RESNET}, batch 8, {callers} at once: gRPC : in process, throughput", found, 0.95)
            )

    def large(self) -> None:
        """224x224x3, batch 32: REST against gRPC, one at a time; on a model that computes nothing, and on ResNet50."""
        names = [LARGE] if importlib.util.find_spec("keras") is None else [LARGE, RESNET]
        base_paths = {name: self.export(name) for name in names}
        server = self.servers.slipway("large", base_paths, (), is_pinned=False)
        cells = {
            name: Cell(
                f"rest and grpc in turn, {name}",
                partial(
                    latencies,
                    server,
                    name,
                    self.alias(server, name),
                    3 if self._arguments.quick or name == RESNET else 9,
                ),
            )
            for name in names
        }
        run_rounds(list(cells.values()), self._arguments.rounds, self.told)
        self.results["large"] = {name: {"rounds": cell.rounds} for name, cell in cells.items()}
        if RESNET in cells:
            found = spread([one["ratio"] for one in cells[RESNET].rounds])
            self.targets.append(
                Target("224x224x3 float32, batch 32, ResNet50: REST : gRPC, p50", found, 2.0, is_at_least=False)
            )

    def _add(self, name: str, cells: Mapping[str, Cell]) -> None:
        self.results[name] = {
            key: {
                "rounds": cell.rounds,
                **{metric: spread([one[metric] for one in cell.rounds]) for metric in cell.rounds[0]},
            }
            for key, cell in cells.items()
        }

    def markdown(self) -> str:
        """Tell the results."""
        environment = self.results["environment"]
        lines = [
            (
                f"{self._arguments.rounds} rounds of {self._arguments.seconds:g} s, {environment['cpus']} CPUs ({environment['machine']}), "
                f"Python {environment['python']}; median (smallest to largest)."
            ),
            "",
            "| ratio or rate | found | wanted | |",
            "|---|---|---|---|",
        ]
        for target in self.targets:
            sign = "≥" if target.is_at_least else "≤"
            wanted = f"{sign} {target.wanted:,g}"
            lines.append(
                f"| {target.name} | {_shown(target.found)} | {wanted} | {'met' if target.is_met else '**not met**'} |"
            )
        for model in (HALF, CNN, RESNET):
            if model not in self.results:
                continue
            lines += [
                "",
                f"### {model}",
                "",
                "| | requests/s | server CPU µs/request | generator CPU |",
                "|---|---|---|---|",
            ]
            for name, cell in self.results[model].items():
                generator = f"{cell['generator_cpu']['median']:.2f}" if "generator_cpu" in cell else ""
                lines.append(f"| {name} | {_shown(cell['per_s'])} | {_shown(cell['cpu_us'])} | {generator} |")
        if "large" in self.results:
            size = self.results["large"][LARGE]["rounds"][0]["json_mb"]
            lines += [
                "",
                f"### 224x224x3, batch 32 ({size:.0f} MB of JSON, {images(LARGE).nbytes / 1e6:.0f} MB of float32), one at a time",
                "",
                "| model | REST p50, ms | gRPC p50, ms | REST : gRPC |",
                "|---|---|---|---|",
            ]
            for name, cell in self.results["large"].items():
                shown = (
                    _shown(spread([one[key] for one in cell["rounds"]])) for key in ("rest_ms", "grpc_ms", "ratio")
                )
                what = "none: the largest value of each image" if name == LARGE else name
                lines.append(f"| {what} | {' | '.join(shown)} |")
        for name, why in self.results.get("skipped", {}).items():
            lines += ["", f"{name} was left out: {why}."]
        return "\n".join([*lines, ""])


def _shown(found: Mapping[str, float]) -> str:
    def number(value: float) -> str:
        return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"

    return f"{number(found['median'])} ({number(found['min'])} to {number(found['max'])})"


def main() -> int:
    """Run, or be one of the processes of a run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one short round of each: shows that it works, no more")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument(
        "--output", type=Path, help="directory for results and logs; by default results go to standard output only"
    )
    parser.add_argument("--only", default="small,compute_bound,large", help="parts, with commas (default: all)")
    parser.add_argument("--batching", action="store_true", help="measure the small models with --enable_batching")
    for internal in ("--export", "--serve", "--in-process", "--answer"):
        parser.add_argument(internal, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--callers", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.export:
        export(arguments.export, Path(arguments.answer))
        return 0
    if arguments.serve:
        serve = {"grpc-echo": serve_grpc_echo, "rest-echo": serve_http_echo}[arguments.serve]
        serve(Path(arguments.answer).read_bytes(), arguments.port)
        return 0
    if arguments.in_process:
        in_process(Path(arguments.answer), arguments.in_process, arguments.seconds, arguments.callers)
        return 0
    for tool in ("wrk", "h2load", "taskset"):
        if shutil.which(tool) is None:
            sys.stderr.write(
                f"{tool} is not installed; on Debian or Ubuntu: apt-get install wrk nghttp2-client util-linux\n"
            )
            return 2
    if arguments.quick:
        arguments.rounds, arguments.seconds = 1, 1.0
    with tempfile.TemporaryDirectory() as scratch:
        directory = arguments.output or Path(scratch)
        directory.mkdir(parents=True, exist_ok=True)
        bench = Bench(arguments, directory)
        try:
            for part in arguments.only.split(","):
                getattr(bench, part)()
        finally:
            bench.servers.close()
        bench.results["targets"] = [
            {
                "name": one.name,
                "found": one.found,
                "wanted": one.wanted,
                "is_at_least": one.is_at_least,
                "is_met": one.is_met,
            }
            for one in bench.targets
        ]
        if arguments.output:
            (directory / "overhead.json").write_text(json.dumps(bench.results, indent=2) + "\n")
            (directory / "overhead.md").write_text(bench.markdown())
        sys.stdout.write(bench.markdown())
    return 0


if __name__ == "__main__":
    sys.exit(main())
