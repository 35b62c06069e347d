import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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


def make(directory, *names):
    for name in names:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).touch()


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ((), "it is empty"),
        (("model.ckpt-7.index", "model.ckpt-7.data-00000-of-00001"), "found a checkpoint (model.ckpt-7)"),
        (("m.index", "m.meta"), "found a checkpoint with its .meta (m)"),
        (("flowers.keras",), "found a Keras model (flowers.keras): export it first, as a source of kind: keras"),
        (("old.h5",), "found a Keras model (old.h5)"),
        (("frozen.pb",), "found frozen.pb, a GraphDef perhaps"),
        (("a/1/saved_model.pb",), "found one further down: "),
        (("README", "x", "y"), "found README, x, y"),
    ],
)
def test_what_is_no_saved_model_is_told_what_it_is(tmp_path, names, said):
    make(tmp_path, *names)

    with pytest.raises(SourceError) as caught:
        find_models(tmp_path)
    assert said in str(caught.value)


def test_a_file_and_nothing_are_told_too(tmp_path):
    make(tmp_path, "saved_model.pb")
    with pytest.raises(SourceError, match="name its directory instead"):
        find_models(tmp_path / "saved_model.pb")
    with pytest.raises(SourceError, match="there is nothing at this path"):
        find_models(tmp_path / "nowhere")


def test_a_damaged_model_is_one_line(tmp_path, capsys):
    (tmp_path / "saved_model.pb").write_bytes(b"\xff" * 40)

    assert cli.main(["inspect", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"slipway inspect: error: {tmp_path}/saved_model.pb: ")
    assert error.count("\n") == 1


def test_tensorflow_is_not_imported():
    code = f"import sys; from slipway import cli; cli.main(['inspect', {str(HALF_PLUS_TWO)!r}]); sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=False).returncode == 0
