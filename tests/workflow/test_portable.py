"""What one compiler writes, another one has to read: shapes are compared, names and places of this machine stay behind."""

import jax
import jax.numpy as jnp
import pytest
from jax.interpreters import mlir
from jaxlib.mlir import ir

from slipway.errors import SourceError
from slipway.portable import convert
from slipway_wire import dtypes
from slipway_wire.signatures import TensorSpec
from slipway_wire.stablehlo import Weight

X = TensorSpec("x", dtypes.FLOAT, (None, 3), "x:0")
Y = TensorSpec("y", dtypes.FLOAT, (None, 2), "y:0")
WEIGHT = Weight(dtypes.FLOAT, (3, 2), 0)


def lowered(function=jnp.matmul, *shapes, dtype="float32"):
    arguments = [jax.ShapeDtypeStruct(shape, dtype) for shape in shapes or [(4, 3), (3, 2)]]
    return jax.jit(function).lower(*arguments).compiler_ir("stablehlo")


def bytecode(module):
    import io

    written = io.BytesIO()
    module.operation.write_bytecode(written)
    return written.getvalue()


def test_equal_programs_have_equal_bytes_whatever_they_were_called_and_wherever_they_were_written():
    def another_name(x, w):
        return x @ w

    first = convert(bytecode(lowered()), "s0.b4", 4, [X], [WEIGHT], [Y])
    second = convert(bytecode(lowered(another_name)), "s0.b4", 4, [X], [WEIGHT], [Y])

    assert first == second
    assert b"StableHLO_v1.0.0" in first
    assert b"test_portable" not in first
    with mlir.make_ir_context():
        assert "@s0.b4" in str(ir.Module.parse(first))


@pytest.mark.parametrize(
    ("inputs", "weights", "outputs", "said"),
    [
        ([X], [WEIGHT], [X], r"gives tensor<4x2xf32> where tensor<4x3xf32> is right: the model changes its state, or"),
        ([X], [WEIGHT], [Y, Y], r"gives 1 tensors where 2 are right"),
        ([X], [], [Y], r"takes 2 tensors where 1 are right"),
        ([X], [Weight(dtypes.DOUBLE, (3, 2), 0)], [Y], r"takes tensor<3x2xf32> where tensor<3x2xf64> is right"),
    ],
)
def test_what_departs_from_the_signature_is_refused(inputs, weights, outputs, said):
    with pytest.raises(SourceError, match=said):
        convert(bytecode(lowered()), "m", 4, inputs, weights, outputs)


def test_a_size_that_depends_on_values_is_refused():
    """TensorFlow's compiler gives such a result a bound for a size: rows of nothing after those that there are."""
    text = b"""func.func @main(%x: tensor<4xf32>, %n: tensor<i32>) -> tensor<?xf32, #stablehlo.bounds<4>> {
        %y = "stablehlo.set_dimension_size"(%x, %n) {dimension = 0 : i64} :
             (tensor<4xf32>, tensor<i32>) -> tensor<?xf32, #stablehlo.bounds<4>>
        return %y : tensor<?xf32, #stablehlo.bounds<4>> }"""
    x = TensorSpec("x", dtypes.FLOAT, (None,), "x:0")

    with pytest.raises(SourceError, match=r"gives tensor<\?xf32, #stablehlo\.bounds<4>> where tensor<4xf32> is right"):
        convert(text, "m", 4, [x], [Weight(dtypes.INT32, (), 0)], [x])


def test_what_is_no_program_is_told_in_one_line():
    with pytest.raises(SourceError, match=r"^this jaxlib does not read what this TensorFlow writes: .*$"):
        convert(b"nothing", "m", 1, [X], [], [Y])
