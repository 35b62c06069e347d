import io
import json
import zipfile

import h5py
import numpy as np
import pytest

from slipway.detection.keras_files import read_keras_file
from slipway.errors import SourceError


def saved(path, fill, attributes=()):
    with h5py.File(path, "w") as file:
        fill(file)
        for name, value in dict(attributes).items():
            file.attrs[name] = value
    return path


def layer(kind, module="keras.layers", **config):
    return {"module": module, "class_name": kind, "config": config}


def keras(path, *layers, version="3.15.1"):
    weights = io.BytesIO()
    with h5py.File(weights, "w") as file:
        file["layers/dense/vars/0"] = np.zeros(3, np.float32)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps(layer("Sequential", "keras", layers=list(layers))))
        archive.writestr("metadata.json", json.dumps({"keras_version": version}))
        archive.writestr("model.weights.h5", weights.getvalue())
    return path


@pytest.mark.parametrize(
    ("given", "code"),
    [
        (layer("Dense", name="d"), ()),
        (layer("Lambda", name="double"), ("Lambda layer double",)),
        (layer("Dense", activation={"class_name": "__lambda__", "config": {"value": "x"}}), ("Lambda layer",)),
        (layer("system", "os"), ("class os.system",)),
        (layer("TFOpLambda", name="f", function="nn.relu"), ()),
        (layer("TFOpLambda", name="f", function="io.write_file"), ("layer f calls tf.io.write_file",)),
        (layer("TFOpLambda", name="f", function="py_function"), ("layer f calls tf.py_function",)),
    ],
)
def test_code_is_found_without_running_it(given, code, tmp_path):
    assert read_keras_file(keras(tmp_path / "m.keras", given)).code == code


@pytest.mark.parametrize(
    ("version", "keras2"), [("2.4.0-tf", True), ("2.21.0", True), ("3.0.0", False), ("10.1", False)]
)
def test_the_version_tells_the_generation(version, keras2, tmp_path):
    assert read_keras_file(keras(tmp_path / "m.keras", version=version)).is_keras2 == keras2


def test_a_file_that_reaches_out_of_itself_is_refused(tmp_path):
    (tmp_path / "secret").write_bytes(bytes(12))

    def link(file):
        file["layers/a"] = h5py.ExternalLink("/etc/passwd", "/")

    def external(file):
        file.create_dataset("vars", (3,), np.float32, external=[(str(tmp_path / "secret"), 0, 12)])

    def virtual(file):
        layout = h5py.VirtualLayout((3,), np.float32)
        layout[:] = h5py.VirtualSource("other.h5", "x", (3,))
        file.create_virtual_dataset("vars", layout)

    for number, (fill, told) in enumerate([(link, "is a link"), (external, "another file"), (virtual, "another file")]):
        with pytest.raises(SourceError, match=told):
            read_keras_file(saved(tmp_path / f"{number}.h5", fill))


def test_a_tensor_that_is_said_to_be_huge_is_refused(tmp_path):
    def bomb(file):
        file.create_dataset("vars", (1 << 40,), np.float32, chunks=(1 << 10,))

    with pytest.raises(SourceError, match="is said to have 4398046511104 bytes, of which 0 are there"):
        read_keras_file(saved(tmp_path / "m.h5", bomb))


@pytest.mark.parametrize("cut", [9, 200, 1000])
def test_what_is_cut_off_is_one_line(cut, tmp_path):
    for path in (keras(tmp_path / "m.keras"), saved(tmp_path / "m.h5", lambda file: file.create_group("layers"))):
        path.write_bytes(path.read_bytes()[:cut] if cut < path.stat().st_size else b"PK\3\4")
        with pytest.raises(SourceError, match="cut off or damaged"):
            read_keras_file(path)


def test_other_files_are_not_keras(tmp_path):
    (tmp_path / "x").write_bytes(b"something else")

    assert read_keras_file(tmp_path / "x") is None
    assert read_keras_file(saved(tmp_path / "data.h5", lambda file: file.create_group("measured"))) is None
