"""Load by wrk and h2load, and what an answer is: asked once by clients that read it, for load generators do not."""

import contextlib
import http.client
import json
import math
import os
import re
import statistics
import struct
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from harness import models
from harness.processes import BENCH, WAIT_S, NoAnswer, Started, cpu_s
from slipway_wire import paths, predict
from slipway_wire.payloads import Payload

UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
JSON_HEADERS: Mapping[str, str] = {"Content-Type": "application/json"}
MESSAGE_HEADERS: Mapping[str, str] = {"Content-Type": "application/x-protobuf"}
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


@dataclass(frozen=True)
class Request:
    """
    What is sent again and again.

    Attributes:
        model: Whom the server counts it for.
        rest: A Lua script for wrk, the body beside it; None: this is asked over gRPC only.
        rest_path: Where it is posted.
        grpc: A message with its five bytes in front; None: this is asked over REST only.
        grpc_path: The method.
        answer_bytes: gRPC: size of a right answer, with its five bytes; 0: not known.
        rest_headers: With which it is posted.
    """

    model: str
    rest: Path | None = None
    rest_path: str = ""
    grpc: Path | None = None
    grpc_path: str = paths.GRPC_PREDICT
    answer_bytes: int = 0
    rest_headers: Mapping[str, str] = field(default_factory=lambda: JSON_HEADERS)

    def body(self, protocol: str) -> Path:
        """Give the file of what is sent over *protocol*."""
        file = self.grpc if protocol == "grpc" else self.rest and self.rest.with_suffix(".body")
        if file is None:
            # wrk without its script would ask for something else, with GET.
            raise ValueError(f"{self.model} has no request over {protocol}")
        return file


def request_of(name: str, payload: Payload, directory: Path) -> Request:
    """Write the files that the load generators read, called *name*."""
    return Request(
        payload.spec.name,
        rest_file(name, payload.rest_body, directory),
        payload.rest_path,
        grpc_file(name, payload.grpc_message, directory),
        payload.grpc_method,
    )


def message_of(name: str, payload: Payload, directory: Path) -> Request:
    """Write what posts gRPC's message over REST, called *name*."""
    script = rest_file(f"{name}-message", payload.grpc_message, directory, MESSAGE_HEADERS)
    return Request(payload.spec.name, script, payload.rest_path, rest_headers=MESSAGE_HEADERS)


def rest_file(name: str, body: bytes, directory: Path, headers: Mapping[str, str] = JSON_HEADERS) -> Path:
    """Write the script with which wrk posts *body*."""
    script, data = directory / f"{name}.lua", directory / f"{name}.body"
    data.write_bytes(body)
    script.write_text(
        f'local file = io.open("{data}", "rb")\nwrk.method = "POST"\nwrk.body = file:read("*a")\nfile:close()\n'
        + "".join(f'wrk.headers["{header}"] = "{value}"\n' for header, value in headers.items())
    )
    return script


def grpc_file(name: str, message: bytes, directory: Path) -> Path:
    """Write *message* as h2load sends it."""
    file = directory / f"{name}.grpc"
    file.write_bytes(b"\0" + struct.pack(">I", len(message)) + message)
    return file


def load(command: Sequence[str], cpus: Sequence[int], seconds: float) -> tuple[str, float]:
    """Run a load generator on *cpus*; give its output and the share of a CPU that it used."""
    before = os.times()
    began = time.monotonic()
    try:
        done = subprocess.run(
            ["taskset", "-c", ",".join(map(str, cpus)), *command],
            capture_output=True,
            text=True,
            timeout=seconds + WAIT_S,
            check=False,
            env={**os.environ, "PYTHONPATH": str(BENCH)},
        )
    except subprocess.TimeoutExpired as error:
        raise NoAnswer(f"{command[0]} waited for answers for {error.timeout:g} s") from None
    took = time.monotonic() - began
    after = os.times()
    if done.returncode != 0:
        raise NoAnswer(f"{command[0]} failed: {(done.stderr or done.stdout).strip()}")
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return done.stdout, used / took


def good_answers(server: Started, model: str) -> float:
    """Ask the server how many requests for *model* it has answered OK; 0 if it does not count."""
    if not server.has_metrics:
        return 0
    url = f"http://127.0.0.1:{server.rest_port}{paths.METRICS_PATH}"
    with urllib.request.urlopen(url, timeout=WAIT_S) as answer:
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
    request.body(protocol)
    answered, used = good_answers(server, request.model), cpu_s(server.process.pid)
    if protocol == "rest":
        done, took, share = _wrk(server, request, seconds, cpus, in_flight)
    else:
        done, took, share = _h2load(server, request, seconds, cpus, in_flight, count)
    used = cpu_s(server.process.pid) - used
    # To h2load every gRPC error is a success.
    if server.has_metrics and good_answers(server, request.model) - answered < done:
        raise SystemExit(f"{request.model} over {protocol}: not all of {done} requests were answered well")
    return {"per_s": done / took, "cpu_us": 1e6 * used / max(done, 1), "generator_cpu": share}


def at_rate(
    protocol: str, server: Started, request: Request, per_s: float, seconds: float, cpus: Sequence[int], seed: int
) -> dict[str, float]:
    """
    Send *per_s* requests a second on *cpus*, for *seconds*, and give what they took; see `paced.paced`.

    gRPC has 8 connections, REST 64 with one request each.
    """
    grpc = protocol == "grpc"
    body = request.body(protocol)
    port, path = (server.grpc_port, request.grpc_path) if grpc else (server.rest_port, request.rest_path)
    answered = good_answers(server, request.model)
    command = [sys.executable, "-m", "harness.inside", "paced", protocol, str(port), path, str(body)]
    command += [str(8 if grpc else 64), str(per_s), str(seconds), str(seed)]
    output, share = load(command, cpus, seconds)
    found: dict[str, float] = json.loads(output)
    # Over gRPC an error is an answer like any other.
    if good_answers(server, request.model) - answered < round(found["per_s"] * seconds):
        raise SystemExit(f"{request.model} over {protocol}: not all requests were answered well")
    return {**found, "generator_cpu": share}


def _wrk(
    server: Started, request: Request, seconds: float, cpus: Sequence[int], in_flight: int
) -> tuple[int, float, float]:
    url = f"http://127.0.0.1:{server.rest_port}{request.rest_path}"
    # It knows whole seconds only; how many it took, it tells.
    command = [
        "wrk",
        "-t1",
        f"-c{in_flight}",
        f"-d{math.ceil(seconds)}s",
        "-s",
        str(request.rest),
        "--timeout",
        "60s",
        url,
    ]
    output, share = load(command, cpus, seconds)
    found = re.search(r"(\d+) requests in ([\d.]+)(ms|s|m)", output)
    if found is None or "Non-2xx" in output or "Socket errors" in output:
        raise NoAnswer(f"wrk was not answered well at {url}; {asked_again('rest', server, request)}\n{output}")
    return int(found[1]), float(found[2]) * _SECONDS[found[3]], share


def _h2load(
    server: Started, request: Request, seconds: float, cpus: Sequence[int], in_flight: int, count: int
) -> tuple[int, float, float]:
    url = f"http://127.0.0.1:{server.grpc_port}{request.grpc_path}"
    connections = min(in_flight, 8)
    command = ["h2load", "-t1", f"-c{connections}", f"-m{in_flight // connections}", "-w24", "-W24"]
    command += [f"-d{request.grpc}", *([f"-n{count}"] if count else ["-D", f"{round(1000 * seconds)}ms"])]
    command += ["-H", "content-type: application/grpc", "-H", "te: trailers", url]
    output, share = load(command, cpus, seconds)
    found = re.search(r"finished in ([\d.]+)(us|ms|s|m)", output)
    totals = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", output)
    traffic = re.search(r"\((\d+)\) data", output)
    if found is None or totals is None or traffic is None or any(int(totals[index]) for index in (2, 3, 4)):
        raise NoAnswer(f"h2load was not answered well at {url}; {asked_again('grpc', server, request)}\n{output}")
    done = int(totals[1])
    # An error has no message: where answers are all of one size, their bytes tell whether they were right.
    if int(traffic[1]) < 0.99 * done * request.answer_bytes:
        bad = f"{traffic[1]} bytes are no {done} answers of {request.answer_bytes} bytes"
        raise NoAnswer(f"{url}: {bad}; {asked_again('grpc', server, request)}")
    # With -D what counts came within the time asked for; it takes a moment longer to end.
    return done, float(found[1]) * _SECONDS[found[2]] if count else seconds, share


def asked_again(protocol: str, server: Started, request: Request) -> str:
    """Say what the server answers to one request alone: load generators count answers, and do not tell them."""
    content = request.body(protocol).read_bytes()
    try:
        if protocol == "rest":
            rest_exchange(server, request.rest_path, content, request.rest_headers)
        else:
            grpc_answer(server, request.grpc_path, content[5:])
    except NoAnswer as error:
        return f"asked once more, {error}"
    return "one request alone is answered"


def rest_answer(server: Started, path: str, body: bytes) -> bytes:
    """Post the JSON *body* once, and give the answer."""
    return rest_exchange(server, path, body, JSON_HEADERS)[0]


def rest_exchange(
    server: Started, path: str, body: bytes, headers: Mapping[str, str]
) -> tuple[bytes, http.client.HTTPMessage]:
    """Post *body* once, and give the answer with its headers."""
    try:
        with contextlib.closing(
            http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=WAIT_S)
        ) as connection:
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise NoAnswer(f"{path} was not answered: {error!r}") from error
    if answer.status != 200:
        raise NoAnswer(f"{path} answered {answer.status}: {content[:500]!r}")
    return content, answer.headers


def grpc_answer(server: Started, path: str, message: bytes) -> bytes:
    """Ask once, with grpcio, and give the answer's message."""
    import grpc  # noqa: PLC0415

    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}", options=UNLIMITED) as channel:
        try:
            answer: bytes = channel.unary_unary(path)(message, timeout=WAIT_S)
        except grpc.RpcError as error:
            raise NoAnswer(f"{path} answered {error.code().name}: {error.details()}") from error
    return answer


def latencies(server: Started, model: str, alias: str, repeats: int) -> dict[str, float]:
    """Send the large input *repeats* times over each protocol, in turn; give p50 in ms of both and their ratio."""
    import grpc  # noqa: PLC0415

    x = models.images(models.LARGE)
    # The shortest digits that read back to the same float32; those of doubles would be twice as many.
    body = b'{"inputs":%b}' % orjson.dumps(x, option=orjson.OPT_SERIALIZE_NUMPY)
    message = predict.encode_request(model, {alias: x})
    took: dict[str, list[float]] = {"rest": [], "grpc": []}
    with contextlib.ExitStack() as cleanup:
        channel = cleanup.enter_context(grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}", options=UNLIMITED))
        connection = cleanup.enter_context(
            contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=WAIT_S))
        )

        def over_rest() -> None:
            connection.request("POST", paths.rest_path(model, "predict"), body)
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
        "float_mb": x.nbytes / 1e6,
    }
