import json
from pathlib import Path

import numpy as np
import pytest
from tests.workflow.compare_factory import DIGEST, subject

from slipway.compare.images import image_side, is_image, read_image
from slipway.compare.subjects import Side
from slipway.errors import SettingsError, SourceError
from slipway.golden import Golden
from slipway.oci import layout
from slipway.oci.layout import ContainerConfig
from slipway.records import LayerRecord
from slipway.servers import ServerSpec
from slipway.settings import LaunchSettings

SERVABLE = "io.slipway.servable.2.digest"


def make_image(directory: Path, *, model="digits", servable=DIGEST, versions="1,2") -> Path:
    (directory / "blobs/sha256").mkdir(parents=True)
    diff_ids = {"server": f"sha256:{'1' * 64}", "model 2": f"sha256:{'2' * 64}"}
    labels = {f"io.slipway.layer.{name}.digest": diff_id for name, diff_id in diff_ids.items()}
    labels |= {"io.slipway.model.name": model, "io.slipway.model.versions": versions, SERVABLE: servable}
    layers = [
        LayerRecord(name=name, digest=f"sha256:{'3' * 64}", diff_id=diff_id, bytes=7, raw_bytes=9, cached=False)
        for name, diff_id in diff_ids.items()
    ]
    config = ContainerConfig("1:1", {}, ("/x",), (8500,), labels)
    layout.write_image(
        directory, config, layers, compression="zstd", created="2026-01-01T00:00:00Z", reference="slipway/digits:2"
    )
    return directory


@pytest.fixture
def project(tmp_path):
    spec = ServerSpec("digits", None, None, tmp_path, LaunchSettings(engine="process"))
    return Side(subject("."), spec, [], Golden({}, {"y": np.zeros(1)}, None), None)


def test_an_image_is_read_by_what_it_says_of_itself(tmp_path):
    image, labels = read_image(make_image(tmp_path / "layout"))

    assert is_image(str(tmp_path / "layout"))
    assert not is_image(str(tmp_path))
    assert (image.model, image.versions, image.compression) == ("digits", [1, 2], "zstd")
    assert [(layer.name, layer.bytes) for layer in image.layers] == [("server", 7), ("model 2", 7)]
    assert labels[SERVABLE] == DIGEST


def test_an_image_is_asked_what_the_project_beside_it_knows_the_answers_of(tmp_path, project):
    side = image_side(str(make_image(tmp_path / "layout")), project, None)

    assert side.is_image
    assert side.golden is project.golden
    assert side.spec.image_layout == tmp_path / "layout"
    assert (side.record.version, side.record.commit, side.record.image_bytes) == (2, None, 14)
    assert side.record.image_created == "2026-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("made", "version", "error", "message"),
    [
        ({"model": "other"}, None, SourceError, r"cannot be compared: model: other in .*layout, digits in \."),
        (
            {"servable": f"sha256:{'9' * 64}"},
            None,
            SourceError,
            r"servable of version 2: sha256:9+… in .*, sha256:abab.* in",
        ),
        ({}, 7, SettingsError, "digits has no version 7; there are: 1, 2"),
    ],
)
def test_an_image_of_something_else_is_refused_with_both_values(tmp_path, project, made, version, error, message):
    place = make_image(tmp_path / "layout", **made)

    with pytest.raises(error, match=message):
        image_side(str(place), project, version)


def test_a_damaged_image_is_one_line(tmp_path):
    place = make_image(tmp_path / "layout")
    index = json.loads((place / "index.json").read_text())
    manifest = layout.blob_path(place, index["manifests"][0]["digest"])
    whole = manifest.read_bytes()

    manifest.write_bytes(whole + b" ")
    with pytest.raises(SourceError, match=r"has other content\. Copy the image again"):
        read_image(place)
    manifest.unlink()
    with pytest.raises(SourceError, match="expected an image made by Slipway"):
        read_image(place)
    (place / "index.json").write_text('{"manifests": []}')
    with pytest.raises(SourceError, match="one image, found 0"):
        read_image(place)
