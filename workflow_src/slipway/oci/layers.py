"""Layers as blobs, made once: a cache that is shared by all models and runs and trusts nothing it reads."""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from slipway import files
from slipway.errors import SourceError
from slipway.oci.archive import Entry, write_archive
from slipway.oci.compression import CompressedBlob, Compression, implementation
from slipway.oci.layout import blob_path
from slipway.records import LayerRecord

_BLOB, _RECORD = "blob", "layer.json"


class LayerStore:
    """Makes layers in an image layout and keeps them in a cache."""

    def __init__(self, layout: Path, cache: Path, compression: Compression, say: Callable[[str], None]) -> None:
        """
        Say where layers go.

        Args:
            layout: OCI layout that gets the blobs.
            cache: Directory with one entry for each key.
            compression: Of the blobs.
            say: Told of a damaged entry.
        """
        self._layout, self._cache, self._compression, self._say = layout, cache, compression, say
        (layout / "blobs/sha256").mkdir(parents=True, exist_ok=True)
        with files.readable_disk_faults(cache):
            cache.mkdir(parents=True, exist_ok=True)
        files.remove_partials(cache)

    def layer(self, name: str, inputs: Mapping[str, Any] | None, make: Callable[[], Iterable[Entry]]) -> LayerRecord:
        """
        Put layer *name* into the layout.

        Args:
            name: Of the layer.
            inputs: Everything that its content depends on, but for our own code and the compression; None
                for a layer that is quicker made than kept.
            make: Gives its entries; called only if the cache has none of it.
        """
        if inputs is None:
            return self._make(name, make())
        place = self._cache / self._key(name, inputs)
        if (kept := self._kept(place)) is not None:
            _link(place / _BLOB, blob_path(self._layout, kept.digest))
            return kept
        made = self._make(name, make())
        with files.new_directory(place) as entry:
            _link(blob_path(self._layout, made.digest), entry / _BLOB)
            (entry / _RECORD).write_bytes(files.canonical_json(made.model_dump(mode="json")))
        return made

    def _key(self, name: str, inputs: Mapping[str, Any]) -> str:
        parts = {
            "name": name,
            "inputs": inputs,
            "recipe": _recipe(),
            "compression": implementation(self._compression),
        }
        return files.sha256_bytes(files.canonical_json(parts)).removeprefix("sha256:")

    def _kept(self, place: Path) -> LayerRecord | None:
        if not place.exists():
            return None
        try:
            record = LayerRecord.read(place / _RECORD)
            intact = files.sha256_file(place / _BLOB) == record.digest
        except (SourceError, OSError):
            intact = False
        if not intact:
            self._say(f"{place}: damaged; made anew")
            shutil.rmtree(place)
            return None
        return record.model_copy(update={"cached": True})

    def _make(self, name: str, entries: Iterable[Entry]) -> LayerRecord:
        unnamed = self._layout / f"blobs/{name}.partial"
        with unnamed.open("wb") as file, CompressedBlob(file, self._compression) as blob:
            write_archive(entries, blob)
        unnamed.replace(blob_path(self._layout, blob.digest))
        return LayerRecord(
            name=name,
            digest=blob.digest,
            diff_id=blob.raw_digest,
            bytes=blob.bytes,
            raw_bytes=blob.raw_bytes,
            cached=False,
        )


def _recipe() -> str:
    """Digest the code that decides what layers hold."""
    here = Path(__file__).parent
    sources = sorted(here.glob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()


def _link(source: Path, target: Path) -> None:
    """Let *target* be *source*: the same file where the file system allows it, else a copy."""
    try:
        os.link(source, target)
    except FileExistsError:
        pass
    except OSError:
        shutil.copyfile(source, target)
