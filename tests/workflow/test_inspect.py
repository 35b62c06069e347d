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
from slipway_wire import dtypes, messages

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


def _as_tensorflow_tells(directories):
    """Print what `saved_model_cli show --all` does, a model behind the other; in a process that has TensorFlow."""
    import contextlib
    import io

    from tensorflow.python.tools import saved_model_cli

    told = []
    for directory in directories:
        with contextlib.redirect_stdout(io.StringIO()) as output:
            saved_model_cli._show_all(directory)
        told.append(output.getvalue())
    return told


def _as_we_tell(directory):
    """Write the facts as `saved_model_cli` writes them."""
    lines = []
    for graph in facts(directory).meta_graphs:
        lines += ["", f"MetaGraphDef with tag-set: '{', '.join(graph.tags)}' contains the following SignatureDefs:"]
        for name, signature in graph.signatures.items():
            lines += ["", f"signature_def['{name}']:"]
            for side, tensors in (("input", signature.inputs), ("output", signature.outputs)):
                lines.append(f"  The given SavedModel SignatureDef contains the following {side}(s):")
                for key, one in tensors.items():
                    sizes = ", ".join("-1" if size is None else str(size) for size in one.shape or ())
                    shape = "unknown_rank" if one.shape is None else f"({sizes})"
                    dtype = dtypes.from_name(one.dtype).enum_name
                    lines += [
                        f"    {side}s['{key}'] tensor_info:",
                        f"        dtype: {dtype}",
                        f"        shape: {shape}",
                    ]
                    lines.append(f"        name: {one.tensor}")
            lines.append(f"  Method name is: {signature.method_name}")
    return "\n".join(lines)


def test_the_facts_are_those_of_saved_model_cli(fresh):
    """Word by word, as far as both tell of signatures; it goes on with the functions of TensorFlow 2's objects."""
    told = fresh.test_function(_as_tensorflow_tells, [str(directory) for directory in SAVED_MODELS])

    assert len(told) > 5
    for directory, expected in zip(SAVED_MODELS, told, strict=True):
        assert _as_we_tell(directory) == expected.partition("\nThe MetaGraph with tag set")[0].partition("\nConcrete Functions")[0].rstrip("\n"), directory  # fmt: skip


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


def test_ops_are_listed_with_what_runs_them_when_asked_for(capsys):
    assert cli.main(["inspect", "--ops", str(TESTDATA / "saved_model_counter")]) == 0
    told = capsys.readouterr().out
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in told.splitlines() if line}
    assert (rows["RestoreV2"], rows["SaveV2"]) == ("1 restore", "1 nothing")
    assert rows["AssignAdd"].startswith("2 incr_counter, incr_counter_by refused: changes the model while it serves")
    assert "\nrefused: signature incr_counter: op AssignAdd (node incr_counter_op/AssignAdd) changes the model" in told

    assert cli.main(["inspect", "--ops", str(HALF_PLUS_TWO)]) == 0
    assert "\nThe op policy refuses nothing.\n" in capsys.readouterr().out


def test_json_lists_ops_when_asked_for(capsys):
    assert cli.main(["inspect", "--json", str(TESTDATA / "saved_model_counter")]) == 0
    [found] = json.loads(capsys.readouterr().out)
    assert found["meta_graphs"][0]["policy"] is None

    assert cli.main(["inspect", "--json", "--ops", str(TESTDATA / "saved_model_counter")]) == 0
    [found] = json.loads(capsys.readouterr().out)
    policy = found["meta_graphs"][0]["policy"]
    assert {one["op"]: one["nodes"] for one in policy["ops"]} == found["meta_graphs"][0]["ops"]
    assert len(policy["refusals"]) == 3


def test_ops_of_a_frozen_graph_are_listed_too(tmp_path, capsys):
    graph = messages.GraphDef()
    for name, op, inputs in (("x", "Placeholder", []), ("r", "ReadFile", ["x"]), ("y", "Identity", ["r"])):
        graph.node.add(name=name, op=op, input=inputs)
    (tmp_path / "frozen.pb").write_bytes(graph.SerializeToString())

    assert cli.main(["inspect", "--ops", str(tmp_path / "frozen.pb")]) == 0
    assert (
        "\nrefused: frozen.pb: op ReadFile (node r) reads files of the machine that serves; " in capsys.readouterr().out
    )
    assert cli.main(["inspect", "--ops", "--json", str(tmp_path / "frozen.pb")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["refused"] for one in found["policy"]["ops"]] == [None, None, "reads files of the machine that serves"]


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
    code = f"import sys; from slipway import cli; cli.main(['inspect', '--ops', {str(HALF_PLUS_TWO)!r}]); sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=False).returncode == 0
