import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tests.workflow import index_factory

from slipway import cli
from slipway.errors import SourceError
from slipway.inspect import facts, find_models

TESTDATA = Path(__file__).parents[1] / "testdata"
HALF_PLUS_TWO = TESTDATA / "saved_model_half_plus_two_cpu"
SAVED_MODELS = sorted(path.parent for path in TESTDATA.rglob("saved_model.pb"))


def test_the_facts_of_a_model_are_those_it_was_made_with():
    [directory] = find_models(HALF_PLUS_TWO)
    found = facts(directory)
    [graph] = found.meta_graphs

    assert (graph.tags, graph.tensorflow_version, graph.functions) == (["serve"], "1.14.0", 0)
    predict = graph.signatures["serving_default"]
    assert predict.method_name == "tensorflow/serving/predict"
    assert (predict.inputs["x"].dtype, predict.inputs["x"].shape, predict.inputs["x"].tensor) == (
        "float",
        [None, 1],
        "x:0",
    )
    assert graph.signatures["classify_x_to_y"].inputs["inputs"].shape is None
    assert found.assets == {"foo.txt": 19}
    assert found.variables_bytes > 0
    assert found.warmup_records is None


_AS_TENSORFLOW_READS = """
import json, sys
from tensorflow.core.protobuf import saved_model_pb2
shape = lambda s: None if s.unknown_rank else [None if d.size < 0 else d.size for d in s.dim]
side = lambda tensors: {name: [shape(t.tensor_shape), t.name] for name, t in tensors.items()}
signatures = lambda graph: {n: [d.method_name, side(d.inputs), side(d.outputs)] for n, d in graph.signature_def.items()}
models = (saved_model_pb2.SavedModel.FromString(open(path, "rb").read()) for path in sys.argv[1:])
print(json.dumps([list(map(signatures, model.meta_graphs)) for model in models]))
"""


def test_signatures_are_those_that_tensorflow_reads():
    """A process of its own: two copies of TensorFlow's messages do not go together."""
    files = [directory / "saved_model.pb" for directory in SAVED_MODELS]
    done = subprocess.run([sys.executable, "-c", _AS_TENSORFLOW_READS, *files], capture_output=True, check=True)

    def side(tensors):
        return {name: [one.shape, one.tensor] for name, one in tensors.items()}

    assert len(files) > 5
    for directory, expected in zip(SAVED_MODELS, json.loads(done.stdout), strict=True):
        found = [
            {key: [one.method_name, side(one.inputs), side(one.outputs)] for key, one in graph.signatures.items()}
            for graph in facts(directory).meta_graphs
        ]
        assert found == expected, directory


def test_versions_come_lowest_first(tmp_path):
    for version in ("10", "9", "x"):
        shutil.copytree(HALF_PLUS_TWO / "00000123", tmp_path / version)

    assert [path.name for path in find_models(tmp_path)] == ["9", "10"]


def test_json_says_the_same_as_the_table(capsys):
    assert cli.main(["inspect", str(HALF_PLUS_TWO)]) == 0
    table = capsys.readouterr().out
    assert cli.main(["inspect", "--json", str(HALF_PLUS_TWO)]) == 0
    [found] = json.loads(capsys.readouterr().out)

    for name, signature in found["meta_graphs"][0]["signatures"].items():
        assert name in table
        assert signature["method_name"] in table
    assert "tags {serve}, made by TensorFlow 1.14.0; 17 kinds of ops" in table


def test_ops_are_listed_when_asked_for(capsys):
    assert cli.main(["inspect", "--ops", str(HALF_PLUS_TWO)]) == 0

    assert "ParseExample" in capsys.readouterr().out


def test_what_is_no_saved_model_is_told_with_the_lines_that_import_it(tmp_path, capsys):
    index_factory.checkpoint(tmp_path / "ner/model.ckpt-7", ["w"])

    assert cli.main(["inspect", str(tmp_path / "ner")]) == 0

    told = capsys.readouterr().out
    assert told.startswith(f"{tmp_path}/ner: a TF1 checkpoint without .meta: model.ckpt-7 (1 tensors, step 7)\n")
    source = yaml.safe_load(told.partition("\n\n")[2])["models"]["ner"]["versions"][1]["source"]
    assert source["kind"] == "tf1_checkpoint"
    assert source["path"] == f"{tmp_path}/ner/model.ckpt-7"
    assert source["builder"].endswith("…")


def test_json_says_what_is_no_saved_model_too(tmp_path, capsys):
    (tmp_path / "m.tflite").write_bytes(b"\x1c\0\0\0TFL3" + bytes(90))

    assert cli.main(["inspect", "--json", str(tmp_path / "m.tflite")]) == 0

    found = json.loads(capsys.readouterr().out)
    assert (found["words"], found["kind"], found["source"]) == ("a TFLite model", None, None)


def test_a_saved_model_that_lies_too_deep_is_found(tmp_path, capsys):
    shutil.copytree(HALF_PLUS_TWO, tmp_path / "NAME/NAME")

    assert cli.main(["inspect", str(tmp_path)]) == 0

    assert "found a SavedModel three levels down at " in capsys.readouterr().out
    with pytest.raises(SourceError, match=r"expected a directory with saved_model\.pb, or one with numbered"):
        find_models(tmp_path)


def test_nothing_is_told_as_nothing(tmp_path, capsys):
    assert cli.main(["inspect", str(tmp_path / "nowhere")]) == 2
    assert (
        capsys.readouterr().err
        == f"slipway inspect: error: {tmp_path}/nowhere: there is nothing at this path. Correct it.\n"
    )


def test_a_damaged_model_is_one_line(tmp_path, capsys):
    (tmp_path / "saved_model.pb").write_bytes(b"\xff" * 40)

    assert cli.main(["inspect", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"slipway inspect: error: {tmp_path}/saved_model.pb: ")
    assert error.count("\n") == 1


def test_tensorflow_is_not_imported():
    code = f"import sys; from slipway import cli; cli.main(['inspect', {str(HALF_PLUS_TWO)!r}]); sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=False).returncode == 0
