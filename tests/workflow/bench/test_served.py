"""`slipway bench` on our own server, two versions of a model behind TLS that asks for certificates: real sockets, real TensorFlow."""

import math
import shutil
from argparse import ArgumentParser
from pathlib import Path

import numpy as np
import pytest
import trustme
from tests.dropin import processes
from tests.workflow.undisturbed import undisturb

from slipway import bench, golden, payloads, repetitions
from slipway.bench import spoken, target
from slipway.bench.requests import Asking, source_of
from slipway.errors import ContractViolation, ServerError, SettingsError
from slipway.golden import Golden
from slipway.records import TargetResult
from slipway.security import Security
from slipway_wire.model_spec import ModelSpec
from slipway_wire.tolerances import Tolerance

VERSIONS = Path(__file__).parents[2] / "testdata/saved_model_half_plus_two_2_versions"
# Its answers are those of no other version.
HALF_PLUS_THREE = 125
CONFIG = """model_config_list { config { name: "m" base_path: "PLACE" model_platform: "tensorflow"
  model_version_policy { all {} } version_labels { key: "stable" value: 123 } version_labels { key: "canary" value: 124 } } }"""
QUICK = ("--window", "0.25", "--repetitions", "1", "--concurrency", "2", "--rate", "40")
SETTINGS = "benchmark: {warmup_s: 0.05}\n"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    directory = tmp_path_factory.mktemp("server")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(directory / "ca.pem")
    ours = authority.issue_cert("model.example")
    ours.private_key_pem.write_to_path(directory / "key.pem")
    ours.cert_chain_pems[0].write_to_path(directory / "cert.pem")
    authority.issue_cert("me@example.org").private_key_and_cert_chain_pem.write_to_path(directory / "me.pem")
    shutil.copytree(VERSIONS, directory / "m")
    shutil.copytree(VERSIONS.parent / "saved_model_half_plus_three/00000123", directory / f"m/{HALF_PLUS_THREE}")
    (directory / "models.config").write_text(CONFIG.replace("PLACE", str(directory / "m")))
    (directory / "ssl.config").write_text(
        'server_key: "key.pem"\nserver_cert: "cert.pem"\ncustom_ca: "ca.pem"\nclient_verify: true\n'
    )
    return directory


@pytest.fixture(scope="module")
def server(files):
    """Two versions with labels; gRPC and REST over TLS alone."""
    running = processes.Server(
        files / "log",
        *(f"--model_config_file={files}/models.config", "--allow_version_labels_for_unavailable_models"),
        *(f"--ssl_config_file={files}/ssl.config", "--rest_api_tls"),
        f"--monitoring_config_file={VERSIONS.parent}/monitoring_config.txt",
    )
    try:
        yield running.wait_until_ready()
    finally:
        running.close()


@pytest.fixture(scope="module", autouse=True)
def quiet_machine(tmp_path_factory):
    """A lock of these tests' own, and a machine that nothing disturbs, as the rules see it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench, "lock_path", lambda: tmp_path_factory.getbasetemp() / "served.lock")
        undisturb(patch)
        patch.setattr(repetitions, "MOST_RATE_ERROR", math.inf)
        yield


def run(server, files, directory, *words, protected=True):
    parser = ArgumentParser()
    bench.add_arguments(parser)
    target = ["--target", f"127.0.0.1:{server.grpc_port}", "--rest-target", f"127.0.0.1:{server.rest_port}"]
    own = ["--cert-file", files / "me.pem", "--ca", files / "ca.pem", "--server-name", "model.example", "--tls"]
    (directory / "quick.yaml").write_text(SETTINGS)
    settings = ["--configfile", directory / "quick.yaml", "--out", directory / "out"]
    given = [*target, "--model", "m", *(own if protected else ()), *words, *settings]
    code = bench.run(parser.parse_args([str(word) for word in given]))
    return code, TargetResult.read(directory / "out/result.json").benchmark


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "rows.npz"
    np.savez(path, x=np.float32([1, 2, 3, 4, 5]))
    return path


def repetitions_of(found):
    return [repetition for cell in found.cells for repetition in cell.repetitions]


def test_everything_goes_over_tls_and_the_result_says_so(server, files, features, tmp_path):
    """Regress by a label, closed and open loop."""
    words = ("--signature", "regress_x_to_y", "--payload", features, "--label", "canary")
    code, found = run(server, files, tmp_path, *QUICK, *words)

    assert code == 0
    assert {p: said.split(",")[0] for p, said in found.target.tls.items()} == {"rest": "TLSv1.3", "grpc": "TLSv1.3"}
    assert all(said.endswith("client certificate") for said in found.target.tls.values())
    assert (found.target.method, found.target.signature.method, found.target.label) == ("regress", "regress", "canary")
    assert (found.version, found.target.versions) == (
        124,
        {123: "AVAILABLE", 124: "AVAILABLE", HALF_PLUS_THREE: "AVAILABLE"},
    )
    assert [cell.id for cell in found.cells] == ["rest-closed-2", "grpc-closed-2", "rest-open-40", "grpc-open-40"]
    assert all(r.checked_answers > 0 and not r.wrong_answers and not r.errors for r in repetitions_of(found))
    # The server's metrics were read over TLS.
    assert all(r.stages_us for r in repetitions_of(found))
    assert [ceiling.protocol for ceiling in found.ceilings] == ["rest", "grpc"]
    page = (tmp_path / "out/index.html").read_text()
    for said in ("TLSv1.3", "canary", "regress"):
        assert said in page


def test_classify_is_loaded_and_its_answers_checked(server, files, features, tmp_path):
    more = ("--version", "124", "--scenario", "saturation", "serialization")
    words = ("--signature", "classify_x_to_y", "--payload", features, *more)
    code, found = run(server, files, tmp_path, *QUICK, *words)

    assert found.target.method == "classify"
    assert all(r.checked_answers > 0 and not r.wrong_answers and not r.errors for r in repetitions_of(found))
    # Making requests anew is a scenario of predict alone: its answer is missing, and says why. The load's numbers count.
    assert code == 0
    assert found.scenarios[0].invalid == [
        "not measured: the load calls classify, and only predict is made while the clock runs"
    ]


def test_two_versions_are_loaded_in_turns_and_each_gives_its_own_answers(server, files, tmp_path):
    pairs = ("ab_versions.pairs=1", "ab_versions.window_s=0.2", "ab_versions.users=2", "ab_versions.base=stable")
    np.savez(tmp_path / "rows.npz", x=np.float32([[1], [2], [3]]))
    words = ("--payload", tmp_path / "rows.npz", "--version", "123", "--set", "ab_versions.head=125", *pairs)
    code, found = run(server, files, tmp_path, "--window", "0.1", "--scenario", "ab_versions", *words)
    (scenario,) = found.scenarios
    turns = [(w.label, w.protocol) for w in scenario.windows]

    # On a machine that stands still for a whole window, one may have no answer, which is told.
    assert code == (2 if scenario.invalid else 0)
    assert sorted(turns[:4]) == [
        (f"{side}, closed loop", protocol) for side in ("label stable", "version 125") for protocol in ("grpc", "rest")
    ]
    # Both of a pair come one after the other, closed loops before open ones.
    assert all(one[1] == other[1] for one, other in zip(turns[::2], turns[1::2], strict=True))
    assert [label.rpartition(", ")[2] for label, _ in turns] == ["closed loop"] * 4 + ["open loop"] * 4
    assert all(not w.repetition.wrong_answers and not w.repetition.errors for w in scenario.windows)
    assert sum(w.repetition.checked_answers for w in scenario.windows) > 0
    told = {(v.key, v.protocol, v.label): v.value for v in scenario.values}
    for key in ("predictions_per_s", "latency_p50"):
        for protocol in ("rest", "grpc"):
            assert scenario.invalid or told[key, protocol, "label stable"] > 0
            assert scenario.invalid or told[f"{key}_ratio", protocol, "version 125 ÷ label stable"] > 0
    assert any("fewer than 6 pairs" in note for note in scenario.notes)
    assert not any("cannot be told by the answer" in note for note in scenario.notes)
    assert "Two versions side by side" in (tmp_path / "out/index.html").read_text()


def test_answers_of_another_version_are_wrong(server, files, tmp_path):
    x = np.float32([[1], [2], [3]])
    golden.write(tmp_path / "golden.npz", Golden({"x": x}, {"y": x / 2 + 3}, None))
    with pytest.raises(
        ContractViolation, match=r"answers otherwise than the payload file says: y: \[0, 0\]: expected 3.5"
    ):
        run(server, files, tmp_path, "--payload", tmp_path / "golden.npz", "--version", "124")


def test_predict_goes_with_any_signature(server, files, features):
    protected = Security(
        tls=True, authorities=files / "ca.pem", certificate=files / "me.pem", server_name="model.example"
    )
    ports = [f"127.0.0.1:{port}" for port in (server.grpc_port, server.rest_port)]
    known = target.TargetServer(spoken.find(ports, None, protected), security=protected)
    spec = ModelSpec("m", version=124, signature_name="classify_x_to_y")
    found = target.find_signature(known, spec, "predict")
    source = source_of(str(features), None, found.signature, 1)
    sent = Asking(known, spec, found.signature, found.method, source, Tolerance()).payloads(2)

    payloads.check_same_values(sent, {found.signature.name: found.signature}, "m")
    assert [payload.method for payload in sent] == ["predict", "predict"]
    assert sent[0].expected["scores"].shape == (2, 1)


def test_what_does_not_fit_is_one_line(server, files, tmp_path):
    with pytest.raises(SettingsError, match=r"regress_x_to_y takes tf.Examples, and the server does not tell of which"):
        run(server, files, tmp_path, "--signature", "regress_x_to_y", "--version", "124")
    with pytest.raises(
        SettingsError, match=r"^--method classify: regress_x_to_y is called by regress; .*: classify_x2_to"
    ):
        run(server, files, tmp_path, "--signature", "regress_x_to_y", "--version", "124", "--method", "classify")
    with pytest.raises(SettingsError, match=r"regress_x2_to_y3 takes inputs: float \[\?, 1\].*say --method predict$"):
        run(server, files, tmp_path, "--signature", "regress_x2_to_y3", "--version", "124")
    with pytest.raises(ServerError, match=r"labels/none/metadata: expected 200.*: none$"):
        run(server, files, tmp_path, "--label", "none")
    with pytest.raises(ServerError, match=rf"127.0.0.1:{server.grpc_port}: speaks TLS\. Say --tls"):
        run(server, files, tmp_path, protected=False)
    with pytest.raises(ServerError, match=r"\(--cert-file FILE, --key-file FILE\)"):
        run(
            server,
            files,
            tmp_path,
            "--tls",
            "--ca",
            files / "ca.pem",
            "--server-name",
            "model.example",
            protected=False,
        )
    assert not (tmp_path / "out").exists()
