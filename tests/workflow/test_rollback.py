import threading
from pathlib import Path

import grpc
import numpy as np
import pytest
import yaml

from slipway import cli, model_config, repository, servers
from slipway.servers import ServerSpec
from slipway.settings import LaunchSettings
from slipway_wire import paths, predict

TESTDATA = Path(__file__).parents[1] / "testdata"
CONFIG = """\
format: 1
models:
  a:
    contract: c.yaml
    versions:
      1: {source: {kind: builtin, seed: 1}}
      2: {source: {kind: builtin, seed: 2}}
      3: {source: {kind: builtin, seed: 3}}   # the newest
"""


@pytest.fixture
def rollback(tmp_path, monkeypatch, capsys):
    """Run the command in a project of three versions and give exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text(CONFIG)

    def run(*words, config="config.yaml"):
        arguments = ["rollback", "a", "--reason", "it errs: 5 %", "--by", "me", "--config", config, *map(str, words)]
        return cli.main(arguments), *capsys.readouterr()

    return run


def model():
    return yaml.safe_load(Path("config.yaml").read_text())["models"]["a"]


def log():
    return yaml.safe_load(Path("config.yaml").read_text())["rollbacks"]


def test_the_version_before_answers_and_the_log_says_who_when_and_why(rollback):
    code, said, _ = rollback()

    assert code == 0
    assert "version 2 instead of 3" in said
    assert "The way back: slipway rollback a --to 3" in said
    assert model()["serving"] == {"policy": {"specific": [1, 2]}}
    (entry,) = log()
    assert entry.pop("at").endswith("Z")
    assert entry == {
        "model": "a", "from": 3, "to": 2, "reason": "it errs: 5 %", "by": "me", "was": {"policy": "all", "labels": {}}
    }  # fmt: skip
    assert Path("config.yaml").read_text().startswith(CONFIG)


def test_the_way_back_leaves_all_as_it_was_but_the_log(rollback):
    rollback()
    rollback("--to", 3)

    assert model()["serving"] == {"policy": "all"}
    assert [(entry["from"], entry["to"]) for entry in log()] == [(3, 2), (2, 3)]


def test_step_by_step_back_and_again_forward(rollback):
    rollback()
    rollback()
    assert model()["serving"] == {"policy": {"specific": [1]}}

    rollback("--to", 3)
    assert model()["serving"] == {"policy": "all"}
    code, _, told = rollback("--to", 1)
    assert (code, model()["serving"]["policy"]) == (0, {"specific": [1]})
    code, _, told = rollback()
    assert code == 2
    assert "version 1 answers now, and there is none before it" in told


def test_what_answers_already_is_no_rollback(rollback):
    code, said, _ = rollback("--to", 3)

    assert code == 0
    assert "version 3 answers already" in said
    assert Path("config.yaml").read_text() == CONFIG


def test_a_label_moves_alone(rollback):
    rollback("--label", "stable", "--to", 3)
    rollback("--label", "stable")

    assert model()["serving"] == {"labels": {"stable": 2}}
    assert [entry["label"] for entry in log()] == ["stable", "stable"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--to", 9), "a has no version 9; there are: 1, 2, 3"),
        (("--label", "stable"), "no label stable; there are: none"),
        (("--label", "a/b", "--to", "1"), "--label: expected letters"),
        (("--target", "localhost:1"), "a server is told the whole of what it serves"),
        (("--target", "localhost:1", "--base-path", "/m/a", "--timeout", "1"), "localhost:1: /tensorflow.serving."),
        (("--model-config-file", "gone"), "gone: cannot be read"),
    ],
)
def test_what_cannot_be_done_is_told_without_a_traceback(rollback, words, told):
    code, _, said = rollback(*words)

    assert code == 2
    assert told in said
    assert len(said.splitlines()) == 1


# --- a server that runs ----------------------------------------------------------------------------


class Client:
    """Asks again and again, until told to stop, and keeps which version answered what."""

    def __init__(self, target):
        self._channel = grpc.insecure_channel(target)
        self._call = self._channel.unary_unary(paths.GRPC_PREDICT)
        self._request = predict.encode_request("a", {"x": np.float32([[2.0]])})
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self.answers, self.errors = [], []

    def ask(self):
        spec, outputs = predict.decode_response(self._call(self._request, timeout=90))
        return spec.version, float(outputs["y"][0, 0])

    def _ask(self):
        while not self._stop.is_set() and len(self.answers) < 100_000:
            try:
                self.answers.append(self.ask())
            except grpc.RpcError as error:
                self.errors.append(error)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()
        self._channel.close()


@pytest.fixture
def server(tmp_path):
    """Our server with two published versions of one model: y = x / 2 + 2, and + 3; and its configuration, which it polls."""
    base = tmp_path / "models/a"
    for name in ("two_cpu", "three"):
        repository.publish(TESTDATA / f"saved_model_half_plus_{name}/00000123", base)
    config = tmp_path / "models.config"
    config.touch()
    model_config.write(config, model_config.of_one_model("a", str(base)))
    flags = (f"--model_config_file={config}", "--model_config_file_poll_wait_seconds=1")
    spec = ServerSpec("a", None, None, base, LaunchSettings(), flags)
    with servers.running_server(spec, log=tmp_path / "log") as running:
        yield running, config


def test_a_running_server_goes_back_and_forth_and_no_request_fails(server, tmp_path, monkeypatch):
    """No config of the line is needed: what there is to choose from lies in the server's base path."""
    monkeypatch.chdir(tmp_path)
    running, config = server

    def go(*words):
        return cli.main(["rollback", "a", "--reason", "test", *map(str, words)])

    target = f"{running.host}:{running.grpc_port}"
    live = ("--model-config-file", config, "--target", target)

    with Client(target) as client:
        assert client.ask() == (2, 4.0)
        assert go(*live) == 0
        assert client.ask() == (1, 3.0)
        assert go(*live, "--to", 2) == 0
        assert client.ask() == (2, 4.0)
        # The file alone: the server looks at it each second.
        assert go(*live[:2]) == 0
        model_config.wait_until_default(target, "a", 1, timeout_s=90)
        assert client.ask() == (1, 3.0)

    assert client.errors == []
    assert set(client.answers) == {(1, 3.0), (2, 4.0)}
