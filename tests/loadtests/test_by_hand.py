"""`locust -f loadtests/locustfile.py`, as somebody would type it."""

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
import trustme
from tests.loadtests.conftest import grpc_server, half_plus_two_over_grpc, half_plus_two_over_rest, http_server

from slipway_wire import model_metadata, samples
from slipway_wire.model_spec import ModelSpec

LOCUSTFILE = Path(__file__).parents[2] / "loadtests/locustfile.py"


COMMAND = [Path(sys.executable).with_name("locust"), "-f", LOCUSTFILE]


def locust(directory, rest_port, grpc_port, *arguments, scheme="http"):
    command = [*COMMAND, "--headless", "-t", "1s", "--json"]
    address = ["--host", f"{scheme}://127.0.0.1:{rest_port}", "--grpc-port", str(grpc_port), "--model", "m"]
    return subprocess.run(
        [*command, *address, *arguments], cwd=directory, capture_output=True, text=True, check=False, timeout=200
    )


def counts(done):
    """Protocol -> requests and failures, as Locust's own statistics have them."""
    # Workers print an empty list before their master prints the whole.
    last = done.stdout[done.stdout.rindex("[\n") :]
    return {row["method"]: (row["num_requests"], row["num_failures"]) for row in json.loads(last)}


@pytest.fixture(scope="module")
def ports():
    with http_server(half_plus_two_over_rest) as rest, grpc_server(half_plus_two_over_grpc) as grpc:
        yield rest, grpc


def test_both_protocols_are_loaded_and_every_request_reaches_locust(ports, payload_file, tmp_path):
    done = locust(tmp_path, *ports, "-u", "4", "-r", "4", "--payloads", payload_file, "--samples", "raw")

    assert done.returncode == 0, done.stderr
    found = counts(done)
    for protocol in ("rest", "grpc"):
        raw = samples.read(tmp_path / f"raw-{protocol}.npz")
        assert len(raw.planned_us) == found[protocol][0] > 0
        assert found[protocol][1] == 0
        assert raw.service_us.min() > 0


def test_https_and_grpc_tls_are_spoken_where_they_are_asked_for(payload_file, tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    authority.issue_cert("model.example").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    words = ["--payloads", payload_file, "--certificate", tmp_path / "server.pem", "--tls", "rest", "grpc"]
    argv = [sys.executable, "-I", "-m", "slipway_loadtests.null_server", *words]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        ports = json.loads(server.stdout.readline()).values()
        trusted = ["--ca-file", "ca.pem", "--server-name", "model.example", "--grpc-tls"]
        done = locust(tmp_path, *ports, *trusted, "-u", "2", "-r", "2", "--payloads", payload_file, scheme="https")
        server.stdin.close()

    assert done.returncode == 0, done.stderr
    assert all(requests > 0 and failures == 0 for requests, failures in counts(done).values())


def test_a_rate_is_offered_on_a_schedule(ports, payload_file, tmp_path):
    arguments = ["-u", "1", "--rate", "100", "--protocol", "rest", "--payloads", payload_file, "--samples", "raw"]
    done = locust(tmp_path, *ports, *arguments)

    assert done.returncode == 0, done.stderr
    gaps = np.diff(samples.read(tmp_path / "raw-rest.npz").planned_us)
    assert 0.5 < gaps.mean() / 10_000 < 2
    assert set(counts(done)) == {"rest"}


def test_wrong_answers_have_an_exit_code_of_their_own(payload_file, tmp_path):
    with http_server(lambda *_: b'{"predictions":[1.0,1.0]}') as port:
        done = locust(tmp_path, port, 1, "-u", "1", "--protocol", "rest", "--payloads", payload_file)

    assert done.returncode == 3
    assert "answers are wrong: payload 0: y[0]: expected 2.0, got 1.0" in done.stderr


def test_without_payloads_the_server_is_asked_what_it_takes(ports, tmp_path):
    """Any server of that interface: nothing but its address and the model's name is needed."""
    definition = model_metadata.messages.SignatureDef(method_name="tensorflow/serving/predict")
    definition.inputs["x"].dtype = 1
    definition.inputs["x"].tensor_shape.dim.add(size=-1)
    metadata = model_metadata.encode_json(ModelSpec("m", 1), {"serving_default": definition})

    def answer(handler, body):
        return half_plus_two_over_rest(handler, body)

    with http_server(answer, get=lambda handler: metadata if handler.path == "/v1/models/m/metadata" else None) as port:
        done = locust(tmp_path, port, ports[1], "-u", "2", "-r", "2", "--rows", "3")

    assert done.returncode == 0, done.stderr
    assert counts(done)["rest"][0] > 0
    assert counts(done)["grpc"][0] > 0


def test_nobody_there_is_one_line(refused_port, tmp_path):
    done = locust(tmp_path, refused_port, refused_port, "-u", "1")

    assert done.returncode == 2
    assert f"127.0.0.1:{refused_port}: no payloads to send: connection refused" in done.stderr
    assert "Traceback" not in done.stderr


@contextlib.contextmanager
def bare_workers(directory):
    """Two workers as on other machines: they are told where their master is, and nothing else. Gives its port."""
    port = free_port()
    argv = [*COMMAND, "--worker", "--master-host", "127.0.0.1", "--master-port", str(port)]
    with contextlib.ExitStack() as stack:
        workers = []
        for number in range(2):
            log = stack.enter_context((directory / f"worker{number}.log").open("wb"))
            workers.append(subprocess.Popen(argv, cwd=directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log))
            stack.callback(workers[-1].wait)
            stack.callback(workers[-1].kill)
        yield port
        # Their master is gone, and has told them.
        assert [worker.wait(90) for worker in workers] == [0, 0], (directory / "worker0.log").read_text()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as held:
        return held.getsockname()[1]


def test_workers_of_other_machines_make_one_load_and_their_raw_times_come_together(ports, payload_file, tmp_path):
    """A worker has no options of its own: what to send, and how often, it hears from its master."""
    arguments = ["-t", "2s", "--rate", "200", "--seed", "5", "--payloads", payload_file, "--samples", "raw"]
    with bare_workers(tmp_path) as port:
        master = ["--master", "--master-bind-port", str(port), "--expect-workers", "2"]
        done = locust(tmp_path, *ports, *master, *arguments)

    assert done.returncode == 0, done.stderr
    found = counts(done)
    for protocol in ("rest", "grpc"):
        raw = samples.read(tmp_path / f"raw-{protocol}.npz")
        assert len(raw.planned_us) == found[protocol][0]
        assert found[protocol][1] == 0
        assert (np.diff(raw.planned_us) >= 0).all()
        # Two processes of half the rate each: one of the whole.
        assert 0.5 < len(raw.planned_us) / (raw.end_us / 1e6) / 200 < 1.5


@pytest.fixture
def slow_ports():
    """A closed loop that asks as fast as it can is asked for its users alone."""

    def over_rest(handler, body):
        time.sleep(0.05)
        return half_plus_two_over_rest(handler, body)

    def over_grpc(message, context):
        time.sleep(0.05)
        return half_plus_two_over_grpc(message, context)

    with http_server(over_rest) as rest, grpc_server(over_grpc) as grpc:
        yield rest, grpc


def test_each_test_of_the_web_ui_is_made_by_its_own_options(slow_ports, payload_file, tmp_path):
    """A closed loop of both protocols, then a rate of one: by workers that knew of neither when they started."""
    web = free_port()
    with bare_workers(tmp_path) as port, (tmp_path / "master.log").open("wb") as log:
        argv = [*COMMAND, "--master", "--master-bind-port", str(port)]
        argv += ["--web-host", "127.0.0.1", "--web-port", str(web)]
        argv += ["--host", f"http://127.0.0.1:{slow_ports[0]}", "--grpc-port", str(slow_ports[1]), "--model", "m"]
        argv += ["--payloads", payload_file, "--samples", "raw"]
        with (
            subprocess.Popen(argv, cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=log, stderr=log) as master,
            killed_at_last(master),
            UserInterface(web) as ui,
        ):
            ui.wait_for(lambda told: len(told["workers"]) == 2)
            # What cannot begin ends neither the master nor its workers.
            ui.begin(4, protocol="carrier pigeon")
            ui.wait_for(lambda told: told["state"] == "stopped")
            ui.begin(4, protocol="both")
            told = ui.wait_for(lambda told: sent_by(told) == {"rest", "grpc"})
            assert [worker["user_count"] for worker in told["workers"]] == [2, 2]
            ui.stop()
            ui.begin(1, protocol="rest", rate=50)
            told = ui.wait_for(lambda told: sent_by(told) == {"rest"} and told["stats"][-1]["num_requests"] > 60)
            # One for each process, however many were asked for.
            assert [worker["user_count"] for worker in told["workers"]] == [1, 1]
            master.send_signal(signal.SIGTERM)
            master.wait(90)

    assert "--protocol: no carrier pigeon; there are both, grpc, rest" in (tmp_path / "master.log").read_text()
    # The last test's, and nothing of those before it.
    assert not (tmp_path / "raw-grpc.npz").exists()
    gaps = np.diff(samples.read(tmp_path / "raw-rest.npz").planned_us)
    assert 0.5 < gaps.mean() / 20_000 < 2


@contextlib.contextmanager
def killed_at_last(process):
    try:
        yield
    finally:
        process.kill()


class UserInterface:
    """Locust's web UI, as a browser uses it."""

    def __init__(self, port):
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=90)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._client.close()

    def begin(self, users, **options):
        form = {"user_count": users, "spawn_rate": users, **options}
        assert self._client.post("/swarm", data=form).json()["success"]

    def wait_for(self, condition):
        """Wait until what it tells is so, and give it."""
        deadline, told = time.monotonic() + 90, None
        while True:
            with contextlib.suppress(httpx.ConnectError):
                told = self._client.get("/stats/requests").json()
                if condition(told):
                    return told
            assert time.monotonic() < deadline, told
            time.sleep(0.2)

    def stop(self):
        self._client.post("/stop").raise_for_status()
        self.wait_for(lambda told: told["state"] == "stopped")


def sent_by(told):
    return {row["method"] for row in told["stats"][:-1] if row["num_requests"]}


def test_libraries_in_two_processes_know_their_requests_and_come_to_an_end(ports, payload_file, tmp_path):
    """Grpcio in a process that was forked after its first call never ends, and its master does not notice."""
    arguments = ["--tier", "library", "--processes", "2", "-t", "4s", "--rate", "60", "--payloads", payload_file]
    done = locust(tmp_path, *ports, *arguments, "--samples", "raw")

    assert done.returncode == 0, done.stderr
    found = counts(done)
    for protocol in ("rest", "grpc"):
        raw = samples.read(tmp_path / f"raw-{protocol}.npz")
        assert len(raw.planned_us) == found[protocol][0] > 0
        assert found[protocol][1] == 0
    # They have the directory of their raw times for their own.
    deadline = time.monotonic() + 60
    while left := _processes_in(tmp_path):
        assert time.monotonic() < deadline, left
        time.sleep(0.02)


def _processes_in(directory):
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.cwd() == str(directory):
                found.append(process.cmdline())
    return found


def test_a_wrong_answer_to_a_worker_is_its_masters_exit_code(payload_file, tmp_path):
    with http_server(lambda *_: b'{"predictions":[1.0,1.0]}') as port:
        arguments = ["--processes", "2", "-u", "2", "--protocol", "rest", "--payloads", payload_file]
        done = locust(tmp_path, port, 1, *arguments)

    assert done.returncode == 3
    assert "answers are wrong: payload 0: y" in done.stderr
