"""An image by itself as one side of a comparison: an OCI layout, made by Slipway, without the project it was made in."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from slipway import files
from slipway.compare.records import Subject
from slipway.compare.subjects import Side, commit_of
from slipway.errors import SettingsError, SourceError
from slipway.oci.compression import MEDIA_TYPES
from slipway.oci.layout import blob_path
from slipway.records import ImageRecord, LayerRecord

_LAYER = "io.slipway.layer."


def is_image(place: str) -> bool:
    """Say whether *place* is a directory in the OCI image layout."""
    return Path(place, "oci-layout").is_file()


def read_image(layout: Path) -> tuple[ImageRecord, dict[str, str]]:
    """
    Read what an image says of itself.

    Args:
        layout: Directory in the OCI image layout with one image in it, as `slipway image` or `skopeo copy` write it.

    Returns:
        Its record (sizes as stored; the packages are not known), and its labels.

    Raises:
        SourceError: It is damaged, has no image or several, or was not made by Slipway.
    """
    try:
        index = json.loads((layout / "index.json").read_bytes())
        manifests = [one for one in index["manifests"] if "config" in _blob(layout, one["digest"])]
        if len(manifests) != 1:
            raise SourceError(f"{layout}: expected a layout with one image, found {len(manifests)}")
        manifest = _blob(layout, manifests[0]["digest"])
        config = _blob(layout, manifest["config"]["digest"])
        labels: dict[str, str] = config["config"].get("Labels") or {}
        names = {
            digest: name[len(_LAYER) : -len(".digest")] for name, digest in labels.items() if name.startswith(_LAYER)
        }
        layers = [
            LayerRecord(
                name=names.get(diff_id, "unnamed"),
                digest=layer["digest"],
                diff_id=diff_id,
                bytes=layer["size"],
                raw_bytes=layer["size"],
                cached=True,
            )
            for layer, diff_id in zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True)
        ]
        compressions = [name for name, kind in MEDIA_TYPES.items() if kind == manifest["layers"][0]["mediaType"]]
        model, versions = labels["io.slipway.model.name"], labels["io.slipway.model.versions"].split(",")
        record = ImageRecord(
            model=model,
            versions=sorted(map(int, versions)),
            reference=f"slipway/{model}:{max(map(int, versions))}",
            image_id=manifest["config"]["digest"],
            manifest_digest=manifests[0]["digest"],
            layers=layers,
            compression=compressions[0],
            base="",
            packages={},
            created=config["created"],
        )
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise SourceError(f"{layout}: expected an image made by Slipway in the OCI layout: {error!r}") from error
    return record, labels


def _blob(layout: Path, digest: str) -> dict[str, Any]:
    data = blob_path(layout, digest).read_bytes()
    if files.sha256_bytes(data) != digest:
        raise SourceError(f"{layout}: {digest}: the blob of that name has other content. Copy the image again.")
    read: dict[str, Any] = json.loads(data)
    return read


def image_side(place: str, other: Side, version: int | None) -> Side:
    """
    Make a side of an image, which is asked what the project on the other side has golden answers for.

    Args:
        place: The layout.
        other: The side that is a project.
        version: Of the image; None: the one of the other side.

    Raises:
        SettingsError: The image has no such version.
        SourceError: It is an image of another model or servable: what it should answer is not known.
    """
    image, labels = read_image(Path(place))
    version = other.record.version if version is None else version
    if image.model != other.record.model:
        raise SourceError(
            f"base and head cannot be compared: model: {image.model} in {place}, {other.record.model} in {other.record.label}"
        )
    if version not in image.versions:
        there = ", ".join(map(str, image.versions))
        raise SettingsError(f"{place}: {image.model} has no version {version}; there are: {there}")
    servable = labels.get(f"io.slipway.servable.{version}.digest", "unknown")
    if servable != other.record.servable_digest:
        raise SourceError(
            f"base and head cannot be compared: servable of version {version}: {servable[:19]}… in {place}, "
            f"{other.record.servable_digest[:19]}… in {other.record.label}. An image does not say what it should answer: name "
            "the project directory or the revision that it was made of"
        )
    return replace(
        other,
        record=Subject(
            label=place,
            commit=None,
            image_created=image.created,
            image_commit=commit_of(image.created, Path()),
            model=image.model,
            version=version,
            image_id=image.image_id,
            image_bytes=image.bytes,
            servable_digest=servable,
            server_flags=[],
        ),
        spec=replace(other.spec, image_layout=Path(place), image=image),
        is_image=True,
    )
