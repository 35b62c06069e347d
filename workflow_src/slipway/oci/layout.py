"""The OCI image layout: blobs named by their digests, and the JSON that ties them together. docker load reads it, too."""

import contextlib
import datetime as dt
import io
import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zstandard

from slipway import files
from slipway.errors import BuildError
from slipway.oci.compression import MEDIA_TYPES, Compression
from slipway.records import ImageRecord, LayerRecord

ARCHITECTURE = "amd64"
_CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_INDEX_TYPE = "application/vnd.oci.image.index.v1+json"


@dataclass(frozen=True, slots=True)
class ContainerConfig:
    """How the image runs; names as in the OCI image specification, config.md."""

    user: str
    environment: Mapping[str, str]
    entrypoint: Sequence[str]
    ports: Sequence[int]
    labels: Mapping[str, str]


def blob_path(layout: Path, digest: str) -> Path:
    """Locate the blob *digest* in *layout*."""
    algorithm, _, value = digest.partition(":")
    return layout / "blobs" / algorithm / value


def created_at(epoch: int) -> str:
    """Write *epoch* (s) as RFC 3339."""
    return dt.datetime.fromtimestamp(epoch, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def image_config(config: ContainerConfig, layers: Sequence[LayerRecord], created: str) -> bytes:
    """Write the image's config, whose digest is the image's id; it knows uncompressed layers alone."""
    return _json(
        {
            "architecture": ARCHITECTURE,
            "os": "linux",
            "created": created,
            "config": {
                "User": config.user,
                "WorkingDir": "/",
                "Env": [f"{name}={value}" for name, value in sorted(config.environment.items())],
                "Entrypoint": list(config.entrypoint),
                "ExposedPorts": {f"{port}/tcp": {} for port in config.ports},
                "StopSignal": "SIGTERM",
                "Labels": dict(config.labels),
            },
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
            "history": [{"created": created, "created_by": f"slipway image: {layer.name}"} for layer in layers],
        }
    )


def write_image(
    layout: Path,
    config: ContainerConfig,
    layers: Sequence[LayerRecord],
    *,
    compression: Compression,
    created: str,
    reference: str,
) -> tuple[str, str]:
    """
    Complete *layout*, which holds the layers' blobs already.

    Returns:
        Image id (digest of the config) and digest of the manifest.
    """
    config_blob = image_config(config, layers, created)
    image_id = _write_blob(layout, config_blob)
    manifest_blob = _json(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST_TYPE,
            "config": {"mediaType": _CONFIG_TYPE, "digest": image_id, "size": len(config_blob)},
            "layers": [
                {"mediaType": MEDIA_TYPES[compression], "digest": layer.digest, "size": layer.bytes} for layer in layers
            ],
            "annotations": dict(config.labels),
        }
    )
    manifest_digest = _write_blob(layout, manifest_blob)
    manifest = {
        "mediaType": _MANIFEST_TYPE,
        "digest": manifest_digest,
        "size": len(manifest_blob),
        "platform": {"architecture": ARCHITECTURE, "os": "linux"},
        "annotations": {"org.opencontainers.image.ref.name": reference.rpartition(":")[2]},
    }
    # What `docker save` writes and `docker load` reads; the paths may point anywhere in the archive.
    for_docker = {
        "Config": f"blobs/sha256/{image_id.removeprefix('sha256:')}",
        "RepoTags": [reference],
        "Layers": [f"blobs/sha256/{layer.digest.removeprefix('sha256:')}" for layer in layers],
    }
    (layout / "oci-layout").write_bytes(_json({"imageLayoutVersion": "1.0.0"}))
    (layout / "manifest.json").write_bytes(_json([for_docker]))
    (layout / "index.json").write_bytes(_json({"schemaVersion": 2, "mediaType": _INDEX_TYPE, "manifests": [manifest]}))
    return image_id, manifest_digest


def _write_blob(layout: Path, data: bytes) -> str:
    digest = files.sha256_bytes(data)
    blob_path(layout, digest).write_bytes(data)
    return digest


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


# --- reading layers --------------------------------------------------------------------------------


@contextlib.contextmanager
def open_layer(blob: Path, compression: Compression) -> Iterator[tarfile.TarFile]:
    """Read the layer *blob* as a stream: members in their order, each content before the next."""
    with contextlib.ExitStack() as stack:
        file: Any = stack.enter_context(blob.open("rb"))
        if compression == "zstd":
            reader = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
            file = stack.enter_context(io.BufferedReader(reader, 1 << 20))
        mode = "r|gz" if compression == "gzip" else "r|"
        yield stack.enter_context(tarfile.open(fileobj=file, mode=mode, bufsize=1 << 20))  # type: ignore[call-overload]


def read_layer_files(layout: Path, image: ImageRecord, name: str, directory: str) -> dict[str, bytes]:
    """
    Read the files of layer *name* that lie in the absolute *directory* of the image: file name -> content.

    Raises:
        BuildError: If the image has no such layer, or its blob is missing or damaged.
    """
    layer = next((layer for layer in image.layers if layer.name == name), None)
    if layer is None:
        there = ", ".join(layer.name for layer in image.layers) or "none"
        raise BuildError(f"{layout}: the image has no layer {name}; its record names: {there}. Build the image again.")
    blob = blob_path(layout, layer.digest)
    try:
        digest = files.sha256_file(blob)
    except OSError as error:
        raise BuildError(f"{blob}: layer {name} cannot be read ({error.strerror}). Build the image again.") from error
    if digest != layer.digest:  # a stream of tar that is cut off looks like its end
        raise BuildError(f"{blob}: layer {name} was changed after it was written ({digest}). Build the image again.")
    found = {}
    with open_layer(blob, image.compression) as packed:
        for member in packed:
            parent, _, file_name = member.name.rpartition("/")
            if member.isfile() and f"/{parent}" == directory:
                content = packed.extractfile(member)
                assert content is not None
                found[file_name] = content.read()
    return found
