"""Every kind that is named in docs/sources.md, as its own framework writes it, and what is not quite one."""

import shutil
import struct
import subprocess
import sys
import zipfile

import pytest
from tests.workflow import index_factory
from tests.workflow.conftest import ROOT

from slipway.detection.detect import detect, find_all, misfit
from slipway.errors import SourceError
from slipway_wire.protobuf import bytes_field, varint_field

TESTDATA = ROOT / "tests/testdata"

KNOWN = {
    "tf1": ("tf1_checkpoint", "a TF1 checkpoint: model.ckpt-157585 (3 tensors, step 157585)"),
    "tf1/model.ckpt-157585": ("tf1_checkpoint", "a TF1 checkpoint: model.ckpt-157585"),
    "tf1/model.ckpt-157585.index": ("tf1_checkpoint", "a TF1 checkpoint: model.ckpt-157585"),
    "tf1/model.ckpt-157585.meta": ("tf1_checkpoint", "a TF1 checkpoint: model.ckpt-157585"),
    "tf1/model.ckpt-157585.data-00000-of-00001": ("tf1_checkpoint", "a TF1 checkpoint: model.ckpt-157585"),
    "tf1/checkpoint": ("tf1_checkpoint", "a TF1 checkpoint: model.ckpt-157585"),
    "objects": ("checkpoint", "a TF2 checkpoint of objects: net.ckpt-1 (4 tensors, step 1; it holds model)"),
    "frozen.pb": ("frozen_graph", "a frozen GraphDef ("),
    "frozen.pbtxt": ("frozen_graph", "a GraphDef as text"),
    "live.pb": (None, "a GraphDef that is not frozen: its 3 variables have no values"),
    "sm1": ("saved_model", "a SavedModel in the format of TensorFlow 1 (signatures serving_default)"),
    "sm1/saved_model.pb": ("saved_model", "a SavedModel in the format of TensorFlow 1"),
    "sm1/variables/variables.index": ("saved_model", "a SavedModel in the format of TensorFlow 1"),
    "estimator": ("saved_model", "a base path with versions 1700000000; the newest is the export of an Estimator"),
    "sm2/mine/1": ("saved_model", "a SavedModel in the format of TensorFlow 2 ("),
    "k2.h5": ("keras", "a whole model of Keras 2 (2."),
    "k2w.h5": ("weights", "weights of Keras 2 (2."),
    "k2.weights.h5": ("weights", "weights of Keras alone (.h5), without the model"),
    "recurrent.keras": ("keras", "a whole model of Keras 2 (2."),
    "lambda2.h5": ("keras", "a whole model of Keras 2 (2.21.0) (.h5), which carries code (Lambda layer lambda)"),
    "lambda3.keras": ("keras", "which carries code (Lambda layer lambda"),
    "k3.keras": ("keras", "a whole model of Keras 3 (3."),
    "k3.h5": ("keras", "a whole model of Keras 3 (3."),
    "k3.weights.h5": ("weights", "weights of Keras alone (.h5), without the model"),
    "golden.npz": (None, "arrays of numpy (.npz)"),
}


def test_what_frameworks_write_is_named(foreign_files):
    found = {name: detect(foreign_files / name) for name in KNOWN}

    assert {name: (one.kind, one.words) for name, one in found.items() if KNOWN[name][1] not in one.words} == {}
    assert {name: one.kind for name, one in found.items()} == {name: kind for name, (kind, _) in KNOWN.items()}


def test_names_of_tensors_are_guessed(foreign_files):
    for name in ("tf1", "frozen.pb"):
        keys = detect(foreign_files / name).keys
        assert keys == {"inputs": {"x": "x:0", "keep": "keep:0"}, "outputs": {"probs": "probs:0"}}, name


def test_a_checkpoint_without_its_meta_needs_a_builder(tmp_path):
    prefix = index_factory.checkpoint(tmp_path / "model.ckpt-7", ["w", "b"])

    message = misfit("a frozen GraphDef (.pb)", tmp_path)

    assert (
        "expected a frozen GraphDef (.pb); this is a TF1 checkpoint without .meta: model.ckpt-7 (2 tensors, step 7)."
        in message
    )
    assert message.endswith(f"Write kind: tf1_checkpoint with builder, path: {prefix}.")


def test_of_several_checkpoints_the_state_file_says_which(tmp_path):
    for step in (5, 10, 9):
        index_factory.checkpoint(tmp_path / f"m-{step}", index_factory.OBJECTS)

    assert detect(tmp_path).path.name == "m-10"
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "/somewhere/else/m-9"\n')
    found = detect(tmp_path)
    assert found.path.name == "m-9"
    assert "the latest of 3 (beside m-5, m-10)" in found.words


def test_a_checkpoint_that_misses_a_part_says_which(tmp_path):
    index_factory.checkpoint(tmp_path / "m-1", ["a", "b"], shards=2)
    data = tmp_path / "m-1.data-00001-of-00002"

    data.write_bytes(bytes(15))
    assert "m-1.data-00001-of-00002 is cut off (15 of 16 bytes)" in detect(tmp_path).words
    data.unlink()
    assert "m-1.data-00001-of-00002 is not there" in detect(tmp_path).words
    (tmp_path / "m-1.index").unlink()
    assert "whose m-1.index is missing" in detect(tmp_path / "m-1").words
    (tmp_path / "m-1.data-00000-of-00002").unlink()
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "m-1"\n')
    assert "a `checkpoint` state file alone, which names m-1" in detect(tmp_path).words


def test_a_saved_model_too_deep_is_found_and_told(tmp_path):
    shutil.copytree(TESTDATA / "saved_model_half_plus_two_cpu/00000123", tmp_path / "NAME/NAME/1")

    found = detect(tmp_path)
    assert f"found a SavedModel three levels down at {tmp_path}/NAME/NAME/1" in found.words
    assert f"found a SavedModel two levels down at {tmp_path}/NAME/NAME/1" in detect(tmp_path / "NAME").words
    assert (found.kind, found.path) == ("saved_model", tmp_path / "NAME/NAME/1")
    assert "to be served it must lie at MODEL/VERSION" in found.next_step()


def test_a_base_path_of_versions_means_the_newest():
    found = detect(TESTDATA / "saved_model_half_plus_two_2_versions")

    assert "a base path with versions 123, 124" in found.words
    assert found.path.name == "00000124"


def test_a_hub_module_is_named(tmp_path):
    shutil.copytree(TESTDATA / "saved_model_half_plus_two_cpu/00000123", tmp_path / "hub")
    (tmp_path / "hub/tfhub_module.pb").write_bytes(b"\x08\x03")

    assert detect(tmp_path / "hub").words == "a TF-Hub module in the format of TensorFlow 1"


def zipped(path, *names):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "x")


onnx = (
    varint_field(1, 8) + bytes_field(2, b"pytorch") + bytes_field(7, bytes_field(1, b"")) + bytes_field(8, b"\x10\x11")
)
FOREIGN = {
    "m.onnx": (onnx, "a model of ONNX", "convert it"),
    "m.tflite": (b"\x1c\0\0\0TFL3" + bytes(90), "a TFLite model", "The server loads it as it is"),
    "m.pkl": (b"\x80\x04\x95" + bytes(90), "a Python pickle", "Slipway reads no pickles: they run code."),
    "m.keras": (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS", "git lfs pull"),
    "m.h5": (b"<!DOCTYPE html><html>", "a web page, and not a model", "downloaded from a page"),
    "m.pbtxt": (b"# comment\nnode {\n name: 'x' }", "a GraphDef as text", "kind: frozen_graph"),
    "s.pbtxt": (b"saved_model_schema_version: 1", "a SavedModel as text", "Give its directory"),
    "old.ckpt": (index_factory.index({"w": (1, [4], 0, 0, 16)}), "a TF1 checkpoint in one file, as before 2017, without .meta", "with builder"),
    "empty": (b"", "an empty file", "Fetch or save it again."),
    "m.tar": (b"x".ljust(257, b"\0") + b"ustar\x0000".ljust(255, b"\0"), "an archive (tar)", "Give it as `path`"),
    "m.safetensors": (struct.pack("<Q", 2) + b"{}", "a file of 10 bytes whose first bytes are", "no model known here"),
}  # fmt: skip


@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_no_source_is_named_too(name, tmp_path):
    content, words, advice = FOREIGN[name]
    (tmp_path / name).write_bytes(content)

    found = detect(tmp_path / name)

    assert words in found.words
    assert advice in found.next_step()


def test_archives_are_told_by_what_is_in_them(tmp_path):
    zipped(tmp_path / "a.pt", "archive/data.pkl", "archive/data/0")
    zipped(tmp_path / "b.zip", "mine/saved_model.pb")

    assert detect(tmp_path / "a.pt").words == "a model of PyTorch"
    assert detect(tmp_path / "b.zip").words == "an archive (zip)"


def test_every_source_below_a_directory_is_listed(foreign_files):
    found = {(one.kind, one.path.relative_to(foreign_files).as_posix()) for one in find_all(foreign_files)}

    assert {("tf1_checkpoint", "tf1/model.ckpt-157585"), ("checkpoint", "objects/net.ckpt-1")} <= found
    assert {("saved_model", "sm1"), ("saved_model", "sm2/mine/1"), ("keras", "k2.h5"), ("weights", "k2w.h5")} <= found
    assert not any("variables" in path for _, path in found)


def test_nothing_is_told_as_nothing(tmp_path):
    assert detect(tmp_path).words == "an empty directory"
    with pytest.raises(SourceError, match="there is nothing at this path, nor a directory"):
        detect(tmp_path / "a/b")
    index_factory.checkpoint(tmp_path / "m-1")
    with pytest.raises(SourceError, match=f"Checkpoints beside it: {tmp_path}/m-1"):
        detect(tmp_path / "m")


def test_tensorflow_is_not_imported():
    code = f"import sys; from slipway.detection.detect import detect; detect(__import__('pathlib').Path({str(TESTDATA)!r})); sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
