import contextlib
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_wire import inference, messages, predict, tfrecord, warmup_log
from slipway_wire.model_spec import ModelSpec
from slipway_wire.status import InvalidArgument, Unimplemented, WireError

X = np.float32([[1, 2]])


def test_a_prediction_comes_back_as_it_was():
    record = warmup_log.encode("predict", predict.encode_request("m", {"x": X}, version=1, signature_name="s"))

    found = warmup_log.decode(record)

    assert found.method == "predict"
    assert found.request.spec == ModelSpec("m", version=1, signature_name="s")
    assert found.request.inputs["x"].tolist() == X.tolist()


@pytest.mark.parametrize("version", [None, 3])
def test_the_version_that_answered_is_that_of_the_log(version):
    """What was asked for may have been a label, or nothing in particular."""
    metadata = messages.LogMetadata(model_spec=messages.ModelSpec(name="m"))
    if version is not None:
        metadata.model_spec.version.value = version
    request = predict.encode_request("m", {"x": X}, label="stable")
    record = warmup_log.encode("predict", request, metadata=metadata.SerializeToString())

    assert warmup_log.decode(record).served_version == version
    assert warmup_log.decode(warmup_log.encode("predict", request)).served_version is None


@pytest.mark.parametrize("method", ["classify", "regress"])
def test_examples_come_back_as_they_were(method):
    found = warmup_log.decode(warmup_log.encode(method, inference.encode_request("m", [b"", b""])))

    assert found.method == method
    assert found.request == inference.ExamplesRequest(ModelSpec("m"), [b"", b""])


def test_multi_inference_comes_back_as_it_was():
    request = messages.MultiInferenceRequest()
    request.tasks.add(model_spec=messages.ModelSpec(name="m"), method_name="tensorflow/serving/regress")
    request.input.example_list.examples.add()

    found = warmup_log.decode(warmup_log.encode("multi_inference", request.SerializeToString()))

    assert found.method == "multi_inference"
    assert [task.method for task in found.request.tasks] == ["tensorflow/serving/regress"]


def test_a_file_of_records_comes_back_in_order():
    records = [warmup_log.encode("predict", predict.encode_request("m", {"x": X[:rows]})) for rows in (0, 1)]

    back = [warmup_log.decode(one) for one in tfrecord.read(io.BytesIO(tfrecord.frame_all(records)))]

    assert [len(one.request.inputs["x"]) for one in back] == [0, 1]


@pytest.mark.parametrize("log", ["session_run_log", "predict_streamed_log"])
def test_logs_that_cannot_be_replayed_are_told_in_tf_servings_words(log):
    record = messages.PredictionLog()
    getattr(record, log).SetInParent()

    with pytest.raises(Unimplemented, match=f"^Unsupported log_type for warmup: {log}$"):
        warmup_log.decode(record.SerializeToString())


def test_a_record_without_a_request_does_nothing():
    assert warmup_log.decode(b"") is None


def test_what_is_no_log_is_told_in_tf_servings_words():
    with pytest.raises(InvalidArgument, match=r"^Failed to parse warmup record: "):
        warmup_log.decode(b"\xff")


@given(st.binary(max_size=120))
def test_any_bytes_give_a_request_or_a_wire_error(data):
    with contextlib.suppress(WireError):
        warmup_log.decode(data)


def test_answer_and_metadata_have_their_place_in_a_record():
    request, response = predict.encode_request("m", {"x": np.float32([1.0])}), b""
    metadata = messages.LogMetadata(timestamp_secs=7).SerializeToString()

    log = messages.PredictionLog.FromString(warmup_log.encode("predict", request, response, metadata))

    assert log.predict_log.request.model_spec.name == "m"
    assert log.predict_log.HasField("response")
    assert log.log_metadata.timestamp_secs == 7
    assert not messages.PredictionLog.FromString(warmup_log.encode("predict", request)).predict_log.HasField("response")
