"""
Other servers with the same model: LitServe, MLServer and Triton, each in an environment of its own, at its best settings.

Their model call is as fast as ours (`adapters/session_call.py`): what differs is the server. Which of a few settings suits
a server best is tried before the rounds, for each model and protocol, and told with the results.

Triton is that of nvidia-pytriton, a real tritonserver whose Python backend was built for Debian's Python 3.11 (3.11.2 is known to run
it, 3.11.7 not), so its environment is made with the system's. Over REST it is asked in binary and answers so, where all others, ours
too, have JSON: `adapters/triton_app.py` says why. Not here: Triton's Python models in processes of their own; TF Serving and OpenVINO
Model Server, which no package registry has.
"""

import contextlib
import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from harness import loads
from harness.loads import Request
from harness.models import Question
from harness.processes import WAIT_S, NoAnswer, Servers, Started, free_port
from slipway_wire.payloads import Payload

ADAPTERS = Path(__file__).parent / "adapters"
BATCH = 64
SYSTEM_PYTHON = "/usr/bin/python3"
Settings = Mapping[str, float | bool]
_DTYPES = {"FP32": "<f4", "FP64": "<f8", "INT32": "<i4", "INT64": "<i8"}

LITSERVE: tuple[Settings, ...] = tuple(
    {
        "max_batch_size": BATCH if timeout else 1,
        "batch_timeout": timeout,
        "workers_per_device": workers,
        "num_api_servers": servers,
        "fast_queue": True,
    }
    for timeout, workers, servers in ((0.001, 1, 1), (0.005, 1, 1), (0.001, 1, 2), (0.001, 2, 1), (0.0, 2, 1))
)
MLSERVER: tuple[Settings, ...] = tuple(
    {"max_batch_size": BATCH if wait else 0, "max_batch_time": wait, "parallel_workers": workers}
    for wait, workers in ((0.001, 0), (0.005, 0), (0.0, 0), (0.001, 1))
)


TRITON: tuple[Settings, ...] = tuple(
    {"max_batch_size": BATCH, "max_queue_delay": delay, "instances": instances}
    for delay, instances in ((0.0, 1), (0.001, 1), (0.005, 1), (0.0, 2))
)


def python_of(name: str, environments: Path, package: str = "", base: str = sys.executable) -> Path:
    """
    Give the Python of *name*'s environment in *environments*, which is made and filled by pip if it is not there.

    Args:
        name: Of the server and its environment.
        environments: Where they are.
        package: What is installed; by default *name*.
        base: The Python that makes it.
    """
    python = environments / name / "bin" / "python"
    if not python.exists():
        sys.stderr.write(f"installing {name} in {environments / name}\n")
        # MLServer's worker processes (1.7.1) ask uvloop for a loop that later versions no longer make.
        wanted = [package or name, "uvloop<0.22", f"tensorflow-cpu=={version('tensorflow-cpu')}"]
        for command in (
            [base, "-m", "venv", str(environments / name)],
            [str(python), "-m", "pip", "install", "--quiet", *wanted],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise SystemExit(f"{name} could not be installed: {done.stderr.strip()[-1000:]}")
    return python


@dataclass(frozen=True)
class Case:
    """
    What is compared.

    Attributes:
        model: Its name.
        base_path: Where it lies.
        question: What it is asked, one row.
        payload: The same as our server is asked.
        truth: Our server's answer, output name -> rows.
        intra_threads: Threads of one op, for every server.
    """

    model: str
    base_path: Path
    question: Question
    payload: Payload
    truth: Mapping[str, Any]
    intra_threads: int


@dataclass(frozen=True)
class Peer:
    """
    One of the other servers.

    Attributes:
        name: Of the package.
        python: Of its environment.
        protocols: Those it speaks.
        settings: What is tried.
    """

    name: str
    python: Path
    protocols: tuple[str, ...]
    settings: Sequence[Settings]

    def start(self, servers: Servers, case: Case, settings: Settings) -> Started:
        """
        Start it, and wait until it is ready.

        Raises:
            NoAnswer: It is not, and has been ended.
        """
        raise NotImplementedError

    def request(self, servers: Servers, case: Case, started: Started, protocol: str) -> Request:
        """
        Write what is sent over *protocol*, and compare what comes back with our server's answer.

        Raises:
            NoAnswer: With what it answers instead.
        """
        raise NotImplementedError

    def _run(self, servers: Servers, case: Case, started: Started, arguments: Sequence[str], url: str) -> Started:
        name = f"{self.name}-{case.model}-{started.rest_port}"
        process = servers.start(
            name,
            [str(ADAPTERS / f"{self.name}_app.py"), *arguments],
            is_pinned=False,
            python=str(self.python),
            environment={
                "BENCH_INTRA_THREADS": str(case.intra_threads),
                "PYTHONPATH": "",
                # Triton copies itself for each start, 22 MB, and one that is killed leaves that at home.
                "PYTRITON_HOME": str(servers.scratch),
            },
            # What servers leave behind where they are started.
            cwd=servers.directory,
        )

        def is_ready() -> bool:
            # http, to ourselves
            with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310
                return bool(answer.status == 200)
            return False

        try:
            servers.wait_for(process, is_ready, name)
        except NoAnswer:
            # Others are measured after it.
            servers.end(process)
            raise
        return replace(started, process=process)

    def _check(self, case: Case, outputs: Mapping[str, Any], protocol: str) -> None:
        for name, rows in case.truth.items():
            found, right = np.ravel(outputs.get(name, ())), np.ravel(rows)
            if found.shape != right.shape or not np.allclose(found, right, rtol=1e-5, atol=1e-6):
                raise NoAnswer(f"{self.name} answers {case.model} over {protocol} with {outputs}, not {case.truth}")


class LitServe(Peer):
    """REST only; takes our server's bodies."""

    def start(self, servers: Servers, case: Case, settings: Settings) -> Started:
        """See `Peer`."""
        port = free_port()
        arguments = [str(case.base_path / "1"), case.question.signature, str(port), json.dumps(settings)]
        url = f"http://127.0.0.1:{port}/health"
        return self._run(servers, case, Started(NOT_YET, rest_port=port), arguments, url)

    def request(self, servers: Servers, case: Case, started: Started, protocol: str) -> Request:
        """See `Peer`."""
        body = case.payload.rest_body
        content = loads.rest_answer(started, "/predict", body)
        with _read("/predict", content):
            answer = json.loads(content)["predictions"]
        self._check(case, answer, protocol)
        return Request(case.model, loads.rest_file(f"litserve-{case.model}", body, servers.directory), "/predict")


class OpenInference(Peer):
    """The Open Inference Protocol, over REST and gRPC: MLServer, and Triton, which is asked in binary over REST, too."""

    def start(self, servers: Servers, case: Case, settings: Settings) -> Started:
        """See `Peer`."""
        http, grpc, metrics = free_port(), free_port(), free_port()
        ports = [str(port) for port in (http, grpc, metrics)]
        arguments = ["serve", str(case.base_path / "1"), case.question.signature, *ports, json.dumps(settings)]
        url = f"http://127.0.0.1:{http}/v2/models/model/ready"
        return self._run(servers, case, Started(NOT_YET, grpc, http), arguments, url)

    def request(self, servers: Servers, case: Case, started: Started, protocol: str) -> Request:
        """See `Peer`."""
        stem = servers.directory / f"{self.name}-{case.model}"
        if not stem.with_suffix(".headers").exists():
            np.save(stem.with_suffix(".npy"), next(iter(case.question.inputs.values())))
            self._adapter("requests", str(stem.with_suffix(".npy")), str(stem))
        if protocol == "rest":
            path = "/v2/models/model/infer"
            body, headers = stem.with_suffix(".body").read_bytes(), json.loads(stem.with_suffix(".headers").read_text())
            content, of_answer = loads.rest_exchange(started, path, body, headers)
            with _read(path, content):
                outputs = rest_outputs(content, int(of_answer.get(JSON_SIZE, len(content))))
            self._check(case, outputs, protocol)
            script = loads.rest_file(stem.name, body, servers.directory, headers)
            return Request(case.model, script, path, rest_headers=headers)
        message = stem.with_suffix(".message")
        told = json.loads(self._adapter("ask", str(started.grpc_port), str(message)))
        self._check(case, told["outputs"], protocol)
        return Request(
            case.model,
            grpc=loads.grpc_file(stem.name, message.read_bytes(), servers.directory),
            grpc_path="/inference.GRPCInferenceService/ModelInfer",
            answer_bytes=told["bytes"],
        )

    def _adapter(self, *arguments: str) -> str:
        command = [str(self.python), str(ADAPTERS / f"{self.name}_app.py"), *arguments]
        try:
            # It gives up its own call before.
            done = subprocess.run(command, capture_output=True, text=True, timeout=2 * WAIT_S, check=False)
        except subprocess.TimeoutExpired as error:
            raise NoAnswer(f"{self.name}_app.py {arguments[0]} did not end in {error.timeout:g} s") from None
        if done.returncode != 0:
            raise NoAnswer(f"{self.name}_app.py {arguments[0]} failed: {done.stderr.strip()[-1000:]}")
        return done.stdout


JSON_SIZE = "Inference-Header-Content-Length"
"""Header of a message with tensors in binary: the bytes of JSON in front of them."""


def rest_outputs(content: bytes, json_size: int) -> dict[str, list[float]]:
    """
    Read an answer of the Open Inference Protocol over REST.

    Args:
        content: *json_size* bytes of JSON, and behind them the outputs that it says are in binary (the protocol's extension).
        json_size: In bytes.

    Returns:
        Output name -> its values, flat.

    Raises:
        AttributeError, KeyError, TypeError, ValueError: It is none.

    Source: Triton's docs/protocol/extension_binary_data.md.
    """
    outputs, at = {}, json_size
    for one in json.loads(content[:json_size])["outputs"]:
        size = one.get("parameters", {}).get("binary_data_size")
        if size is None:
            outputs[one["name"]] = one["data"]
        else:
            outputs[one["name"]] = np.frombuffer(content[at : at + size], _DTYPES[one["datatype"]]).tolist()
            at += size
    return outputs


@contextlib.contextmanager
def _read(path: str, content: bytes) -> Iterator[None]:
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise NoAnswer(f"{path} answered 200, but nothing that can be read: {content[:500]!r}") from error


NOT_YET: Any = None
"""The process of a server that is about to start."""

PEERS: Mapping[str, Callable[[Path], Peer]] = {
    "litserve": lambda environments: LitServe("litserve", python_of("litserve", environments), ("rest",), LITSERVE),
    "mlserver": lambda environments: OpenInference(
        "mlserver", python_of("mlserver", environments), ("rest", "grpc"), MLSERVER
    ),
    "triton": lambda environments: OpenInference(
        "triton",
        python_of("triton", environments, "nvidia-pytriton", SYSTEM_PYTHON),
        ("rest", "grpc"),
        TRITON,
    ),
}


def label(settings: Settings) -> str:
    """Write *settings* in a line."""
    return ", ".join(f"{name}={value}" for name, value in settings.items())


def best(tried: Mapping[str, float]) -> str:
    """Give the setting with the most requests/s."""
    return max(tried, key=lambda setting: tried[setting])
