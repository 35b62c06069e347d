import numpy as np
import pytest

from slipway import golden
from slipway.bench.requests import drawn, source_of
from slipway.errors import SettingsError
from slipway.golden import Golden
from slipway_wire import dtypes
from slipway_wire.signatures import PREDICT, Signature, TensorSpec


def signature(**inputs):
    """Name -> (type, shape)."""
    specs = {name: TensorSpec(name, dtypes.from_name(dtype), shape, "") for name, (dtype, shape) in inputs.items()}
    return Signature("serving_default", PREDICT, specs, {"y": TensorSpec("y", dtypes.FLOAT, (None, 3), "")})


SIGNATURE = signature(x=("float", (None, 3)))


def write(path, **arrays):
    np.savez(path, **arrays)
    return str(path)


def test_rows_of_a_file_get_the_dtype_that_the_server_takes(tmp_path):
    source = source_of(write(tmp_path / "a.npz", x=np.ones((5, 3))), None, SIGNATURE, 1)
    requests = source.chosen(2)

    assert source.inputs["x"].dtype == np.float32
    assert [inputs["x"].shape for inputs, _ in requests] == [(2, 3), (2, 3)]
    assert all(promised is None for _, promised in requests)
    # More than there are: the first ones again.
    assert source.chosen(7)[0][0]["x"].shape == (7, 3)


def test_answers_of_golden_data_are_what_is_expected(tmp_path):
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    golden.write(tmp_path / "golden.npz", Golden({"x": x}, {"y": x / 2, "more": x}, None))
    ((inputs, promised),) = source_of(str(tmp_path / "golden.npz"), None, SIGNATURE, 1).chosen(4)

    np.testing.assert_array_equal(promised["y"], inputs["x"] / 2)
    assert set(promised) == {"y"}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"z": np.ones((2, 3))}, r"no array x; it has: z"),
        ({"x": np.ones((2, 4))}, r"x: expected shape \[\?, 3\], found \[2, 4\]"),
        ({"x": np.ones(3)}, r"x: expected shape \[\?, 3\], found \[3\]"),
        ({"x": np.ones((2, 3), np.complex64)}, r"x: expected float, found complex64"),
        ({"inputs/x": np.ones((2, 3)), "outputs/z": np.ones(2)}, r"has no outputs/y, which serving_default answers"),
    ],
)
def test_rows_that_do_not_fit_are_told(arrays, message, tmp_path):
    with pytest.raises(SettingsError, match=message):
        source_of(write(tmp_path / "a.npz", **arrays), None, SIGNATURE, 1)


def test_a_contract_gives_ranges(tmp_path):
    (tmp_path / "c.yaml").write_text(
        "format: 1\nsignatures:\n  serving_default:\n    method: predict\n"
        "    inputs: {x: {shape: [N, 3], range: [5, 6]}}\n    outputs: {y: {shape: [N, 3]}}\n"
    )
    found = source_of(None, tmp_path / "c.yaml", SIGNATURE, 1)

    assert found.inputs["x"].min() >= 5
    assert found.told == "drawn within the ranges of c.yaml"
    with pytest.raises(SettingsError, match=r"--payload contract: which\?"):
        source_of("contract", None, SIGNATURE, 1)


def test_drawn_rows_fit_any_signature_and_are_the_same_again():
    takes = signature(a=("float", (None, 2, None)), b=("string", (None,)), c=("int64", (None, 1)), d=("bool", None))
    first, again = drawn(takes, 7), drawn(takes, 7)

    assert {name: array.shape[1:] for name, array in first.inputs.items()} == {"a": (2, 1), "b": (), "c": (1,), "d": ()}
    assert all(np.array_equal(first.inputs[name], again.inputs[name]) for name in first.inputs)
    assert next(inputs["a"].shape for inputs, _ in first.chosen(3)) == (3, 2, 1)


def test_a_signature_without_rows_has_one_request():
    source = drawn(signature(x=("float", (4, 3))), 1)

    assert not source.has_rows
    assert [inputs["x"].shape for inputs, _ in source.chosen(8)] == [(4, 3)]
