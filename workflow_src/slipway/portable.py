"""
StableHLO as one TensorFlow's compiler writes it -> a portable artifact, which any later XLA reads; by jaxlib, no TensorFlow.

Two compilers of two releases: neither is in the process of the other.
"""

from collections.abc import Sequence
from typing import Any

from slipway.errors import SourceError, one_line
from slipway_wire import dtypes
from slipway_wire.signatures import TensorSpec
from slipway_wire.stablehlo import Weight

VERSION = "1.0.0"
"""Of StableHLO that is written: what 1.0.0 can say every release of 1 reads, and so does a jaxlib of last year."""

# MLIR's names of element types.
_MLIR = {
    dtypes.FLOAT: "f32",
    dtypes.DOUBLE: "f64",
    dtypes.HALF: "f16",
    dtypes.BFLOAT16: "bf16",
    dtypes.INT8: "i8",
    dtypes.INT16: "i16",
    dtypes.INT32: "i32",
    dtypes.INT64: "i64",
    dtypes.UINT8: "ui8",
    dtypes.UINT16: "ui16",
    dtypes.UINT32: "ui32",
    dtypes.UINT64: "ui64",
    dtypes.BOOL: "i1",
    dtypes.COMPLEX64: "complex<f32>",
    dtypes.COMPLEX128: "complex<f64>",
}


def convert(
    bytecode: bytes,
    name: str,
    rows: int | None,
    inputs: Sequence[TensorSpec],
    weights: Sequence[Weight],
    outputs: Sequence[TensorSpec],
) -> bytes:
    """
    Convert one program; equal programs, equal bytes.

    Args:
        bytecode: MLIR, of this TensorFlow's age.
        name: What the program is called from now on: TensorFlow's name counts functions.
        rows: What it was made for.
        inputs: What it takes first.
        weights: What it takes after them.
        outputs: What it gives.

    Returns:
        VHLO bytecode of version `VERSION`.

    Raises:
        SourceError: It takes or gives something else than that, or needs a newer StableHLO.
    """
    from jax.interpreters import mlir as jax_mlir  # noqa: PLC0415 - half a second
    from jaxlib.mlir import ir  # noqa: PLC0415
    from jaxlib.mlir.dialects import stablehlo  # noqa: PLC0415

    with jax_mlir.make_ir_context():
        try:
            # As text and back: places in files of this machine stay behind.
            module = ir.Module.parse(str(ir.Module.parse(bytecode)))
        except ir.MLIRError as error:
            raise SourceError(f"this jaxlib does not read what this TensorFlow writes: {one_line(error)}") from error
        module.operation.attributes["sym_name"] = ir.StringAttr.get(name)
        _check(
            module,
            _types(rows, inputs) + [_type(weight.shape, weight.dtype) for weight in weights],
            _types(rows, outputs),
        )
        try:
            return bytes(stablehlo.serialize_portable_artifact(module, VERSION))
        except ValueError as error:
            raise SourceError(f"it cannot be written as StableHLO {VERSION}: {one_line(error)}") from error


def _check(module: Any, taken: list[str], given: list[str]) -> None:
    function = next(op for op in module.body.operations if op.operation.attributes["sym_name"].value == "main")
    for kind, expected, found in (
        ("takes", taken, [str(one) for one in function.type.inputs]),
        ("gives", given, [str(one) for one in function.type.results]),
    ):
        if expected != found:
            # A model that changes its variables gives them back; a result of data-dependent size has a bound for a size.
            odd = next((pair for pair in zip(expected, found, strict=False) if pair[0] != pair[1]), None)
            told = (
                f"{odd[1]} where {odd[0]} is right" if odd else f"{len(found)} tensors where {len(expected)} are right"
            )
            raise SourceError(
                f"the program {kind} {told}: the model changes its state, or has sizes that depend on values. "
                "Serve it with server.backend: saved_model"
            )


def _types(rows: int | None, specs: Sequence[TensorSpec]) -> list[str]:
    return [_type([rows if size is None else size for size in spec.shape or ()], spec.dtype) for spec in specs]


def _type(shape: Sequence[int | None], dtype: dtypes.DataType) -> str:
    return f"tensor<{''.join(f'{size}x' for size in shape)}{_MLIR[dtype]}>"
