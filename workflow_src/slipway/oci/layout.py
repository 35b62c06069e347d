"""The OCI image layout: blobs named by their digests, and the JSON that ties them together."""

import gzip
import io
import tarfile
from pathlib import Path

from slipway.records import ImageRecord


def blob_path(layout: Path, digest: str) -> Path:
    """Locate the blob *digest* in *layout*."""
    algorithm, _, value = digest.partition(":")
    return layout / "blobs" / algorithm / value


def read_layer_files(layout: Path, image: ImageRecord, name: str, directory: str) -> dict[str, bytes]:
    """Read the files of layer *name* that lie in the absolute *directory* of the image: file name -> content."""
    layer = next(layer for layer in image.layers if layer.name == name)
    data = blob_path(layout, layer.digest).read_bytes()
    if image.compression == "gzip":
        data = gzip.decompress(data)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        found = {}
        for member in archive:
            parent, _, file_name = member.name.rpartition("/")
            if member.isfile() and f"/{parent}" == directory:
                content = archive.extractfile(member)
                assert content is not None
                found[file_name] = content.read()
    return found
