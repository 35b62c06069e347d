import numpy as np
import pytest

from slipway_server.servables import synthesis
from slipway_wire import dtypes
from slipway_wire.signatures import PREDICT, REGRESS, Signature, TensorSpec


def signature(*specs, name="serving_default", method=PREDICT, **defaults):
    inputs = {
        alias: TensorSpec(alias, dtypes.from_name(dtype), shape, graph_name)
        for alias, dtype, shape, graph_name in specs
    }
    return Signature(name, method, inputs, {}, defaults)


@pytest.mark.parametrize(
    "dtype", ["float", "double", "half", "bfloat16", "int32", "int64", "uint8", "bool", "string", "complex64"]
)
def test_every_dtype_in_its_shape(dtype):
    made = synthesis.inputs(signature(("x", dtype, (None, 3, None), "x:0")), rows=2)

    assert made["x"].shape == (2, 3, 1)
    assert dtypes.from_numpy(made["x"].dtype).name == dtype


def test_the_same_seed_gives_the_same_request():
    one = signature(("x", "float", (None, 8), "x:0"))

    np.testing.assert_array_equal(synthesis.inputs(one, seed=1)["x"], synthesis.inputs(one, seed=1)["x"])
    assert not np.array_equal(synthesis.inputs(one, seed=1)["x"], synthesis.inputs(one, seed=2)["x"])


def test_defaults_stay():
    made = synthesis.inputs(signature(("a", "float", (), "a:0"), ("x", "float", (None,), "x:0"), a=np.float32(0.5)))

    assert made["a"] == 0.5


@pytest.mark.parametrize(
    "spec",
    [
        ("x", "float", None, "x:0"),
        ("x", "resource", (), "x:0"),
        ("x", "float", (None,), ""),
        ("x", "float", (None, 2**25), "x:0"),
    ],
)
def test_what_cannot_be_made_up_is_not(spec):
    """An unknown rank, no array of that type, a sparse tensor, too much memory."""
    assert synthesis.inputs(signature(spec)) is None


def test_a_signature_without_inputs_is_not_asked():
    """It may count, or reset what counts."""
    assert synthesis.inputs(signature()) is None


@pytest.mark.parametrize(
    ("name", "method", "can"),
    [("serving_default", PREDICT, True), ("r", REGRESS, False), ("__saved_model_init_op", PREDICT, False)],
)
def test_only_predict_is_asked(name, method, can):
    assert synthesis.can_be_asked(signature(name=name, method=method)) is can
