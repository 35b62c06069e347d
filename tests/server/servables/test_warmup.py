import numpy as np
import pytest

from slipway_server.servables.warmup import WarmedLoader, replay
from slipway_wire import inference, messages, predict, tfrecord, warmup_log
from slipway_wire.status import DataLoss, FailedPrecondition, InvalidArgument, Unimplemented
from slipway_wire.warmup_log import WARMUP_FILE


def example(value):
    message = messages.Example()
    message.features.feature["x"].float_list.value.append(value)
    return message.SerializeToString()


def predict_record(*values, signature_name=""):
    request = predict.encode_request("another", {"x": np.float32(values)}, version=9, signature_name=signature_name)
    return warmup_log.encode("predict", request)


@pytest.fixture
def version(tmp_path):
    """A version directory; `version(*records)` writes its warm-up file."""

    def write(*records):
        path = tmp_path / WARMUP_FILE
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(tfrecord.frame_all(records))
        return tmp_path

    return write


@pytest.fixture
def loaded(fakes):
    return fakes.HalfPlusTwo()


def warmed(directory, fakes, servable, iterations=0):
    return WarmedLoader(fakes.FakeLoader(servable), directory, iterations).load()


def test_every_kind_of_record_is_replayed_in_order(version, fakes, loaded):
    """Model name and version are those of the recording; signature and inputs count."""
    classify = inference.encode_request("another", [example(1.0)], signature_name="classify")
    regress = inference.encode_request("another", [example(1.0)], signature_name="regress")
    directory = version(
        predict_record(1.0),
        predict_record(1.0, 2.0),
        warmup_log.encode("classify", classify),
        warmup_log.encode("regress", regress),
        b"",
    )

    assert warmed(directory, fakes, loaded) is loaded

    assert loaded.rows == [1, 2]
    assert [loaded.started.acquire(blocking=False) for _ in range(5)] == [True] * 4 + [False]


def test_records_are_replayed_as_often_as_asked(version, fakes, loaded):
    warmed(version(predict_record(1.0), predict_record(1.0, 2.0)), fakes, loaded, iterations=3)

    assert loaded.rows == [1, 1, 1, 2, 2, 2]


def test_without_records_there_is_nothing_to_do(tmp_path, fakes, loaded):
    assert warmed(tmp_path, fakes, loaded) is loaded
    assert not loaded.rows


def test_a_record_that_fails_fails_the_load_by_its_number(version, fakes, loaded):
    directory = version(predict_record(1.0), predict_record(float("nan")))

    with pytest.raises(InvalidArgument, match=r"tf_serving_warmup_requests: warm-up record 1: x is not a number$"):
        warmed(directory, fakes, loaded)

    assert loaded.is_closed


def test_a_record_for_a_signature_that_is_gone_says_so(version, fakes, loaded):
    with pytest.raises(FailedPrecondition, match='record 0: Serving signature key "old" not found'):
        warmed(version(predict_record(1.0, signature_name="old")), fakes, loaded)


def test_a_record_that_is_no_prediction_log_fails_the_load(version, fakes, loaded):
    with pytest.raises(InvalidArgument, match="record 0: Failed to parse warmup record"):
        warmed(version(b"\xff\xff"), fakes, loaded)


def test_a_kind_of_record_we_cannot_replay_fails_the_load(version, fakes, loaded):
    log = messages.PredictionLog()
    log.session_run_log.SetInParent()

    with pytest.raises(Unimplemented, match="Unsupported log_type for warmup: session_run_log"):
        warmed(version(log.SerializeToString()), fakes, loaded)


def test_a_damaged_file_fails_the_load(version, fakes, loaded):
    path = version(predict_record(1.0)) / WARMUP_FILE
    path.write_bytes(path.read_bytes()[:-3])

    with pytest.raises(DataLoss, match="Please verify your warmup data is in TFRecord format"):
        replay(path, loaded, 1)


def test_too_many_records_are_refused(version, fakes, loaded):
    path = version(*[b""] * 1001) / WARMUP_FILE

    with pytest.raises(InvalidArgument, match=r"Number of warmup records exceeds the maximum \(1000\)"):
        replay(path, loaded, 1)
