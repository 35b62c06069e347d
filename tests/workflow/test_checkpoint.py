import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from tests.workflow.conftest import Finished
from tests.workflow.graphs import graph_factory

from slipway import files, golden
from slipway.checkpoint import describe, parse_source
from slipway.errors import SettingsError
from slipway.golden import Golden
from slipway.records import CheckpointRecord

FLOWERS = {
    "signatures": {
        "serving_default": {
            "method": "predict",
            "inputs": {"x": {"shape": ["N", 4], "range": [-1, 1]}},
            "outputs": {"logits": {"shape": ["N", 3]}},
        }
    }
}
WEIGHTS = {"kind": "weights", "path": "flowers.weights.h5", "builder": "user_models:flowers"}
CHECKPOINT = {"kind": "checkpoint", "path": "flowers.ckpt", "builder": "user_models:flowers"}


def test_the_built_in_digits_are_learnt_and_written_down(trained):
    record = CheckpointRecord.read(trained.checkpoint_record)

    assert record.parameters == 85_066
    assert record.golden_rows == 360
    assert 0.3 < record.metrics["accuracy"] < 1
    assert record.golden_digest == files.sha256_file(trained.golden)
    record.tree.verify(trained.source_directory)
    answered = golden.read(trained.golden)
    assert answered.inputs["image"].shape == (360, 8, 8, 1)
    assert set(answered.outputs) == {"logits", "probabilities", "label"}
    np.testing.assert_allclose(answered.outputs["probabilities"].sum(axis=-1), 1, rtol=1e-5)


def test_the_same_source_gives_the_same_bytes(trained, fresh, tmp_path):
    again = type(trained)(tmp_path / "elsewhere", trained.source, trained.contract)
    again.directory.mkdir()

    assert again.run(fresh, "checkpoint").code == 0

    assert files.tree_files(again.source_directory).keys() == files.tree_files(trained.source_directory).keys()
    assert again.checkpoint_record.read_bytes() == trained.checkpoint_record.read_bytes()
    assert again.golden.read_bytes() == trained.golden.read_bytes()


def test_rows_are_drawn_where_a_source_brings_none(user_version, user_files, fresh):
    version = user_version({"kind": "keras", "path": "flowers.keras"}, FLOWERS | {"golden": {"rows": 5}})

    finished = version.run(fresh, "checkpoint", directory=user_files)

    assert finished.code == 0, finished.output
    record = CheckpointRecord.read(version.checkpoint_record)
    assert (record.golden_rows, record.metrics, record.parameters) == (5, {}, 99)
    assert golden.read(version.golden).labels is None


def cut(directory, name):
    path = directory / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(directory, name):
    path = directory / name
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 0x10
    path.write_bytes(data)


FAULTS = {
    "weights cut off": (WEIGHTS, FLOWERS, lambda d: cut(d, "flowers.weights.h5"), "flowers.weights.h5: cut off or damaged (Unable to synchronously open file (truncated file: "),
    "a whole model where weights are": (WEIGHTS | {"path": "flowers.keras", "builder": "user_models:pair"}, FLOWERS, None, "flowers.keras: the weights do not fit"),
    "weights where a whole model is": (
        {"kind": "keras", "path": "flowers.weights.h5"},
        FLOWERS,
        None,
        "this is weights of Keras alone (.h5), without the model. Write kind: weights with builder, path: flowers.weights.h5.",
    ),
    "an archive cut off": ({"kind": "keras", "path": "flowers.keras"}, FLOWERS, lambda d: cut(d, "flowers.keras"), "flowers.keras: cut off or damaged"),
    "a checkpoint's data cut off": (CHECKPOINT, FLOWERS, lambda d: cut(d, "flowers.ckpt.data-00000-of-00001"), "flowers.ckpt.data-00000-of-00001 is cut off (2275 of 4550 bytes)"),
    "a checkpoint's data with a flipped bit": (CHECKPOINT, FLOWERS, lambda d: flip(d, "flowers.ckpt.data-00000-of-00001"), "flowers.ckpt: the checkpoint does not fit the model, or is damaged: "),
    "a checkpoint's index cut off": (CHECKPOINT, FLOWERS, lambda d: cut(d, "flowers.ckpt.index"), "flowers.ckpt.index: no index of a checkpoint, or damaged: its last bytes are not those of an index (cut off?)"),
    "another root": (CHECKPOINT | {"root": "net"}, FLOWERS, None, "flowers.ckpt: holds no object net; it holds: model, optimizer. Name one as `root`."),
    "another model": (CHECKPOINT | {"builder": "user_models:pair"}, FLOWERS, None, "flowers.ckpt: the checkpoint does not fit the model"),
    "no such builder": (WEIGHTS | {"builder": "user_models:tulips"}, FLOWERS, None, "builder user_models:tulips: AttributeError: "),
    "no such module": (WEIGHTS | {"builder": "their_models:f"}, FLOWERS, None, "builder their_models:f: ModuleNotFoundError: No module named 'their_models'. It is imported from"),
    "a builder that crashes": (
        CHECKPOINT | {"builder": "crashing:build"},
        FLOWERS,
        lambda d: (d / "crashing.py").write_text("import os\n\ndef build():\n    os.abort()\n"),
        "mine 1: reading the source crashed TensorFlow (SIGABRT): the file is damaged, or made to do so",
    ),
    "a builder that leaves": (
        CHECKPOINT | {"builder": "leaving:build"},
        FLOWERS,
        lambda d: (d / "leaving.py").write_text("import sys\n\nsys.exit(0)\n"),
        "mine 1: the process that read the source left with exit code 0 before it was done. Does a module",
    ),
    "a builder of something else": (CHECKPOINT | {"builder": "user_models:Path"}, FLOWERS, None, "expected a Keras model or a tf.Module that can be called, found PosixPath"),
    "another width of inputs": (
        {"kind": "keras", "path": "flowers.keras"},
        {"signatures": {"serving_default": {"method": "predict", "inputs": {"x": {"shape": ["N", 5]}}, "outputs": {"y": {"shape": ["N", 3]}}}}},
        None,
        "the model does not take x float32 [64, 5]: ",
    ),
    "other names of inputs": (
        {"kind": "keras", "path": "pair.keras"},
        {"signatures": {"serving_default": {"method": "predict", "inputs": {"user": {"shape": ["N", 2]}, "film": {"shape": ["N", 3]}}, "outputs": {"rating": {"shape": ["N", 1]}}}}},
        None,
        "contract: the model has inputs user, item, the contract has user, film.",
    ),
    "no such output": (
        {"kind": "keras", "path": "pair.keras"},
        {"signatures": {"serving_default": {"method": "predict", "inputs": {"user": {"shape": ["N", 2]}, "item": {"shape": ["N", 3]}}, "outputs": {"stars": {"shape": ["N", 1]}}}}},
        None,
        "contract: the model has no output stars; it has: ",
    ),
    "golden rows of something else": (
        {"kind": "keras", "path": "flowers.keras", "golden": "flowers.npz"},
        {"signatures": {"serving_default": {"method": "predict", "inputs": {"petals": {"shape": ["N", 4]}}, "outputs": {"y": {"shape": ["N", 3]}}}}},
        None,
        "flowers.npz: no array petals; found: x, labels. Name arrays as the inputs of the contract.",
    ),
    "answers that are no numbers": (
        {"kind": "checkpoint", "path": "line.ckpt", "builder": "user_models:NotFinite"},
        {"signatures": {"serving_default": {"method": "predict", "inputs": {"x": {"shape": ["N", 2], "range": [0, 0]}}, "outputs": {"y": {"shape": ["N", 2]}}}}},
        None,
        "y: 64 of 64 answers are NaN or infinite: the weights are damaged.",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("source", "contract", "harm", "expected"), FAULTS.values(), ids=FAULTS)
def test_a_source_that_cannot_be_used_is_one_line_and_leaves_nothing(
    source, contract, harm, expected, user_version, user_files, fresh, tmp_path
):
    directory = user_files
    if harm:
        directory = tmp_path / "damaged"
        shutil.copytree(user_files, directory)
        harm(directory)
    version = user_version(source, contract)

    finished = version.run(fresh, "checkpoint", directory=directory)

    assert finished.code == 2, finished.output
    assert len(finished.errors) == 1, finished.output
    assert expected in finished.errors[0]
    assert "Traceback" not in finished.output
    assert list(version.directory.iterdir()) == []


def endless():
    """A loop of TensorFlow 2 whose condition is a constant: it goes from x to -x and back."""
    made = graph_factory.graph(graph_factory.placeholder("x", shape=(None, 4)), graph_factory.node("y", "While", "x"))
    floats = made.node[1].attr
    floats["T"].list.type.append(1)
    floats["cond"].func.name, floats["body"].func.name = "always", "negated"
    for name, returned, body in (
        ("always", 10, graph_factory.node("out", "Const", dtype="bool", value=np.array(True))),
        ("negated", 1, graph_factory.node("out", "Neg", "a")),
    ):
        function = made.library.function.add()
        function.signature.name = name
        function.signature.input_arg.add(name="a", type=1)
        function.signature.output_arg.add(name="r", type=returned)
        function.node_def.append(body)
        function.ret["r"] = "out:output:0" if returned == 10 else "out:y:0"
    made.library.function[1].node_def[0].attr["T"].type = 1
    for node in (*made.node, *(node for function in made.library.function for node in function.node_def)):
        node.device = ""
    return made


LIMITED = (
    "(__import__('os').environ.update(SLIPWAY_SOURCE_TIMEOUT_S='5'), __import__('slipway.cli').cli.main(words))[1]"
)


def test_a_graph_that_never_ends_is_stopped(user_version, fresh, tmp_path):
    (tmp_path / "endless.pb").write_bytes(endless().SerializeToString())
    source = {
        "kind": "frozen_graph",
        "path": str(tmp_path / "endless.pb"),
        "inputs": {"x": "x"},
        "outputs": {"logits": "y"},
    }
    version = user_version(source, FLOWERS)
    words = [str(word) for word in version.words("checkpoint")]

    finished = Finished(*fresh.call(eval, LIMITED, {"words": words}, directory=tmp_path))

    assert finished.code == 2, finished.output
    (told,) = finished.errors
    assert told.startswith("mine 1: reading the source took more than 5 s and was stopped: a graph that never ends?")
    assert list(version.directory.iterdir()) == []


def test_a_source_whose_content_changed_since_its_version_was_added_is_refused(user_version, user_files, fresh):
    version = user_version({"kind": "keras", "path": "flowers.keras"}, FLOWERS)

    finished = fresh.slipway(*version.words("checkpoint"), "--digest", f"sha256:{'0' * 64}", directory=user_files)

    assert finished.code == 2
    assert finished.errors[0].startswith(f"mine 1: expected content sha256:{'0' * 64}, found sha256:")
    assert list(version.directory.iterdir()) == []


@pytest.mark.parametrize(("number", "left"), [(signal.SIGTERM, 0), (signal.SIGINT, 0), (signal.SIGKILL, 2)])
def test_a_stage_that_is_stopped_leaves_nothing_that_the_next_does_not_remove(
    number, left, user_version, user_files, fresh
):
    version = user_version({"kind": "keras", "path": "flowers.keras"}, FLOWERS)
    words = [str(word) for word in version.words("checkpoint")]
    process = subprocess.Popen([sys.executable, "-m", "slipway", *words], cwd=user_files, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 200
    # Its own for temporary files, and that of the output.
    while len(partials := list(version.directory.glob(".source.*.partial"))) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    assert len(partials) == 2

    process.send_signal(number)
    process.wait(200)

    assert len(list(version.directory.iterdir())) == left
    assert version.run(fresh, "checkpoint", directory=user_files).code == 0
    assert sorted(path.name for path in version.directory.iterdir()) == ["checkpoint.json", "golden.npz", "source"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"kind": "builtin", "epochs": 0}', "--source: builtin.epochs: should be greater than 0"),
        ('{"kind": "onnx"}', "--source: "),
        ("{", "--source: "),
    ],
)
def test_a_source_with_faults_is_told_line_by_line(text, expected):
    with pytest.raises(SettingsError) as caught:
        parse_source(text)

    assert str(caught.value).startswith(expected)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('{"kind": "builtin", "epochs": 7}', "A small CNN, trained for 7 epochs (seed 0)"),
        ('{"kind": "keras", "path": "a/b.keras"}', "A model saved by Keras, b.keras; golden rows are 2 rows drawn"),
        (
            '{"kind": "weights", "path": "w.weights.h5", "builder": "m:f", "golden": "d/g.npz"}',
            "Weights from w.weights.h5 in the model of m:f; golden rows are 2 rows from g.npz.",
        ),
        (
            '{"kind": "checkpoint", "path": "c/m-1", "builder": "m:f"}',
            "The TensorFlow checkpoint m-1 in the model of m:f",
        ),
    ],
)
def test_the_report_is_told_what_it_is_in_a_sentence(source, expected):
    answered = Golden({"x": np.zeros(2)}, {"y": np.zeros(2)}, None)

    assert describe(parse_source(source), answered).startswith(expected)
