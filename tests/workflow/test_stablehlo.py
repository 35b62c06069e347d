"""The stage as a whole: three processes, and answers of a server without TensorFlow that are the source's own."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from tests.workflow import served_models

from slipway import cli, files, golden, stablehlo
from slipway.contract import Contract, read_contract
from slipway.errors import ContractViolation, SettingsError, SourceError
from slipway.records import ExportRecord, StableHloRecord, TreeManifest
from slipway.settings import LaunchSettings
from slipway_wire import messages
from slipway_wire import stablehlo as wire

SIGNATURES = {"serving_default": served_models.DIGITS["signatures"]["serving_default"]}
SIZES = "1,8,32"


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """What the stages before leave of a model whose answers numpy can check: 50 golden rows, more than any program takes."""
    root = tmp_path_factory.mktemp("stablehlo")
    served_models.write_digits(root / "export")
    _tell_shapes(root / "export" / "saved_model.pb")
    (root / "contract.yaml").write_text(yaml.safe_dump(served_models.DIGITS | {"signatures": SIGNATURES}))
    (root / "full.yaml").write_text(yaml.safe_dump(served_models.DIGITS))
    golden.write(root / "golden.npz", served_models.digits_golden(50))
    tree = TreeManifest.of(root / "export")
    ExportRecord(model="m", version=3, tree=tree, signatures=["serving_default"], tools={}).write(root / "export.json")
    return root


def _tell_shapes(path):
    """Write shapes into the SignatureDef, as our export does it; that of the model made by hand has none."""
    saved_model = messages.SavedModel.FromString(path.read_bytes())
    definition = saved_model.meta_graphs[0].signature_def["serving_default"]
    for name, tensor in SIGNATURES["serving_default"]["outputs"].items():
        definition.outputs[name].tensor_shape.CopyFrom(messages.TensorShapeProto())
        for size in tensor["shape"]:
            definition.outputs[name].tensor_shape.dim.add(size=-1 if size == "N" else size)
    path.write_bytes(saved_model.SerializeToString(deterministic=True))


def command(parts, out, contract="contract.yaml"):
    options = {"contract": contract, "golden": "golden.npz", "export": "export", "export-record": "export.json"}
    options |= {"out": out, "record": f"{out}.json"}
    words = [word for key, name in options.items() for word in (f"--{key}", str(parts / name))]
    return ["stablehlo", "--model", "m", "--version", "3", "--batch-sizes", SIZES, *words]


def run(parts, out, contract="contract.yaml"):
    """Run the command; signal handlers and the watch over ancestors belong to a process of its own."""
    arguments = cli.build_parser("stablehlo").parse_args(command(parts, out, contract))
    arguments.run(arguments)


@pytest.fixture(scope="module")
def made(parts):
    """One run, in a process of its own: TensorFlow must not have run in the one that forks."""
    process = subprocess.run(
        [sys.executable, "-m", "slipway", *command(parts, "made")],
        env=os.environ | {"PYTHONHASHSEED": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    return parts / "made"


def test_programs_weights_and_manifest_are_written_and_recorded(made):
    manifest = wire.decode((made / "manifest.json").read_bytes())
    assert sorted(files.tree_files(made)) == [
        "manifest.json", "s0.b1.vhlo", "s0.b32.vhlo", "s0.b8.vhlo", "weights.bin",
    ]  # fmt: skip
    lowered = manifest.signatures["serving_default"]
    assert lowered.rows_are_apart
    assert [str(spec) for spec in lowered.signature.inputs.values()] == ["image: float [?, 64]"]
    record = StableHloRecord.read(made.with_suffix(".json"))
    record.tree.verify(made)
    assert record.batch_sizes == [1, 8, 32]
    assert {"jaxlib", "tensorflow-cpu"} & record.tools.keys()


def test_its_answers_are_the_sources_own_with_every_program(made):
    record = StableHloRecord.read(made.with_suffix(".json"))

    outputs = set(SIGNATURES["serving_default"]["outputs"])
    for path, rows in (
        ("checkpoint→StableHLO", 50),
        ("StableHLO, 1 rows→32 rows", 1),
        ("StableHLO, 8 rows→32 rows", 8),
    ):
        found = [one for one in record.parity if one.path == path]
        assert {one.output for one in found} == outputs
        assert all(one.ok and one.rows == rows for one in found)


def test_no_tensorflow_is_in_the_server_that_answered(made):
    log = made.with_suffix(".server.log").read_text()

    assert "3 programs of 1 signatures compiled for cpu" in log
    assert not re.search("(?i)tensorflow|cuda_|onednn", log)


_AGAIN = """
import sys
from pathlib import Path
from slipway import stablehlo
from slipway.isolation import run
parts, raw, out = (Path(word) for word in sys.argv[1:])
sizes, apart = {"serving_default": [1, 8, 32]}, {"serving_default": True}
run(lambda: stablehlo.lower(parts / "export", sizes, apart, raw), "m", [raw], 300)
run(lambda: stablehlo.convert(raw, out), "m", [out], 300)
"""


def test_another_process_writes_the_same_bytes(made, parts, tmp_path):
    for name in ("raw", "out"):
        (tmp_path / name).mkdir()

    words = [str(parts), str(tmp_path / "raw"), str(tmp_path / "out")]
    subprocess.run(
        [sys.executable, "-c", _AGAIN, *words], env=os.environ | {"PYTHONHASHSEED": "2"}, cwd=tmp_path, check=True
    )

    assert TreeManifest.of(tmp_path / "out") == TreeManifest.of(made)


def judged(parts, made, answered, contract=None):
    settings = LaunchSettings(engine="process")
    return stablehlo._judged(
        "m", 3, contract or read_contract(parts / "contract.yaml"), answered, made, settings, parts / "judged.log"
    )


def test_answers_that_depart_from_the_sources_stop_the_line(parts, made):
    answered = served_models.digits_golden(5)
    wrong = dict(answered.outputs)
    wrong["logits"] = wrong["logits"].copy()
    wrong["logits"][3, 2] += 0.01

    with pytest.raises(ContractViolation) as refused:
        judged(parts, made, replace(answered, outputs=wrong))

    lines = str(refused.value).splitlines()
    assert any(
        re.match(r"m 3: serving_default\.logits: checkpoint→StableHLO: expected .*, found 0\.01 over 5 rows$", x)
        for x in lines
    )


def test_a_signature_that_xla_cannot_compile_is_told_before_tensorflow_is_imported(parts):
    with pytest.raises(SourceError) as refused:
        run(parts, "none", "full.yaml")

    told = str(refused.value).splitlines()
    assert len(told) == 2
    assert told[0] == (
        "m 3: signature classify has the method classify, whose tf.Examples are strings, which XLA does not have. "
        "Leave the signature out of the contract, or serve it with backend: saved_model"
    )
    assert "signature regress" in told[1]
    assert not list(parts.glob("none*"))


def test_a_programs_order_of_comparison_tells_the_smaller_one_at_fault():
    """Each is compared with that for the most rows, from the same rows."""
    contract = Contract.model_validate(served_models.DIGITS | {"signatures": SIGNATURES})
    answered = served_models.digits_golden(8)

    def answer(name, inputs):
        rows = len(inputs["image"])
        return {"label": np.full(rows, 0 if rows == 8 else rows)}

    found = list(stablehlo._among(contract, "serving_default", answered, [2, 4, 8], answer))

    assert [(one.path, one.ok, one.rows) for one in found] == [
        ("StableHLO, 2 rows→8 rows", False, 2),
        ("StableHLO, 4 rows→8 rows", False, 4),
    ]


def test_without_jax_the_extra_is_named(parts, monkeypatch):
    monkeypatch.setattr(stablehlo.importlib.util, "find_spec", lambda _name: None)

    with pytest.raises(SettingsError, match=r"is not installed: pip install 'slipway\[stablehlo\]'\.$"):
        run(parts, "none")


@pytest.mark.parametrize("text", ["", "a", "0,1", "4,2", "1,1", "-1"])
def test_numbers_of_rows_must_increase(text):
    with pytest.raises(
        SettingsError, match=r"^--batch-sizes: expected numbers of rows that increase, such as 1,8,32; got"
    ):
        stablehlo.batch_sizes(text)


def test_no_program_is_made_for_more_rows_than_a_request_may_have():
    def contract(max_rows, *, apart=True):
        return SimpleNamespace(max_rows=max_rows, rows_are_apart=lambda _name: apart)

    assert stablehlo._sizes_of(contract(10), "f", [1, 8, 32], 64) == [1, 8]
    assert stablehlo._sizes_of(contract(10), "f", [16, 32], 64) == [10]
    assert stablehlo._sizes_of(contract(None), "f", [1, 8], 64) == [1, 8]
    # Golden rows that depend on each other are asked as the checkpoint was: 64 at once, or six tens and four.
    assert stablehlo._sizes_of(contract(None, apart=False), "f", [1, 8], 64) == [1, 8, 64]
    assert stablehlo._sizes_of(contract(10, apart=False), "f", [1, 8], 64) == [1, 4, 8, 10]


def test_a_changed_export_is_told_before_anything_is_compiled(parts, tmp_path):
    record = ExportRecord.read(parts / "export.json")
    odd = record.model_copy(update={"tree": TreeManifest(digest=record.tree.digest, files={})})
    odd.write(tmp_path / "export.json")
    words = command(parts, "odd")
    words[words.index("--export-record") + 1] = str(tmp_path / "export.json")
    arguments = cli.build_parser("stablehlo").parse_args(words)

    with pytest.raises(SourceError, match="not in the manifest"):
        arguments.run(arguments)
