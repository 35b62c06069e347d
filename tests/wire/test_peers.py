"""TensorFlow's and tensorflow-serving-api's own classes read what we write, and we read what they write."""

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway_wire import inference, messages, predict, tensors, tfrecord, warmup_log
from slipway_wire.model_spec import ModelSpec

SPEC = ModelSpec("m", version=3, signature_name="s")


@pytest.fixture(scope="module")
def tf():
    import tensorflow as tf

    return tf


@pytest.fixture(scope="module")
def apis():
    from tensorflow_serving import apis
    from tensorflow_serving.apis import (  # noqa: F401 - the import makes them attributes
        classification_pb2,
        predict_pb2,
        prediction_log_pb2,
        regression_pb2,
    )

    return apis


@given(data=st.data())
@settings(max_examples=200)
def test_tensorflow_reads_the_tensors_we_write(data, tf, numeric_arrays, same):
    array = data.draw(numeric_arrays)
    as_content = data.draw(st.booleans())

    theirs = type(tf.make_tensor_proto(0.0)).FromString(
        tensors.to_proto(array, as_content=as_content).SerializeToString()
    )

    assert same(tf.make_ndarray(theirs), array)


@given(data=st.data())
def test_tensorflow_reads_the_strings_we_write(data, tf, string_arrays):
    array = data.draw(string_arrays)

    theirs = type(tf.make_tensor_proto(0.0)).FromString(tensors.to_proto(array, as_content=True).SerializeToString())
    read = tf.make_ndarray(theirs)

    assert read.shape == array.shape
    assert read.tolist() == array.tolist()


@given(data=st.data())
@settings(max_examples=200)
def test_we_read_the_tensors_tensorflow_writes(data, tf, wire_arrays, same):
    """In Python it writes content, typed values for strings, and one value for many equal ones."""
    array = data.draw(wire_arrays)

    assert same(tensors.from_bytes(tf.make_tensor_proto(array, shape=array.shape).SerializeToString()), array)


@given(data=st.data())
def test_tensorflows_runtime_reads_the_tensors_we_write(data, tf, numeric_arrays, same):
    """The C++ reader is the one that matters in the end."""
    array = data.draw(numeric_arrays)
    serialized = tensors.to_proto(array, as_content=data.draw(st.booleans())).SerializeToString()

    read = tf.io.parse_tensor(serialized, tf.as_dtype(array.dtype)).numpy()

    assert same(np.asarray(read), array)


@given(data=st.data())
def test_we_read_the_tensors_tensorflows_runtime_writes(data, tf, wire_arrays, same):
    """Strings come in tensor_content from there."""
    array = data.draw(wire_arrays)

    serialized = tf.io.serialize_tensor(tf.constant(array.tolist() if array.dtype == object else array, shape=array.shape,
                                                    dtype=tf.string if array.dtype == object else None)).numpy()  # fmt: skip

    assert same(tensors.from_bytes(serialized), array)


@given(
    shape=st.lists(st.integers(0, 4), max_size=3),
    values=st.lists(st.floats(width=32, allow_nan=False), max_size=6),
)
def test_we_fill_up_missing_values_as_tensorflows_runtime_does(shape, values, tf):
    proto = messages.TensorProto(dtype=1, float_val=values)
    for size in shape:
        proto.tensor_shape.dim.add(size=size)

    theirs = tf.io.parse_tensor(proto.SerializeToString(), tf.float32).numpy()

    assert tensors.from_proto(proto).tolist() == theirs.tolist()


def test_the_clients_package_reads_our_answers_and_we_its_requests(tf, apis):
    request = apis.predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "m", "s"
    request.model_spec.version.value = 3
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(np.float32([[1, 2]])))
    request.output_filter.append("y")

    ours = predict.decode_request(request.SerializeToString())
    answer = predict.encode_response(ours.spec, {"y": ours.inputs["x"] / 2, "z": np.array([b"a"], object)})
    theirs = apis.predict_pb2.PredictResponse.FromString(answer)

    assert (ours.spec, ours.output_filter) == (SPEC, ("y",))
    assert tf.make_ndarray(theirs.outputs["y"]).tolist() == [[0.5, 1.0]]
    assert tf.make_ndarray(theirs.outputs["z"]).tolist() == [b"a"]
    assert (theirs.model_spec.name, theirs.model_spec.version.value) == ("m", 3)


def test_the_clients_package_writes_the_request_we_write(tf, apis):
    ours = predict.encode_request("m", {"x": np.float32([[1, 2]])}, version=3, signature_name="s")

    theirs = apis.predict_pb2.PredictRequest.FromString(ours)

    assert tf.make_ndarray(theirs.inputs["x"]).tolist() == [[1.0, 2.0]]
    assert theirs.SerializeToString(deterministic=True) == ours


def test_classify_and_regress_are_read_by_the_clients_package(apis):
    scores = np.float32([[0.5, 0.25]])
    classified = inference.encode_classify_response(SPEC, inference.Classification(None, scores))
    regressed = inference.encode_regress_response(SPEC, inference.Regression(scores[:, 0]))

    theirs = apis.classification_pb2.ClassificationResponse.FromString(classified)
    values = apis.regression_pb2.RegressionResponse.FromString(regressed).result.regressions

    assert [one.score for one in theirs.result.classifications[0].classes] == [0.5, 0.25]
    assert [one.value for one in values] == [0.5]


def test_a_warm_up_file_is_read_by_tensorflow_and_its_own_by_us(tf, apis, tmp_path):
    request = predict.encode_request("m", {"x": np.float32([1])})
    ours = tmp_path / "ours"
    ours.write_bytes(tfrecord.frame_all([warmup_log.encode("predict", request)]))

    (record,) = tf.data.TFRecordDataset(str(ours)).as_numpy_iterator()
    log = apis.prediction_log_pb2.PredictionLog.FromString(record)
    with tf.io.TFRecordWriter(str(tmp_path / "theirs")) as writer:
        writer.write(log.SerializeToString())

    (back,) = tfrecord.read(io.BytesIO((tmp_path / "theirs").read_bytes()))
    assert warmup_log.decode(back).request.inputs["x"].tolist() == [1.0]
    assert log.predict_log.request.model_spec.name == "m"


@given(data=st.data())
def test_what_the_clients_package_refuses_to_read_we_refuse_too(data, apis):
    """No bytes are a PredictRequest to one and not to the other: fields we do not declare are still parsed."""
    from google.protobuf.message import DecodeError

    serialized = bytearray(predict.encode_request("m", {"x": np.float32([1])}, output_filter=["y"]))
    for _ in range(data.draw(st.integers(1, 3))):
        serialized[data.draw(st.integers(0, len(serialized) - 1))] = data.draw(st.integers(0, 255))

    theirs = ours = None
    with contextlib.suppress(DecodeError):
        theirs = apis.predict_pb2.PredictRequest.FromString(bytes(serialized))
    with contextlib.suppress(DecodeError):
        ours = messages.PredictRequest.FromString(bytes(serialized))

    if ours is None:
        assert theirs is None
