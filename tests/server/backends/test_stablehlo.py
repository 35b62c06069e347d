"""Programs compiled by XLA, run without TensorFlow: what fits one is padded, what fits none is told."""

import gc
import hashlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest
from tests.server.stablehlo_factory import spec, write, write_half_plus_two

from slipway_server.backends import pjrt
from slipway_server.backends.stablehlo import StableHloLoader, has_stablehlo
from slipway_server.metrics import Metrics
from slipway_server.servables.loader import Call
from slipway_wire import stablehlo
from slipway_wire.status import DataLoss, InvalidArgument, NotFound, WireError


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    return StableHloLoader(write_half_plus_two(tmp_path_factory.mktemp("half"))).load()


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """Two inputs with rows and one without; an output without rows; every kind of element; no rows at all."""
    import jax.numpy as jnp

    def mixed(fixed, k, x, matrix):
        return (k + 1, jnp.sum(matrix), x @ matrix + fixed.astype(jnp.float32))

    kinds = ["bfloat16", "bool", "complex64", "double", "half", "int64", "int8", "uint16"]
    specs = [spec(kind, kind, None, 2) for kind in kinds]
    signatures = {
        "mixed": (
            mixed,
            [spec("fixed", "int32", 3), spec("k", "int64", None), spec("x", "float", None, 2)],
            [spec("next", "int64", None), spec("total", "float"), spec("y", "float", None, 3)],
        ),
        "kinds": (lambda *arrays: arrays[:-1], specs, specs),
        "once": (lambda x, _matrix: (x * 2,), [spec("x", "int32", 2)], [spec("y", "int32", 2)]),
    }
    matrix = np.float32([[1, 0, 2], [0, 1, 3]])
    directory = write(tmp_path_factory.mktemp("shapes"), signatures, [matrix], sizes=(2, 4))
    return StableHloLoader(directory).load()


def run(servable, x, signature="serving_default", outputs=("y",)):
    return servable.run(Call(signature, {"x": x} if isinstance(x, np.ndarray) else x, outputs))


@pytest.mark.parametrize("rows", [0, 1, 2, 4, 5, 8, 11])
def test_any_number_of_rows_is_answered(half, rows):
    """Programs are for 1 and 4 rows: others are filled up, or run in parts."""
    x = np.arange(rows, dtype=np.float32)

    y = run(half, x)["y"]

    assert y.dtype == np.float32
    assert y.tolist() == (x / 2 + 2).tolist()


@pytest.mark.parametrize("rows", [1, 3, 4])
def test_inputs_and_outputs_with_and_without_rows(shapes, rows):
    x = np.arange(2 * rows, dtype=np.float32).reshape(rows, 2)
    inputs = {"x": x, "k": np.arange(rows), "fixed": np.int32([1, 2, 3])}

    found = run(shapes, inputs, "mixed", ("y", "next", "total"))

    assert list(found) == ["y", "next", "total"]
    np.testing.assert_allclose(found["y"], x @ np.float32([[1, 0, 2], [0, 1, 3]]) + [1, 2, 3])
    assert found["next"].tolist() == list(range(1, rows + 1))
    assert found["total"] == 7


def test_what_has_no_rows_of_its_own_is_not_parted(shapes):
    inputs = {"x": np.zeros((5, 2), np.float32), "k": np.zeros(5, np.int64), "fixed": np.int32([1, 2, 3])}

    with pytest.raises(InvalidArgument, match=r"mixed was compiled for 4 rows at most, and its output total has none"):
        run(shapes, inputs, "mixed", ("total",))
    assert run(shapes, inputs, "mixed", ("y",))["y"].shape == (5, 3)


def test_every_kind_of_element_goes_through(shapes):
    inputs = {
        "bfloat16": np.array([[1.5, -2.0]], ml_dtypes.bfloat16),
        "bool": np.array([[True, False]]),
        "complex64": np.array([[1 + 2j, 0]], np.complex64),
        "double": np.array([[1e-300, np.nan]]),
        "half": np.array([[0.5, np.inf]], np.float16),
        "int64": np.array([[2**62 + 1, -1]]),
        "int8": np.array([[-128, 127]], np.int8),
        "uint16": np.array([[0, 65535]], np.uint16),
    }

    found = run(shapes, inputs, "kinds", tuple(inputs))

    assert {name: array.dtype for name, array in found.items()} == {name: a.dtype for name, a in inputs.items()}
    for name, array in found.items():
        np.testing.assert_array_equal(array, inputs[name])


def test_a_signature_without_rows_is_run_as_it_is(shapes):
    assert run(shapes, np.int32([3, 4]), "once")["y"].tolist() == [6, 8]
    with pytest.raises(InvalidArgument, match=r"^input x: expected shape \[2\], got \[3\]$"):
        run(shapes, np.int32([3, 4, 5]), "once")


def test_an_answer_is_its_own(half):
    """On a CPU the runtime works in the caller's memory, which is used again once the request is answered."""
    x = np.float32([1, 2, 3, 4])
    first = run(half, x)["y"]

    x[:] = 100
    run(half, x)

    assert first.tolist() == [2.5, 3.0, 3.5, 4.0]


@pytest.mark.parametrize(
    ("x", "said"),
    [
        # Two float32 have the bytes of one double, which is all that the runtime would look at.
        (np.float64([1.0]), "^Type mismatch: actual double vs. expect float for input x$"),
        (np.float32([[1.0]]), r"^input x: expected shape \[\?\], got \[1, 1\]$"),
        (np.array(1.0, np.float32), r"^input x: expected shape \[\?\], got \[\]$"),
    ],
)
def test_what_does_not_fit_is_told(half, x, said):
    with pytest.raises(InvalidArgument, match=said):
        run(half, x)


def test_inputs_must_have_the_same_rows(shapes):
    inputs = {"x": np.zeros((2, 2), np.float32), "k": np.zeros(3, np.int64), "fixed": np.int32([1, 2, 3])}

    with pytest.raises(InvalidArgument, match=r"^inputs have different numbers of rows: x has 2, others have 3$"):
        run(shapes, inputs, "mixed", ("y",))


def test_rows_that_depend_on_each_other_are_never_added(tmp_path):
    servable = StableHloLoader(write_half_plus_two(tmp_path, rows_are_apart=False)).load()

    assert run(servable, np.zeros(4, np.float32))["y"].shape == (4,)
    for rows in (3, 5):
        with pytest.raises(
            InvalidArgument, match=rf"compiled for 1, 4 rows, and its rows depend .*: {rows} were sent$"
        ):
            run(servable, np.zeros(rows, np.float32))


def test_many_threads_may_ask_at_once(half):
    """Each with rows of its own, of every size, filled up and parted: no answer is another's."""

    def ask(number):
        x = np.arange(number, number + number % 9, dtype=np.float32)
        return run(half, x)["y"].tolist() == (x / 2 + 2).tolist()

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(400)))


def test_the_signature_is_the_one_of_the_saved_model(half):
    definition = half.signature_defs["serving_default"]
    assert definition.method_name == "tensorflow/serving/predict"
    assert definition.inputs["x"].name == "x:0"
    assert [dim.size for dim in definition.outputs["y"].tensor_shape.dim] == [-1]
    call = Call("serving_default", {"x": np.float32([2.0])}, ("y",))
    assert [found["y"].tolist() for found in half.run_together([call, call])] == [[3.0], [3.0]]


def test_loads_are_counted_and_closing_frees_programs_and_weights(tmp_path):
    metrics = Metrics()
    gc.collect()
    before = pjrt.device().live()
    servable = StableHloLoader(write_half_plus_two(tmp_path), metrics).load()
    run(servable, np.float32([1.0]))
    assert pjrt.device().live() == (before[0] + 2, before[1] + 1)

    servable.close()

    gc.collect()
    assert pjrt.device().live() == before
    assert metrics.sum_of(metrics.saved_model_load_attempts, status="success") == 1


def _drop(place):
    (place / "s0.b4.vhlo").unlink()


def _cut_weights(place):
    (place / "weights.bin").write_bytes(b"\0")


def _lengthen_weights(place):
    (place / "weights.bin").write_bytes(b"\0" * 100)


def _spoil_program(place):
    (place / "s0.b1.vhlo").write_bytes(b"ML\xefR nothing")


def _spoil_manifest(place):
    (place / "manifest.json").write_text("{")


@pytest.mark.parametrize(
    ("spoil", "error", "said"),
    [
        (_drop, NotFound, r"/s0\.b4\.vhlo: No such file or directory; stablehlo/manifest\.json needs it"),
        (_cut_weights, DataLoss, r"/weights\.bin: expected 4 bytes, found 1\. Copy the version again$"),
        (_lengthen_weights, DataLoss, r"/weights\.bin: expected 4 bytes, found more\. Copy the version again$"),
        (
            _spoil_program,
            DataLoss,
            r"/s0\.b1\.vhlo: differs from what stablehlo/manifest\.json lists: expected sha256 ",
        ),
        (_spoil_manifest, DataLoss, r"stablehlo/manifest\.json: damaged \(JSONDecodeError"),
    ],
)
def test_what_is_damaged_is_told_in_one_line(tmp_path, spoil, error, said):
    directory = write_half_plus_two(tmp_path)
    spoil(directory / stablehlo.DIRECTORY)
    metrics = Metrics()

    with pytest.raises(error, match=said) as told:
        StableHloLoader(directory, metrics).load()

    assert "\n" not in str(told.value)
    assert metrics.sum_of(metrics.saved_model_load_attempts, status="fail") == 1


def test_what_the_runtime_refuses_has_its_code(tmp_path):
    directory = write_half_plus_two(tmp_path)
    path = directory / stablehlo.MANIFEST_FILE
    manifest = stablehlo.decode(path.read_bytes())
    (lowered,) = manifest.signatures.values()
    odd = replace(lowered, programs=(replace(lowered.programs[1], rows=1),))
    path.write_bytes(stablehlo.encode(replace(manifest, signatures={"serving_default": odd})))
    servable = StableHloLoader(directory).load()

    with pytest.raises(InvalidArgument, match=r"^XLA: .*$"):
        run(servable, np.float32([1.0]))


def test_what_xla_refuses_names_the_file(tmp_path):
    directory = write_half_plus_two(tmp_path)
    path = directory / stablehlo.MANIFEST_FILE
    content = b"func.func @main() { nothing }"
    manifest = stablehlo.decode(path.read_bytes())
    (lowered,) = manifest.signatures.values()
    odd = replace(lowered, programs=(replace(lowered.programs[0], sha256=hashlib.sha256(content).hexdigest()),))
    path.write_bytes(stablehlo.encode(replace(manifest, signatures={"serving_default": odd})))
    (directory / "stablehlo/s0.b1.vhlo").write_bytes(content)

    with pytest.raises(WireError, match=r"/s0\.b1\.vhlo: XLA: \S.*$") as told:
        StableHloLoader(directory).load()
    assert "\n" not in str(told.value)


def test_a_version_says_whether_it_has_one(tmp_path):
    assert not has_stablehlo(tmp_path)
    assert has_stablehlo(write_half_plus_two(tmp_path / "1"))


_ALONE = """
import sys
from pathlib import Path
sys.modules["tensorflow"] = sys.modules["scipy"] = sys.modules["keras"] = None  # not to be found
import numpy as np
from slipway_server.backends.loading import loader_maker
from slipway_server.load_options import LoadOptions
from slipway_server.metrics import Metrics
from slipway_server.servables.loader import Call
from slipway_server.servables.warmup import as_it_is
make = loader_maker(LoadOptions(prefers_stablehlo=True), Metrics(), lambda directory: as_it_is)
servable = make("m", 1, Path(sys.argv[1])).load()
print(servable.run(Call("serving_default", {"x": np.float32([1.0, 2.0])}, ("y",)))["y"].tolist())
"""


def test_it_needs_neither_tensorflow_nor_scipy(tmp_path):
    command = [sys.executable, "-c", _ALONE, str(write_half_plus_two(tmp_path))]

    found = subprocess.run(command, capture_output=True, text=True, check=True)

    assert found.stdout == "[2.5, 3.0]\n"
