import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tests.workflow import warmup_factory as factory

from slipway.warmup import requests
from slipway_wire import inference, tensors, warmup_log

NUMBERS = hnp.arrays(
    st.sampled_from([np.float32, np.float64, np.float16, np.int64, np.uint8, np.bool_]),
    st.tuples(st.just(1), st.integers(1, 3), st.integers(1, 3)),
)
STRINGS = st.binary(max_size=5).map(lambda value: np.array([value], object))


@given(NUMBERS | STRINGS, st.integers(1, 40))
def test_a_filled_request_has_all_rows_of_the_first_value(array, rows):
    """As the server reads it: the value repeated over the whole shape."""
    record = requests.filled("m", "s", "predict", {"x": array}, rows)

    found = warmup_log.decode(record).request

    assert (found.spec.name, found.spec.signature_name) == ("m", "s")
    assert found.inputs["x"].dtype == array.dtype
    np.testing.assert_array_equal(found.inputs["x"], np.full((rows, *array.shape[1:]), array.ravel()[0]))


@given(st.integers(1, 40))
def test_filled_examples_are_the_first_one_again_and_again(rows):
    one = factory.example(x=[0.5, 1.5])
    record = requests.filled("m", "s", "classify", {"inputs": inference.examples_tensor([one])}, rows)

    assert warmup_log.decode(record).request.examples == [one] * rows
    assert len(record) < len(one) + 2 * rows + 40


def test_tensorflow_reads_a_filled_tensor_as_we_do(fresh):
    array = np.random.default_rng(0).random((1, 224, 224, 3), np.float32)
    record = requests.filled("resnet", "serving_default", "predict", {"image": array}, 32)

    assert len(record) < 100
    assert fresh.test_function(made_by_tensorflow, record) == ([32, 224, 224, 3], "float32", float(array.ravel()[0]), 1)


def made_by_tensorflow(record):
    """Let TensorFlow expand the one tensor of a record: shape, dtype, first value, distinct values."""
    import tensorflow as tf

    from slipway_wire import messages

    log = messages.PredictionLog.FromString(record)
    serialized = log.predict_log.request.inputs["image"].SerializeToString()
    array = tf.make_ndarray(type(tf.make_tensor_proto(0)).FromString(serialized))
    parsed = tf.io.parse_tensor(serialized, tf.float32).numpy()
    assert (parsed == array).all()
    return list(array.shape), str(array.dtype), float(array.ravel()[0]), len(set(array.ravel().tolist()))


def test_more_than_a_server_fills_is_not_asked_for():
    row = {"x": np.zeros((1, 2**20), np.float32)}

    assert requests.filled("m", "s", "predict", row, 16) is not None
    assert requests.filled("m", "s", "predict", row, 17) is None
    assert tensors.MAX_FILLED_BYTES == 16 * 4 * 2**20


@pytest.mark.parametrize(("array", "expected"), [(np.zeros((1, 3), np.int16), 42), (np.array([b"four"], object), 28)])
def test_values_are_weighed_without_making_them(array, expected):
    assert requests.values_bytes({"x": array}, 7) == expected
