"""`locust -f loadtests/locustfile.py`, as somebody would type it."""

import contextlib
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import trustme
from tests.loadtests.conftest import grpc_server, half_plus_two_over_grpc, half_plus_two_over_rest, http_server

from slipway_wire import model_metadata, samples
from slipway_wire.model_spec import ModelSpec

LOCUSTFILE = Path(__file__).parents[2] / "loadtests/locustfile.py"


def locust(directory, rest_port, grpc_port, *arguments, scheme="http"):
    command = [Path(sys.executable).with_name("locust"), "-f", LOCUSTFILE, "--headless", "-t", "1s", "--json"]
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


def test_workers_make_one_load_and_their_raw_times_come_together(ports, payload_file, tmp_path):
    """`--processes 2`, the same as `--master` and two `--worker`: every request that Locust counts is in one file."""
    arguments = ["--processes", "2", "-t", "2s", "--rate", "200", "--payloads", payload_file, "--samples", "raw"]
    done = locust(tmp_path, *ports, *arguments)

    assert done.returncode == 0, done.stderr
    found = counts(done)
    for protocol in ("rest", "grpc"):
        raw = samples.read(tmp_path / f"raw-{protocol}.npz")
        assert len(raw.planned_us) == found[protocol][0]
        assert (np.diff(raw.planned_us) >= 0).all()
        # Two processes of half the rate each: one of the whole.
        assert 0.5 < len(raw.planned_us) / (raw.end_us / 1e6) / 200 < 1.5


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
