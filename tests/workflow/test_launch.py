import json
import shutil
import sys
from argparse import ArgumentParser
from pathlib import Path

import numpy as np
import pytest
from tests.living import living

from slipway import files, golden, launch
from slipway.contract import Contract
from slipway.errors import ContractViolation, ServerError, SettingsError, SourceError
from slipway.golden import Golden
from slipway.launch import check_answer, check_replayed, difference, golden_sizes, read_golden, request_sizes, warms_up
from slipway.oci import archive, layout, serving_config
from slipway.oci.layers import LayerStore
from slipway.oci.layout import ContainerConfig
from slipway.records import CheckpointRecord, ImageRecord, LaunchRecord, TreeManifest
from slipway.servers import ServerSpec
from slipway.settings import BatchingSettings, LaunchSettings, ServerSettings
from slipway_wire import predict, tfrecord, warmup_log

TESTDATA = Path(__file__).parents[1] / "testdata"
CONTRACT = {
    "format": 1,
    "signatures": {
        "serving_default": {
            "method": "predict",
            "inputs": {"x": {"dtype": "float32", "shape": ["N"]}},
            "outputs": {"y": {"dtype": "float32", "shape": ["N"]}},
        }
    },
    "probe": {"batch_sizes": [1, 3, 64]},
}
X = np.linspace(-3, 3, 13, dtype=np.float32)


@pytest.fixture
def contract():
    return Contract.model_validate(CONTRACT)


@pytest.fixture
def line(tmp_path):
    """What the stages before leave: servables, an image layout (its configuration alone), golden data, records."""
    settings = ServerSettings(batching=BatchingSettings(max_batch_size=4, allowed_batch_sizes=[2, 4]))
    config = serving_config.config_files("half", settings)
    entries = [archive.file(f"etc/slipway/{name}", content) for name, content in config.items()]
    layer = LayerStore(tmp_path / "layout", tmp_path / "cache", "gzip", print).layer("config", None, lambda: entries)
    image_id, digest = layout.write_image(
        tmp_path / "layout",
        ContainerConfig(user="1:1", environment={}, entrypoint=(), ports=(), labels={}),
        [layer],
        compression="gzip",
        created="",
        reference="slipway/half:2",
    )
    ImageRecord(
        model="half",
        versions=[1, 2],
        reference="slipway/half:2",
        image_id=image_id,
        manifest_digest=digest,
        layers=[layer],
        compression="gzip",
        base="",
        packages={},
        created="",
    ).write(tmp_path / "image.json")
    (tmp_path / "contract.yaml").write_text(json.dumps(CONTRACT))
    for version in (1, 2):
        shutil.copytree(
            TESTDATA / f"saved_model_half_plus_two_2_versions/0000012{version + 2}", tmp_path / f"half/{version}"
        )
        write_golden(tmp_path, version, X / 2 + 2)
    return tmp_path


def write_golden(place, version, y):
    path = place / f"golden-{version}.npz"
    golden.write(path, Golden({"x": X}, {"y": y.astype(np.float32)}, None))
    CheckpointRecord(
        model="half",
        version=version,
        kind="keras",
        description="",
        tree=TreeManifest(digest=files.digest_of_digests({}), files={}),
        golden_digest=files.sha256_file(path),
        golden_rows=len(X),
        metrics={},
        tools={},
    ).write(place / f"checkpoint-{version}.json")


def run_stage(place, **settings):
    parser = ArgumentParser()
    launch.add_arguments(parser)
    words = ["--model", "half", "--settings", json.dumps({"engine": "process"} | settings)]
    words += ["--image-layout", place / "layout", "--image-record", place / "image.json"]
    words += ["--servable-root", place / "half", "--contract", place / "contract.yaml"]
    words += ["--golden", *(f"{v}={place}/golden-{v}.npz" for v in (1, 2))]
    words += ["--checkpoint-record", *(f"{v}={place}/checkpoint-{v}.json" for v in (1, 2))]
    launch.run(parser.parse_args([*map(str, words), "--out", str(place / "launch.json")]))


def test_every_version_is_compared_over_both_protocols(line, capsys):
    warmed = warmup_log.encode("predict", predict.encode_request("half", {"x": X[:3]}))
    (line / "half/2/assets.extra").mkdir()
    (line / "half/2" / warmup_log.WARMUP_FILE).write_bytes(tfrecord.frame_all([warmed] * 3))

    run_stage(line)

    record = LaunchRecord.read(line / "launch.json")
    assert record.ok
    assert record.versions == {1: "AVAILABLE", 2: "AVAILABLE"}
    # Through the batcher of the image's own settings, and by the server's own count.
    assert record.replayed == {2: 3}
    assert [(a.protocol, a.version) for a in record.answers] == [("rest", 1), ("rest", 2), ("grpc", 1), ("grpc", 2)]
    assert all(parity.rows == len(X) and parity.max_abs < 1e-6 for a in record.answers for parity in a.parity)
    assert {parity.path for a in record.answers for parity in a.parity} == {"checkpoint→REST", "checkpoint→gRPC"}
    # Without a container it must be said, and loudly.
    assert not record.engine.isolated
    assert "WARNING: no container engine" in capsys.readouterr().err


def test_records_that_were_passed_over_are_told(line):
    spec = ServerSpec("half", line / "layout", ImageRecord.read(line / "image.json"), line / "half", LaunchSettings())
    (line / "half/1/assets.extra").mkdir()
    path = line / "half/1" / warmup_log.WARMUP_FILE
    path.write_bytes(tfrecord.frame_all([b"one", b"two"]))

    check_replayed(spec, {1: 2})
    with pytest.raises(ServerError, match=r"^half version 1: expected 2 warm-up records replayed .*, found 1 by the"):
        check_replayed(spec, {1: 1})
    path.write_bytes(b"damaged")
    with pytest.raises(SourceError, match=r"requests: record 0 at byte 0: truncated"):
        check_replayed(spec, {})


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], True),
        (["--enable_model_warmup=false"], False),
        (["--enable_model_warmup=0", "--enable_model_warmup=TRUE"], True),
    ],
)
def test_a_server_told_not_to_warm_up_is_not_blamed(tmp_path, line, flags, expected):
    config = serving_config.config_files("half", ServerSettings(flags=flags))
    entries = [archive.file(f"etc/slipway/{name}", content) for name, content in config.items()]
    layer = LayerStore(tmp_path / "other", tmp_path / "cache", "gzip", print).layer("config", None, lambda: entries)
    image = ImageRecord.read(line / "image.json").model_copy(update={"layers": [layer]})

    assert warms_up(ServerSpec("half", tmp_path / "other", image, line / "half", LaunchSettings())) is expected
    assert warms_up(ServerSpec("half", None, None, line / "half", LaunchSettings()))


def servers() -> set[int]:
    """List the servers that this process has started; other tests may have some, too."""
    return set(living("slipway_server"))


def test_a_wrong_answer_is_named_and_no_record_is_written(line):
    before = servers()
    wrong = X / 2 + 2
    wrong[5] += 0.25
    write_golden(line, 2, wrong)

    with pytest.raises(
        ContractViolation,
        match=rf"^half version 2 over REST: y: row 5: expected {wrong[5]} .*, found {wrong[5] - 0.25}$",
    ):
        run_stage(line)

    assert not (line / "launch.json").exists()
    assert servers() <= before


def test_golden_data_of_another_checkpoint_are_refused(line):
    golden.write(line / "golden-1.npz", Golden({"x": X}, {"y": X}, None))
    paths = {v: line / f"golden-{v}.npz" for v in (1, 2)}
    records = {v: line / f"checkpoint-{v}.json" for v in (1, 2)}

    with pytest.raises(SourceError, match=r"golden-1\.npz: expected sha256:.*, found sha256:"):
        read_golden(paths, records, [1, 2])
    with pytest.raises(SettingsError, match="version 3"):
        read_golden(paths, records, [1, 2, 3])


def test_requests_are_no_larger_than_the_server_takes(line, contract):
    spec = ServerSpec("half", line / "layout", ImageRecord.read(line / "image.json"), line / "half", LaunchSettings())

    assert request_sizes(spec, contract) == [1, 3]
    assert request_sizes(ServerSpec("half", None, None, line / "half", LaunchSettings()), contract) == [1, 3]


def answer(contract, expected, found, labels=None):
    return check_answer("m", 1, "grpc", contract, Golden({"x": X}, expected, labels), found)


def test_an_output_that_is_missing_is_named(contract):
    with pytest.raises(ContractViolation, match="m version 1 over gRPC: expected output y, found only z"):
        answer(contract, {"y": X}, {"z": X})


def test_outputs_of_the_model_that_the_signature_does_not_give_are_passed_over(contract):
    assert [p.output for p in answer(contract, {"y": X, "hidden": X}, {"y": X}).parity] == ["y"]


def test_an_answer_that_is_drawn_is_held_to_its_form():
    by_chance = Contract.model_validate(CONTRACT | {"deterministic": False})
    expected = Golden({"x": X}, {"y": X}, None)

    found = check_answer("m", 1, "rest", by_chance, expected, {"y": -X})
    assert [(p.ok, p.why_not, p.max_abs) for p in found.parity] == [(True, "deterministic: false", 6)]

    with pytest.raises(ContractViolation, match=r"over gRPC: y: expected finite values, got nan"):
        check_answer("m", 1, "grpc", by_chance, expected, {"y": X * np.nan})


@pytest.mark.parametrize(("change", "sizes"), [
    ({}, [1, 3]),
    ({"row_independent": False}, [13]),
    ({"row_independent": False, "max_rows": 5}, [5, 5, 3]),
])  # fmt: skip
def test_rows_that_see_each_other_are_asked_as_the_checkpoint_answered_them(change, sizes):
    assert golden_sizes(Contract.model_validate(CONTRACT | change), 13, [1, 3]) == sizes


def test_served_accuracy_is_measured_where_labels_are_known():
    document = CONTRACT | {"golden": {"label": "y"}}
    document["signatures"] = {
        "serving_default": {
            "method": "predict",
            "inputs": {"x": {"dtype": "float32", "shape": ["N"]}},
            "outputs": {"y": {"dtype": "int64", "shape": ["N"]}},
        }
    }
    found = np.array([1, 2, 3, 4])

    served = answer(Contract.model_validate(document), {"y": found}, {"y": found}, labels=np.array([1, 2, 3, 0]))

    assert served.accuracy == 0.75


@pytest.mark.parametrize(
    ("expected", "found", "said"),
    [
        (np.zeros((2, 3), np.float32), np.zeros((2, 2), np.float32), "expected shape [2, 3], found [2, 2]"),
        (np.array([[0.0, 1.0]], np.float32), np.array([[0.0, np.nan]], np.float32), "row 0[1]: expected 1.0"),
        (np.array([0.0, 1.0], np.float32), np.array([0.5, 1.1], np.float32), "row 0: expected 0.0"),
        (np.array([1, 2, 3]), np.array([1, 2, 4]), "row 2: expected 3, found 4"),
        (np.array([b"a", b"b"], object), np.array([b"a", b"c"], object), "row 1: expected b'b', found b'c'"),
    ],
)
def test_the_worst_row_is_told(expected, found, said):
    assert difference(expected, found, 1e-5, 1e-4).startswith(said)


def test_importing_the_stage_loads_no_tensorflow():
    """It runs beside the server: seconds and memory for nothing."""
    import subprocess

    script = "import sys, slipway.launch; print('tensorflow' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "False\n"
    )
