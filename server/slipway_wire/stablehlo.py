"""
The StableHLO form of a version: programs that XLA compiles, and the weights that they share. No TensorFlow, no JAX here.

`stablehlo/` of a version directory holds, for each signature, one program for each number of rows that it was made for; all
of them take the inputs, sorted by alias, and after them weights, and give the outputs, sorted by alias. A program is a
portable artifact (VHLO bytecode), which later releases of XLA read, too. `weights.bin` holds each weight once, little-endian.

Source of the programs' form: https://openxla.org/stablehlo/compatibility.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from slipway_wire import dtypes
from slipway_wire.dtypes import DataType
from slipway_wire.signatures import Shape, Signature, TensorSpec
from slipway_wire.status import DataLoss, InvalidArgument

DIRECTORY = "stablehlo"
MANIFEST_FILE = f"{DIRECTORY}/manifest.json"
WEIGHTS_FILE = "weights.bin"
"""Relative to `DIRECTORY`, as programs are."""

ALIGNMENT_BYTES = 64
"""Where weights begin: XLA on a CPU takes memory that lies so as it is, and copies any other."""

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Weight:
    """One array in `WEIGHTS_FILE`: its element type, its shape, and at which byte it begins."""

    dtype: DataType
    shape: tuple[int, ...]
    offset: int

    @property
    def nbytes(self) -> int:
        """How many bytes it takes."""
        assert self.dtype.numpy is not None
        return math.prod(self.shape) * self.dtype.numpy.itemsize


@dataclass(frozen=True, slots=True)
class Program:
    """
    One program.

    Attributes:
        file: Its name in `DIRECTORY`.
        rows: Size of axis 0 of every input that has rows; None if none has.
        weights: Which of the manifest's weights follow the inputs.
        sha256: Of the file, in hexadecimal. XLA checks little of what it reads: a damaged program can end the process.
    """

    file: str
    rows: int | None
    weights: tuple[int, ...]
    sha256: str


@dataclass(frozen=True, slots=True)
class Lowered:
    """
    One signature.

    Attributes:
        signature: As the SavedModel has it.
        programs: At least one; by rows, the fewest first.
        rows_are_apart: Whether no row's answer depends on another row: only then may rows be added, or parted.
    """

    signature: Signature
    programs: tuple[Program, ...]
    rows_are_apart: bool


@dataclass(frozen=True, slots=True)
class Manifest:
    """
    Everything in `DIRECTORY`.

    Attributes:
        version: Of StableHLO, that programs are written in.
        tools: Package -> version that made them.
        weights: What `WEIGHTS_FILE` holds.
        signatures: Key -> signature.
    """

    version: str
    tools: Mapping[str, str]
    weights: tuple[Weight, ...]
    signatures: Mapping[str, Lowered]


def next_offset(end: int) -> int:
    """Say where a weight begins that follows what ends at byte *end*."""
    return -(-end // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def encode(manifest: Manifest) -> bytes:
    """Write *manifest* as JSON: equal manifests, equal bytes."""
    content = {
        "format": _FORMAT,
        "stablehlo": manifest.version,
        "tools": dict(manifest.tools),
        "weights": [
            {"dtype": weight.dtype.enum_name, "shape": list(weight.shape), "offset": weight.offset}
            for weight in manifest.weights
        ],
        "signatures": {
            name: {
                "method": lowered.signature.method,
                "inputs": _encode_tensors(lowered.signature.inputs),
                "outputs": _encode_tensors(lowered.signature.outputs),
                "row_independent": lowered.rows_are_apart,
                "programs": [
                    {
                        "file": program.file,
                        "rows": program.rows,
                        "weights": list(program.weights),
                        "sha256": program.sha256,
                    }
                    for program in lowered.programs
                ],
            }
            for name, lowered in manifest.signatures.items()
        },
    }
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def decode(content: bytes) -> Manifest:
    """
    Read a manifest.

    Raises:
        DataLoss: It is damaged, or of a format that is not known here.
    """
    try:
        found = json.loads(content)
        _check_format(found["format"])
        weights = tuple([_decode_weight(one) for one in found["weights"]])
        signatures = {
            str(name): _decode_signature(str(name), one, len(weights)) for name, one in found["signatures"].items()
        }
        return Manifest(str(found["stablehlo"]), dict(found["tools"]), weights, signatures)
    except DataLoss:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, InvalidArgument) as error:
        raise DataLoss(f"{MANIFEST_FILE}: damaged ({type(error).__name__}: {error}); export it again") from error


def _check_format(found: Any) -> None:
    if found != _FORMAT:
        raise DataLoss(f"{MANIFEST_FILE}: format {found}, and this release reads {_FORMAT}; export it again")


def _encode_tensors(specs: Mapping[str, TensorSpec]) -> dict[str, Any]:
    return {
        alias: {"name": spec.graph_name, "dtype": spec.dtype.enum_name, "shape": list(_known(spec.shape))}
        for alias, spec in specs.items()
    }


def _known(shape: Shape | None) -> Shape:
    if shape is None:
        raise ValueError("a tensor of unknown rank has no place in a manifest")
    return shape


def _decode_weight(found: Any) -> Weight:
    weight = Weight(_dtype(found["dtype"]), tuple([_whole(size) for size in found["shape"]]), _whole(found["offset"]))
    if weight.offset % ALIGNMENT_BYTES:
        raise ValueError(f"a weight begins at byte {weight.offset}, no multiple of {ALIGNMENT_BYTES}")
    return weight


def _decode_signature(name: str, found: Any, weights: int) -> Lowered:
    programs = [_decode_program(one, weights) for one in found["programs"]]
    rows = [program.rows for program in programs]
    sizes = [size for size in rows if size is not None]
    if not rows or (rows != [None] and (None in rows or sizes != sorted(set(sizes)) or 0 in sizes)):
        raise ValueError(f"signature {name}: programs for {rows} rows")
    inputs = _decode_tensors(found["inputs"])
    if any(spec.shape and spec.shape[0] is None for spec in inputs.values()) != bool(sizes):
        raise ValueError(f"signature {name}: programs for {rows} rows, which do not fit its inputs")
    signature = Signature(name, str(found["method"]), inputs, _decode_tensors(found["outputs"]))
    return Lowered(signature, tuple(programs), rows_are_apart=found["row_independent"] is True)


def _decode_program(found: Any, weights: int) -> Program:
    file = found["file"]
    if not isinstance(file, str) or "/" in file or file in ("", ".", ".."):
        raise ValueError(f"{file!r} is no name of a file")
    used = tuple([_whole(index) for index in found["weights"]])
    if any(index >= weights for index in used):
        raise ValueError(f"{file} uses a weight that there is not")
    return Program(file, None if found["rows"] is None else _whole(found["rows"]), used, str(found["sha256"]))


def _decode_tensors(found: Any) -> dict[str, TensorSpec]:
    return {
        alias: TensorSpec(
            alias,
            _dtype(found[alias]["dtype"]),
            tuple([None if size is None else _whole(size) for size in found[alias]["shape"]]),
            str(found[alias]["name"]),
        )
        for alias in sorted(found)
    }


def _dtype(name: Any) -> DataType:
    dtype = dtypes.from_name(str(name).removeprefix("DT_").lower())
    if dtype.numpy is None or dtype is dtypes.STRING:
        raise ValueError(f"{name}: XLA has no such elements")
    return dtype


def _whole(number: Any) -> int:
    if type(number) is not int or number < 0:
        raise ValueError(f"{number!r} is no size")
    return number
