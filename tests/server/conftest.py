"""Fakes that behave: a servable in numpy, executors and timers that a test drives by hand, everything around them."""

import asyncio
import json
import subprocess
import sys
import threading
import time
from concurrent.futures import Executor, Future
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
import uvloop

from slipway_server.batching.scheduler import DirectScheduler
from slipway_server.metrics import Metrics
from slipway_server.servables.configuration import Configuration
from slipway_server.servables.manager import Manager, RetryPolicy
from slipway_server.servables.storage import LocalStorage
from slipway_server.serving import Serving
from slipway_wire import dtypes, messages
from slipway_wire.signatures import CLASSIFY, PREDICT, REGRESS, Signature, TensorSpec
from slipway_wire.status import InvalidArgument

WAIT_S = 90.0


def signature(name, method, inputs, outputs):
    def spec(alias, dtype):
        return TensorSpec(alias, dtypes.from_name(dtype), (None,), f"{alias}:0")

    return Signature(
        name,
        method,
        {alias: spec(alias, dtype) for alias, dtype in inputs.items()},
        {alias: spec(alias, dtype) for alias, dtype in outputs.items()},
    )


class HalfPlusTwo:
    """y = x / 2 + 2 in numpy. NaN is refused, as a graph may refuse a value; runs wait while *gate* is closed."""

    def __init__(self):
        self.signatures = {
            one.name: one
            for one in (
                signature("serving_default", PREDICT, {"x": "float"}, {"y": "float"}),
                signature("regress", REGRESS, {"inputs": "string"}, {"outputs": "float"}),
                signature("classify", CLASSIFY, {"inputs": "string"}, {"classes": "string", "scores": "float"}),
            )
        }
        self.signature_defs = messages.SignatureDefMap().signature_def
        self.signature_defs["serving_default"].method_name = PREDICT
        self.batching_policy = None
        self.gate = threading.Event()
        self.gate.set()
        self.started = threading.Semaphore(0)
        self.rows = []
        self.is_closed = False

    def run(self, call):
        self.started.release()
        assert self.gate.wait(WAIT_S)
        assert not self.is_closed
        if call.signature == "serving_default":
            x = call.inputs["x"]
            self.rows.append(len(x) if x.ndim else None)
            if np.isnan(x).any():
                raise InvalidArgument("x is not a number")
            return {"y": (x / 2 + 2).astype(np.float32)}
        examples = call.inputs["inputs"]
        values = np.array([messages.Example.FromString(e).features.feature["x"].float_list.value[0] for e in examples])
        y = (values / 2 + 2).astype(np.float32)
        answers = {"outputs": y, "scores": y[:, None], "classes": np.full((len(y), 1), b"one", object)}
        return {alias: answers[alias] for alias in call.outputs}

    def run_together(self, calls):
        return [self.run(call) for call in calls]

    def close(self):
        self.is_closed = True


class FakeLoader:
    """Gives *servable*, and another one once that is closed, after *failures* tries that raise."""

    def __init__(self, servable=None, failures=0):
        self.servable = servable or HalfPlusTwo()
        self.failures = failures

    def load(self):
        if self.failures:
            self.failures -= 1
            raise InvalidArgument("broken")
        if self.servable.is_closed:
            self.servable = HalfPlusTwo()
        return self.servable


class AtOnce(Executor):
    """Runs what is submitted before submit returns."""

    def submit(self, fn, /, *args, **kwargs):
        future = Future()
        future.set_result(fn(*args, **kwargs))
        return future


class ByHand(Executor):
    """Keeps what is submitted until the test says `step`."""

    def __init__(self):
        self.waiting = []

    def submit(self, fn, /, *args, **kwargs):
        self.waiting.append((fn, args, kwargs))
        return Future()

    def step(self):
        fn, args, kwargs = self.waiting.pop(0)
        fn(*args, **kwargs)


class Timers:
    """Keeps what is to happen later until the test says so."""

    def __init__(self):
        self.waiting = []

    def __call__(self, delay_s, action):
        self.waiting.append((delay_s, action))

    def ring(self):
        delay_s, action = self.waiting.pop(0)
        action()
        return delay_s


class NothingToSee:
    """A source that finds nothing: the test tells the manager itself."""

    def tell(self, listener):
        pass

    def update(self, models, *, at_once=True):
        pass

    def stop(self):
        pass


class LoopThread:
    """An event loop on a thread of its own, so that tests can talk to it over real sockets."""

    def __enter__(self):
        self.loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()
        return self

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(WAIT_S)

    def __exit__(self, *_):
        self.run(self._cancel_all())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    @staticmethod
    async def _cancel_all():
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def make_serving(servables, *, scheduler=None, labels=None, metrics=None, checks_method_names=False):
    """Serve *servables*, {(model, version): servable}, all loaded."""
    metrics = metrics or Metrics()
    manager = Manager(
        lambda model, version, _path: FakeLoader(servables[model, version]),
        load_on=AtOnce(),
        unload_on=AtOnce(),
        later=Timers(),
        retry=RetryPolicy(0, 0.0),
    )
    config = messages.ModelServerConfig()
    for name in sorted({model for model, _ in servables}):
        config.model_config_list.config.add(
            name=name, base_path="/none", model_platform="tensorflow", version_labels=(labels or {}).get(name, {})
        )
        manager.aspire(name, {version: "/none" for model, version in servables if model == name})
    configuration = Configuration(manager, NothingToSee(), lambda _: LocalStorage(), allows_any_label=True)
    configuration.start(config).result(WAIT_S)
    serving = Serving(
        manager,
        scheduler or DirectScheduler(4, metrics),
        metrics,
        configuration,
        checks_method_names=checks_method_names,
    )
    return serving, manager


def wait_for(condition, what, timeout_s=200.0):
    """Wait until *condition* gives something true, and return it."""
    deadline = time.monotonic() + timeout_s
    while not (result := condition()):
        assert time.monotonic() < deadline, f"waited {timeout_s} s in vain for {what}"
        time.sleep(0.01)
    return result


class ServerProcess:
    """The server as users run it: a process with flags, a log, ports and signals."""

    def __init__(self, directory, *flags):
        self._ready_file = directory / "ready.json"
        self._log = directory / "log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-I", "-m", "slipway_server"),
                    *("--port=auto", "--rest_api_port=auto", "--bind_address=127.0.0.1"),
                    f"--ready_file={self._ready_file}",
                    *flags,
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def log(self):
        return self._log.read_text()

    def wait_until_ready(self):
        def is_ready():
            assert self.process.poll() is None, self.log()
            return self._ready_file.exists() and self._ready_file.read_text().startswith("{")

        wait_for(is_ready, f"the server to be ready; it says\n{self.log()}")
        self.ready = json.loads(self._ready_file.read_text())
        self.rest = httpx.Client(
            base_url=f"http://127.0.0.1:{self.ready['rest_port']}", trust_env=False, timeout=WAIT_S
        )
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.ready['grpc_port']}")
        return self

    def states(self, model):
        versions = self.rest.get(f"/v1/models/{model}").json()["model_version_status"]
        return {int(one["version"]): one["state"] for one in versions}

    def metric(self, start):
        """Add up all samples whose line begins with *start*."""
        lines = self.rest.get("/monitoring/prometheus/metrics").text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(start))

    def signal(self, number):
        self.process.send_signal(number)

    def exit_code(self):
        return self.process.wait(200.0)

    def close(self):
        if hasattr(self, "ready"):
            self.rest.close()
            self.channel.close()
        self.process.kill()
        self.process.wait()


@pytest.fixture
def start_server(tmp_path):
    """`start_server(*flags)` starts a process that does not outlive the test."""
    started = []

    def start(*flags):
        directory = tmp_path / f"server{len(started)}"
        directory.mkdir()
        started.append(ServerProcess(directory, *flags))
        return started[-1]

    yield start
    for server in started:
        server.close()


@pytest.fixture(scope="session")
def fakes():
    """This module: test files are no package and cannot import it."""
    return sys.modules[__name__]


@pytest.fixture
def loop_thread():
    """A running event loop."""
    with LoopThread() as running:
        yield running


@pytest.fixture(scope="session")
def testdata():
    """TF Serving's own test models."""
    return Path(__file__).parents[1] / "testdata"
