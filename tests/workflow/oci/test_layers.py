import json
import os

import pytest

from slipway import files
from slipway.errors import StorageError
from slipway.oci import archive
from slipway.oci.layers import LayerStore
from slipway.oci.layout import blob_path


@pytest.fixture
def said():
    return []


@pytest.fixture
def store(tmp_path, said):
    def make(name="layout", compression="gzip"):
        return LayerStore(tmp_path / name, tmp_path / "cache", compression, said.append)

    return make


def never():
    raise AssertionError("made, though the cache has it")


def entries():
    return [archive.file("a", b"content")]


def test_what_was_made_once_is_taken_from_the_cache(store, tmp_path):
    made = store().layer("base", {"x": 1}, entries)
    kept = store("other").layer("base", {"x": 1}, never)

    assert kept == made.model_copy(update={"cached": True})
    assert files.sha256_file(blob_path(tmp_path / "other", kept.digest)) == made.digest


@pytest.mark.parametrize(
    ("name", "inputs", "compression"),
    [("base", {"x": 2}, "gzip"), ("tip", {"x": 1}, "gzip"), ("base", {"x": 1}, "none")],
)
def test_other_inputs_are_made_anew(store, name, inputs, compression):
    store().layer("base", {"x": 1}, entries)

    assert not store("other", compression).layer(name, inputs, entries).cached


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "record"])
def test_a_damaged_entry_is_told_and_made_anew(store, tmp_path, said, damage):
    made = store().layer("base", {"x": 1}, entries)
    (blob,) = (tmp_path / "cache").glob("*/blob")
    record = blob.with_name("layer.json")
    content = blob.read_bytes()
    blob.unlink()  # the layout holds the same file
    match damage:
        case "flip":
            blob.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        case "truncate":
            blob.write_bytes(content[:10])
        case "record":
            blob.write_bytes(content)
            record.write_text(json.dumps({"name": "base"}))

    again = store("other").layer("base", {"x": 1}, entries)

    assert again == made
    assert "damaged" in said[0]
    assert store("third").layer("base", {"x": 1}, never).cached


def test_without_inputs_nothing_is_kept(store, tmp_path):
    store().layer("model", None, entries)

    assert list((tmp_path / "cache").iterdir()) == []


def test_where_links_are_impossible_the_blob_is_copied(store, tmp_path, monkeypatch):
    def across(*_):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", across)
    made = store().layer("base", {"x": 1}, entries)

    assert store("other").layer("base", {"x": 1}, never).digest == made.digest


def test_a_layer_that_fails_leaves_no_entry(store, tmp_path):
    def fails():
        yield archive.file("a", b"")
        raise StorageError("full")

    with pytest.raises(StorageError):
        store().layer("base", {"x": 1}, fails)

    assert list((tmp_path / "cache").iterdir()) == []
