import hashlib
import io
import json
import zipfile

import h5py
import numpy as np
import pytest
from tests.workflow import index_factory

from slipway.errors import SourceError
from slipway.source_files import copy_source
from slipway.source_settings import BuiltinSource, CheckpointSource, KerasSource


def weights():
    """An HDF5 file as Keras writes it, of a few bytes."""
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file["layers/dense/vars/0"] = np.zeros(3, np.float32)
    return content.getvalue()


CONFIG = json.dumps({"module": "keras", "class_name": "Sequential", "config": {"name": "s", "layers": []}})
CONTENT = {"config.json": CONFIG, "metadata.json": '{"keras_version": "3.15.1"}', "model.weights.h5": weights()}


def archive(path, names=("config.json", "model.weights.h5")):
    with zipfile.ZipFile(path, "w") as file:
        for name in names:
            file.writestr(name, CONTENT.get(name, name * 100))
    return path


def keras(path, **more):
    return KerasSource(kind="keras", path=path, **more)


def checkpoint(path, **more):
    return CheckpointSource(kind="checkpoint", path=path, builder="models:build", **more)


def shards(directory, count, without=()):
    index_factory.checkpoint(directory / "m-1", ["_CHECKPOINTABLE_OBJECT_GRAPH", "model/w", "model/v"], count)
    for name in without:
        (directory / name).unlink()
    return directory / "m-1"


def refused(source, directory):
    out = directory / "out"
    out.mkdir()
    with pytest.raises(SourceError) as caught:
        copy_source(source, out)
    assert "\n" not in str(caught.value)
    assert list(out.iterdir()) == []
    return str(caught.value)


@pytest.fixture
def out(tmp_path):
    (tmp_path / "copy").mkdir()
    return tmp_path / "copy"


def test_a_builtin_source_has_no_files(out):
    copy_source(BuiltinSource(kind="builtin"), out)

    assert list(out.iterdir()) == []


def test_a_keras_file_is_copied_whole(tmp_path, out):
    path = archive(tmp_path / "m.keras")

    copy_source(keras(path, sha256={"m.keras": hashlib.sha256(path.read_bytes()).hexdigest()}), out)

    assert (out / "m.keras").read_bytes() == path.read_bytes()


def test_all_files_of_a_checkpoint_are_copied_and_no_others(tmp_path, out):
    prefix = shards(tmp_path / "ck", 2)
    (tmp_path / "ck/m-12.index").touch()
    (tmp_path / "ck/checkpoint").touch()

    copy_source(checkpoint(prefix), out)

    assert sorted(path.name for path in out.iterdir()) == [
        "m-1.data-00000-of-00002",
        "m-1.data-00001-of-00002",
        "m-1.index",
    ]


def test_another_digest_is_told_with_both(tmp_path):
    path = archive(tmp_path / "m.keras")

    message = refused(keras(path, sha256={"m.keras": "0" * 64}), tmp_path)

    assert f"expected SHA-256 {'0' * 64}, found {hashlib.sha256(path.read_bytes()).hexdigest()}" in message


def test_a_digest_of_another_file_is_a_mistake(tmp_path):
    message = refused(keras(archive(tmp_path / "m.keras"), sha256={"n.keras": "0" * 64}), tmp_path)

    assert "sha256 names n.keras, but the source is made of: m.keras" in message


def test_a_missing_file_names_the_key_to_correct(tmp_path):
    assert "there is nothing at this path. Correct it." in refused(keras(tmp_path / "m.keras"), tmp_path)


@pytest.mark.parametrize("cut", [9, 100, -1])
def test_a_cut_off_archive_is_found(cut, tmp_path):
    path = archive(tmp_path / "m.keras")
    path.write_bytes(path.read_bytes()[:cut])

    assert "m.keras: cut off or damaged" in refused(keras(path), tmp_path)


def test_a_flipped_bit_in_an_archive_is_found(tmp_path):
    path = archive(tmp_path / "m.keras")
    data = bytearray(path.read_bytes())
    data[60] ^= 1
    path.write_bytes(data)

    assert "cut off or damaged (Bad CRC-32 for file 'config.json')" in refused(keras(path), tmp_path)


def test_another_kind_of_file_is_told_by_what_it_is(tmp_path):
    (tmp_path / "m.keras").write_bytes(b"\x89PNG\r\n\x1a\nxyz")
    (tmp_path / "empty.keras").touch()
    (tmp_path / "dir.keras").mkdir()

    assert (
        "expected a whole model written by Keras (.keras or .h5); this is a file of 11 bytes whose first bytes are b'\\x89PNG"
        in refused(keras(tmp_path / "m.keras"), tmp_path)
    )
    (tmp_path / "out").rmdir()
    assert "this is an empty file. Fetch or save it again." in refused(keras(tmp_path / "empty.keras"), tmp_path)
    (tmp_path / "out").rmdir()
    assert "this is an empty directory" in refused(keras(tmp_path / "dir.keras"), tmp_path)


def test_another_archive_is_told_by_what_is_in_it(tmp_path):
    assert "this is an archive (zip). Give it as `path`, and the source in it as `inside`." in refused(
        keras(archive(tmp_path / "m.keras", ["x.txt"])), tmp_path
    )


def test_a_missing_shard_is_named(tmp_path):
    prefix = shards(tmp_path / "ck", 3, without=["m-1.data-00001-of-00003"])

    assert "m-1.data-00001-of-00003 is not there: m-1 (3 tensors, step 1). Copy all files" in refused(
        checkpoint(prefix), tmp_path
    )


@pytest.mark.parametrize("given", ["ck", "ck/m-1.index", "ck/m"])
def test_people_who_do_not_give_the_prefix_are_told_it(given, tmp_path):
    prefix = shards(tmp_path / "ck", 1)

    message = refused(checkpoint(tmp_path / given), tmp_path)

    assert message.endswith(f": {prefix}.")


def test_a_directory_without_checkpoints_is_told_so(tmp_path):
    assert f"{tmp_path}/m-1: there is nothing at this path." in refused(checkpoint(tmp_path / "m-1"), tmp_path)
