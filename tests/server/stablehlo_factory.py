"""Version directories with StableHLO, made by JAX from a function: no TensorFlow, and exactly the program a test is about."""

import hashlib

import jax
import numpy as np
from jax.interpreters import mlir
from jaxlib.mlir.dialects import stablehlo as dialect

from slipway_wire import dtypes, stablehlo
from slipway_wire.signatures import PREDICT, Signature, TensorSpec
from slipway_wire.stablehlo import Lowered, Manifest, Program, Weight

jax.config.update("jax_enable_x64", True)


def spec(alias, dtype, *shape):
    return TensorSpec(alias, dtypes.from_name(dtype), shape, f"{alias}:0")


def write(directory, signatures, weights=(), sizes=(1, 4), *, rows_are_apart=True):
    """
    Write `stablehlo/` below *directory*.

    Args:
        directory: Of the version.
        signatures: Name -> (function of inputs and weights that gives a tuple, input specs, output specs), sorted by alias.
        weights: Arrays that every function gets after its inputs.
        sizes: Numbers of rows, for signatures whose inputs have any number.
        rows_are_apart: What the manifest says of it.
    """
    place = directory / stablehlo.DIRECTORY
    place.mkdir(parents=True)
    content, placed = b"", []
    for array in weights:
        content = content.ljust(stablehlo.next_offset(len(content)), b"\0")
        placed.append(Weight(dtypes.from_numpy(array.dtype), array.shape, len(content)))
        content += array.tobytes()
    (place / stablehlo.WEIGHTS_FILE).write_bytes(content)
    lowered = {}
    for number, (name, (function, inputs, outputs)) in enumerate(signatures.items()):
        has_rows = any(one.shape[:1] == (None,) for one in inputs)
        programs = []
        for rows in sizes if has_rows else (None,):
            arguments = [
                jax.ShapeDtypeStruct([rows if n is None else n for n in one.shape], one.dtype.numpy) for one in inputs
            ] + [jax.ShapeDtypeStruct(array.shape, array.dtype) for array in weights]
            file = f"s{number}.b{rows}.vhlo"
            module = jax.jit(function, keep_unused=True).lower(*arguments).compiler_ir("stablehlo")
            with mlir.make_ir_context():
                written = dialect.serialize_portable_artifact(module, "1.0.0")
            (place / file).write_bytes(written)
            digest = hashlib.sha256(written).hexdigest()
            programs.append(Program(file, rows, tuple(range(len(weights))), digest))
        signature = Signature(name, PREDICT, {s.name: s for s in inputs}, {s.name: s for s in outputs})
        lowered[name] = Lowered(signature, tuple(programs), rows_are_apart=rows_are_apart)
    manifest = Manifest("1.0.0", {}, tuple(placed), lowered)
    (directory / stablehlo.MANIFEST_FILE).write_bytes(stablehlo.encode(manifest))
    return directory


def write_half_plus_two(directory, **options):
    """Write x / 2 + 2, with the 2 as a weight; sizes 1 and 4."""
    function = lambda x, two: (x / 2 + two,)  # noqa: E731
    signatures = {"serving_default": (function, [spec("x", "float", None)], [spec("y", "float", None)])}
    return write(directory, signatures, [np.float32([2.0])], **options)
