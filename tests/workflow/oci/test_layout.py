import json
import shutil
import subprocess

import pytest

from slipway import files
from slipway.errors import BuildError
from slipway.oci import archive, layout
from slipway.oci.layers import LayerStore
from slipway.oci.layout import ContainerConfig
from slipway.records import ImageRecord

CONFIG = ContainerConfig(
    user="1:1", environment={"B": "2", "A": "1"}, entrypoint=("/x",), ports=(8500,), labels={"l": "v"}
)


def image(place, compression="gzip"):
    layer = LayerStore(place, place.with_name("cache"), compression, print).layer(
        "config", None, lambda: [archive.file("etc/slipway/flags", b"--a\n"), archive.file("etc/other", b"")]
    )
    image_id, digest = layout.write_image(
        place, CONFIG, [layer], compression=compression, created="1980-01-01T00:00:00Z", reference="slipway/x:1"
    )
    return ImageRecord(
        model="x",
        versions=[1],
        reference="slipway/x:1",
        image_id=image_id,
        manifest_digest=digest,
        layers=[layer],
        compression=compression,
        base="",
        packages={},
        created="1980-01-01T00:00:00Z",
    )


def test_every_digest_leads_to_its_blob(tmp_path):
    record = image(tmp_path / "layout")
    index = json.loads((tmp_path / "layout/index.json").read_bytes())
    (entry,) = index["manifests"]
    manifest_path = layout.blob_path(tmp_path / "layout", entry["digest"])
    manifest = json.loads(manifest_path.read_bytes())

    assert entry["digest"] == record.manifest_digest == files.sha256_file(manifest_path)
    assert manifest["config"]["digest"] == record.image_id
    for described in [entry, manifest["config"], *manifest["layers"]]:
        path = layout.blob_path(tmp_path / "layout", described["digest"])
        assert files.sha256_file(path) == described["digest"]
        assert path.stat().st_size == described["size"]


def test_docker_finds_the_same_image(tmp_path):
    record = image(tmp_path / "layout")
    (entry,) = json.loads((tmp_path / "layout/manifest.json").read_bytes())

    assert files.sha256_file(tmp_path / "layout" / entry["Config"]) == record.image_id
    assert [(tmp_path / "layout" / path).exists() for path in entry["Layers"]] == [True]
    assert entry["RepoTags"] == ["slipway/x:1"]


def test_the_image_id_does_not_depend_on_the_compression(tmp_path):
    ids = {image(tmp_path / compression, compression).image_id for compression in ("gzip", "zstd", "none")}

    assert len(ids) == 1


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_files_of_a_layer_are_read_back(tmp_path, compression):
    record = image(tmp_path / "layout", compression)

    assert layout.read_layer_files(tmp_path / "layout", record, "config", "/etc/slipway") == {"flags": b"--a\n"}


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_a_layer_that_cannot_be_read_is_one_line(tmp_path, compression):
    record = image(tmp_path / "layout", compression)
    blob = layout.blob_path(tmp_path / "layout", record.layers[0].digest)
    whole = blob.read_bytes()

    def told(name="config"):
        with pytest.raises(BuildError) as caught:
            layout.read_layer_files(tmp_path / "layout", record, name, "/etc/slipway")
        assert "\n" not in str(caught.value)
        assert str(caught.value).endswith(" Build the image again.")
        return str(caught.value)

    assert "the image has no layer base; its record names: config." in told("base")
    for damaged in (whole[: len(whole) // 2], b"", b"\xff" * 600):
        blob.write_bytes(damaged)
        assert f"{blob}: layer config was changed after it was written (sha256:" in told()
    blob.unlink()
    assert f"{blob}: layer config cannot be read (No such file or directory)" in told()


def test_times_are_told_as_the_specification_wants():
    assert layout.created_at(archive.MTIME) == "1980-01-01T00:00:00Z"


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed")
@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_an_independent_reader_accepts_it_and_refuses_a_changed_blob(tmp_path, compression):
    record = image(tmp_path / "layout", compression)
    copy = ["skopeo", "--insecure-policy", "copy", "--quiet", f"oci:{tmp_path / 'layout'}"]

    subprocess.run([*copy, f"oci:{tmp_path / 'copy'}"], check=True)
    blob = layout.blob_path(tmp_path / "layout", record.layers[0].digest)
    blob.write_bytes(blob.read_bytes()[:-1] + b"\xff")

    assert subprocess.run([*copy, f"oci:{tmp_path / 'bad'}"], check=False, capture_output=True).returncode != 0
