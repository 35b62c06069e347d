import os

import pytest

from slipway_server.config_files import Latest, ModelConfig, Specific
from slipway_server.servables.diagnosis import diagnose, diagnose_error, diagnose_version
from slipway_server.servables.storage import LocalStorage

STORAGE = LocalStorage()


def put(directory, *names):
    for name in names:
        path = directory / name
        if name.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()


def told(base, policy=None):
    model = ModelConfig("m", str(base), policy or Latest())
    try:
        return diagnose(STORAGE, model, STORAGE.names(str(base)))
    except OSError as error:
        return diagnose_error(STORAGE, model, error)


LAYOUTS = {
    "empty": ((), "it is empty. Did you forget to name the leaf directory with a version number (e.g. {base}/1)?"),
    "a SavedModel, one level too high": (
        ("saved_model.pb", "variables/variables.index"),
        (
            "it is a SavedModel itself. Move it one level down, to {base}/1, or give {parent} as base path if that holds "
            "numbered directories"
        ),
    ),
    "one level too deep": (
        ("half/1/saved_model.pb", "readme"),
        "the versions lie one level deeper, in {base}/half. Give that as base path",
    ),
    "v1": (("v1/saved_model.pb",), "v1 is no version number. Rename it to 1"),
    "version-12": (("version-12/",), "version-12 is no version number. Rename it to 12"),
    "1.0": (("1.0/",), "1.0 is no version number. Rename it to 1"),
    "too large": (
        ("99999999999999999999/",),
        "99999999999999999999 is larger than any version number can be (2**63 - 1). Use a smaller one",
    ),
    "checkpoint": (
        ("checkpoint", "model.ckpt-7.index", "model.ckpt-7.data-00000-of-00001"),
        (
            "it holds a checkpoint (checkpoint, model.ckpt-7.data-00000-of-00001, model.ckpt-7.index), which has no graph: "
            "restore it and export it as a SavedModel"
        ),
    ),
    "Keras": (
        ("model.keras",),
        "it holds a Keras file, model.keras: export it as a SavedModel (model.export('{base}/1'))",
    ),
    "HDF5": (("weights.h5",), "it holds a Keras file, weights.h5: export it"),
    "frozen graph": (("frozen.pb",), "it holds a graph, frozen.pb, that is no SavedModel (frozen?): export it"),
    "TFLite": (
        ("model.tflite",),
        (
            "it holds a TFLite model, model.tflite: put it into a version directory as 1/model.tflite and start with "
            "--prefer_tflite_model"
        ),
    ),
    "archive": (("model.tar.gz",), "it holds an archive, model.tar.gz: unpack it"),
    "foreign": (("model.onnx",), "it holds model.onnx, which is no TensorFlow model"),
    "anything else": (tuple("abcdefg"), "it holds a, b, c, d, e and 2 more. Did you forget"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_has_its_own_message(tmp_path, layout):
    names, message = LAYOUTS[layout]
    base = tmp_path / "base"
    put(tmp_path, "base/", *(f"base/{name}" for name in names))

    text = told(base)

    assert text.startswith(f"No versions of servable m found under base path {base}: ")
    assert message.format(base=base, parent=tmp_path) in text


def test_the_messages_differ():
    assert len({message for _, message in LAYOUTS.values()}) == len(LAYOUTS)


def test_a_base_path_that_is_not_there_is_told_with_what_is(tmp_path):
    put(tmp_path, "models/half_plus_two/")

    text = told(tmp_path / "models" / "half_plus_tow" / "x")

    assert text == (
        f"Could not find base path {tmp_path}/models/half_plus_tow/x for servable m: No such file or directory; "
        f"{tmp_path}/models is there and holds half_plus_two"
    )


def test_a_base_path_that_is_a_file(tmp_path):
    put(tmp_path, "model")

    assert told(tmp_path / "model").endswith(
        f"it is a file. Give the directory that holds the version directories (e.g. {tmp_path}/model/1)"
    )


def test_a_base_path_that_may_not_be_read():
    model = ModelConfig("m", "/secret")

    assert diagnose_error(STORAGE, model, PermissionError(13, "Permission denied")) == (
        "Could not find base path /secret for servable m: Permission denied. The user this server runs as needs to read "
        "and enter it"
    )


def test_storage_that_errs_is_told_to_change_nothing():
    text = diagnose_error(STORAGE, ModelConfig("m", "/nfs"), OSError(116, "Stale file handle"))

    assert text == "Could not find base path /nfs for servable m: Stale file handle. What is served stays"


def test_specific_versions_that_are_not_there(tmp_path):
    put(tmp_path, "1/", "2/")

    assert told(tmp_path, Specific(frozenset({7}))).endswith("that its policy asks for: wanted 7, there is 1, 2")
    assert "lists no version" in told(tmp_path, Specific(frozenset()))


VERSIONS = {
    "empty": ((), "{d} is empty; copy the SavedModel into it (saved_model.pb, variables/)"),
    "TFLite only": (
        ("model.tflite",),
        "{d} holds a TFLite model and no SavedModel; start with --prefer_tflite_model to serve model.tflite",
    ),
    "too deep": (
        ("saved_model/saved_model.pb",),
        "the SavedModel lies one level deeper, in {d}/saved_model; move its content up to {d}",
    ),
    "Keras": (("model.keras",), "{d} holds no saved_model.pb: it holds a Keras file, model.keras: export it"),
    "checkpoint": (("variables.index",), "{d} holds no saved_model.pb: it holds a checkpoint (variables.index)"),
    "other": (("readme",), "{d} holds no saved_model.pb: it holds readme"),
}


@pytest.mark.parametrize("layout", VERSIONS)
def test_each_version_that_is_none_has_its_own_message(tmp_path, layout):
    names, message = VERSIONS[layout]
    put(tmp_path, "1/", *(f"1/{name}" for name in names))

    assert diagnose_version(STORAGE, str(tmp_path / "1")).startswith(message.format(d=tmp_path / "1"))


def test_versions_that_are_no_directories(tmp_path):
    put(tmp_path, "1")
    (tmp_path / "2").symlink_to("nowhere")

    assert "is a file" in diagnose_version(STORAGE, str(tmp_path / "1"))
    assert "link whose target is missing" in diagnose_version(STORAGE, str(tmp_path / "2"))


def test_a_saved_model_has_no_diagnosis(testdata):
    assert diagnose_version(STORAGE, str(testdata / "saved_model_counter" / "00000123")) is None


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_version_that_may_not_be_read(tmp_path):
    put(tmp_path, "1/")
    (tmp_path / "1").chmod(0)

    assert "Permission denied" in diagnose_version(STORAGE, str(tmp_path / "1"))
