"""Golden data: input rows and the answers that the model itself gives, before any export; no TensorFlow here."""

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from slipway import files
from slipway.errors import SourceError, one_line

Array = npt.NDArray[Any]
# The earliest time a zip can hold: .npz files of equal arrays must have equal bytes.
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)
# Before the name of an array of strings: how long each is, for numpy drops zero bytes at the end.
_LENGTHS = "lengths/"


@dataclass(frozen=True, slots=True)
class Golden:
    """
    Rows of the model's own form.

    Attributes:
        inputs: Name -> array of shape [rows, …]; strings are objects (bytes).
        outputs: Name -> array of shape [rows, …], computed by the source's own framework.
        labels: What is true of each row, int64 [rows]; None where nobody knows.
        others: What other signatures give of the same rows and the model's own form does not: signature -> output ->
            array.
    """

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]
    labels: Array | None
    others: Mapping[str, Mapping[str, Array]] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(next(iter(self.inputs.values())))

    def first(self, rows: int) -> dict[str, Array]:
        """Give the inputs of *rows* rows from the start, beginning again at the first where there are too few."""
        return {name: np.take(array, np.arange(rows) % self.rows, axis=0) for name, array in self.inputs.items()}


def write(path: Path, golden: Golden) -> None:
    """Write *golden* to *path* as .npz: equal arrays, equal bytes."""
    arrays = {f"inputs/{name}": array for name, array in golden.inputs.items()}
    arrays |= {f"outputs/{name}": array for name, array in golden.outputs.items()}
    for signature, outputs in golden.others.items():
        arrays |= {f"others/{signature}/{name}": array for name, array in outputs.items()}
    if golden.labels is not None:
        arrays["labels"] = golden.labels
    arrays |= {
        f"{_LENGTHS}{name}": lengths for name, array in arrays.items() if (lengths := _lengths(array)) is not None
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, _storable(array), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", _ZIP_EPOCH), content.getvalue())
    files.write_bytes(path, buffer.getvalue())


def _storable(array: Array) -> Array:
    return np.ascontiguousarray(array) if array.dtype != object else array.astype(np.bytes_)


def _lengths(array: Array) -> Array | None:
    """Give the lengths of strings, int64, where one ends with a zero byte: numpy's fixed-length strings drop it."""
    if array.dtype != object or not any(value.endswith(b"\0") for value in array.flat):
        return None
    return np.array([len(value) for value in array.flat], np.int64).reshape(array.shape)


def read(path: Path) -> Golden:
    """
    Read the golden data at *path*.

    Raises:
        SourceError: If the file is missing, damaged or something else.
    """
    if not path.is_file():
        raise SourceError(f"{path}: not there. Run `slipway checkpoint`, or `snakemake --cores all`.")
    arrays = read_arrays(path, "Delete it and run again.")
    inputs = {name.removeprefix("inputs/"): a for name, a in arrays.items() if name.startswith("inputs/")}
    outputs = {name.removeprefix("outputs/"): a for name, a in arrays.items() if name.startswith("outputs/")}
    if not inputs or not outputs:
        msg = f"{path}: expected arrays inputs/… and outputs/…, found {', '.join(arrays) or 'none'}. `slipway checkpoint` writes it."
        raise SourceError(msg)
    others: dict[str, dict[str, Array]] = {}
    for name, array in arrays.items():
        if name.startswith("others/"):
            _, signature, output = name.split("/")
            others.setdefault(signature, {})[output] = array
    return Golden(inputs, outputs, arrays.get("labels"), others)


def read_arrays(path: Path, advice: str) -> dict[str, Array]:
    """
    Read all arrays of the .npz at *path*; strings come as objects (bytes), as long as an array `lengths/<name>` says.

    Args:
        path: The file.
        advice: What to do if it cannot be read: ours is made again, a user's is not ours to delete.

    Raises:
        SourceError: If the file is missing, damaged, or needs pickle (which runs code).
    """
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise SourceError(f"{path}: expected .npz with named arrays, found a single array.")
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise SourceError(f"{path}: cannot be read as .npz: {one_line(error)}. {advice}") from error
    lengths = {name: arrays.pop(f"{_LENGTHS}{name}", None) for name in list(arrays)}
    return {name: _bytes_as_objects(array, lengths[name]) for name, array in arrays.items()}


def _bytes_as_objects(array: Array, lengths: Array | None) -> Array:
    if array.dtype.kind == "U":
        array = np.char.encode(array, "utf-8")
    if array.dtype.kind != "S":
        return array
    found = array.astype(object)
    if lengths is not None and lengths.shape == found.shape:
        found[...] = np.array(
            [value.ljust(length, b"\0") for value, length in zip(found.flat, lengths.flat, strict=True)], object
        ).reshape(found.shape)
    return found
