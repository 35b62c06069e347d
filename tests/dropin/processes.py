"""The server as a process, driven as any TF Serving is: flags, files, ports, signals."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import grpc
import httpx

from slipway.servers import free_ports
from slipway_wire import messages, paths, predict, tensors

WAIT_S = 120.0
"""Nothing takes so long; a test that waits for it has failed."""
FLAGS_FOR_ALL = tuple(os.environ.get("SLIPWAY_DROPIN_FLAGS", "").split())
"""Of whoever wants to see the suite with another setting, such as `--grpc_transport=grpcio`."""
START_S = 400.0
"""TensorFlow alone takes seconds to import, and all servers start at once; less than the timeout of one test."""


def wait_for(condition, what, timeout_s=WAIT_S):
    """Wait until *condition* gives something true, and return it."""
    deadline = time.monotonic() + timeout_s
    while not (result := condition()):
        assert time.monotonic() < deadline, f"waited {timeout_s} s in vain for {what() if callable(what) else what}"
        time.sleep(0.01)
    return result


class Process:
    """`slipway-server` with any flags; stdout and stderr apart."""

    def __init__(self, directory: Path, *flags: str, environment=None):
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        with (directory / "stdout").open("wb") as out, (directory / "stderr").open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-m", "slipway_server", *FLAGS_FOR_ALL, *flags],
                stdout=out,
                stderr=err,
                env={**os.environ, **(environment or {})},
            )

    @property
    def stdout(self):
        return (self.directory / "stdout").read_text()

    @property
    def stderr(self):
        return (self.directory / "stderr").read_text()

    def log(self):
        """Give the end of what it said, and how it was called: what a failed wait is understood from."""
        command = " ".join(self.process.args)
        return f"{command}\nstdout:\n{self.stdout[-2000:]}\nstderr:\n{self.stderr[-5000:]}"

    def exit_code(self):
        try:
            return self.process.wait(START_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the process did not end within {START_S} s\n{self.log()}") from None

    def close(self):
        self.process.kill()
        self.process.wait()


class Server(Process):
    """A server on free ports of the loopback."""

    def __init__(self, directory: Path, *flags: str, environment=None):
        self._ready_file = directory / "ready.json"
        super().__init__(
            directory,
            *("--port=auto", "--rest_api_port=auto", "--bind_address=127.0.0.1"),
            f"--ready_file={self._ready_file}",
            *flags,
            environment=environment,
        )
        self.rest = self.channel = None

    def wait_until_ready(self):
        def is_ready():
            assert self.process.poll() is None, self.log()
            return self._ready_file.exists()

        if self.rest is None:
            wait_for(is_ready, lambda: f"the server to be ready\n{self.log()}", START_S)
            ready = json.loads(self._ready_file.read_text())
            self.connect(ready["grpc_port"], ready["rest_port"])
        return self

    def connect(self, grpc_port, rest_port):
        self.grpc_port, self.rest_port = grpc_port, rest_port
        self.rest = httpx.Client(base_url=f"http://127.0.0.1:{rest_port}", trust_env=False, timeout=WAIT_S)
        self.channel = grpc.insecure_channel(
            f"127.0.0.1:{grpc_port}", options=[("grpc.max_receive_message_length", -1)]
        )

    def close(self):
        if self.rest is not None:
            self.rest.close()
            self.channel.close()
        super().close()

    # REST.

    def ask(self, path, body=None, method="POST", **headers):
        """Send *body* (JSON unless bytes) to `/v1/models/PATH`; give status and parsed answer."""
        answer = self.send(path, body, method, **headers)
        return answer.status_code, json.loads(answer.content)

    def send(self, path, body=None, method="POST", **headers):
        content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        return self.rest.request(method, f"/v1/models/{path}", content=content, headers=headers)

    def states(self, model):
        """Give version -> state, highest first; {} while nobody knows the model."""
        versions = self.ask(model, method="GET")[1].get("model_version_status", [])
        return {int(one["version"]): one["state"] for one in versions}

    def metric(self, start):
        """Add up all samples whose line begins with *start*."""
        lines = self.rest.get("/monitoring/prometheus/metrics").text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(start))

    # gRPC, without TensorFlow.

    def call(self, method, request, timeout=WAIT_S):
        """Send a message (or its bytes); give the bytes of the answer."""
        body = request if isinstance(request, bytes) else request.SerializeToString()
        return self.channel.unary_unary(method)(body, timeout=timeout)

    def predict(self, model, inputs, **options):
        """Give spec and outputs, lists by name, of a Predict call."""
        answer = self.call(paths.GRPC_PREDICT, predict.encode_request(model, inputs, **options))
        spec, outputs = predict.decode_response(answer)
        return spec, {name: array.tolist() for name, array in outputs.items()}

    def refusal(self, method, request, timeout=WAIT_S):
        """Give code and details of a call that must fail."""
        try:
            self.call(method, request, timeout)
        except grpc.RpcError as error:
            return error.code().name, error.details()
        raise AssertionError("the call was answered")


class BareServer(Server):
    """A server that is given TF Serving's flags only, and watched as its scripts do: by what it logs."""

    def __init__(self, directory: Path, *flags: str):
        self.ports = free_ports(2)
        Process.__init__(self, directory, f"--port={self.ports[0]}", f"--rest_api_port={self.ports[1]}", *flags)
        self.rest = self.channel = None

    def wait_until_ready(self):
        line = f"Exporting HTTP/REST API at:localhost:{self.ports[1]} ..."

        def is_ready():
            assert self.process.poll() is None, self.log()
            return line in self.stderr

        if self.rest is None:
            wait_for(is_ready, lambda: f"{line!r}\n{self.log()}", START_S)
            self.connect(*self.ports)
        return self


def predict_request(model=None, signature="", inputs=None, **spec):
    """Make a PredictRequest message, however wrong."""
    request = messages.PredictRequest()
    if model is not None:
        request.model_spec.name = model
    if signature:
        request.model_spec.signature_name = signature
    if "version" in spec:
        request.model_spec.version.value = spec["version"]
    if "label" in spec:
        request.model_spec.version_label = spec["label"]
    for alias, value in (inputs or {}).items():
        if isinstance(value, messages.TensorProto):
            request.inputs[alias].CopyFrom(value)
        else:
            request.inputs[alias].CopyFrom(tensors.to_proto(value, as_content=True))
    request.output_filter.extend(spec.get("output_filter", ()))
    return request
