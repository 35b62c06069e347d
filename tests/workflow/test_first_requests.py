import sys
from pathlib import Path

import numpy as np
import pytest
from tests.workflow.warmup_factory import classify_record, example, predict_record, write_log

from slipway import first_requests, servers
from slipway.errors import InvalidMeasurement, SourceError
from slipway.first_requests import MAX_MESSAGE_BYTES, questions
from slipway.servers import ServerSpec, running_server
from slipway.settings import LaunchSettings
from slipway_wire import inference, json_examples, json_predict, predict, warmup_log
from slipway_wire.signatures import PREDICT, Signature, TensorSpec

NULL_SERVER = Path(__file__).with_name("null_server.py")
X = np.linspace(0, 1, 12, dtype=np.float32).reshape(4, 3)


@pytest.fixture
def servable(tmp_path):
    """Write warm-up records for version 1 of the model m."""

    def write(*records):
        (tmp_path / "m/1/assets.extra").mkdir(parents=True)
        write_log(tmp_path / "m/1" / warmup_log.WARMUP_FILE, *records)
        return tmp_path / "m/1"

    return write


@pytest.fixture
def run_server(monkeypatch, tmp_path):
    """Run the server of nothing but half_plus_two for a block."""

    def run(mischief="nothing@0"):
        argv = [sys.executable, str(NULL_SERVER), mischief]
        monkeypatch.setattr(servers, "_process_argv", lambda _spec, flags, _cleanup: [*argv, *flags])
        spec = ServerSpec("m", None, None, tmp_path / "m", LaunchSettings(ready_timeout_s=120, stop_timeout_s=30))
        return running_server(spec, log=tmp_path / "log")

    return run


def test_every_record_is_a_request_in_both_protocols(servable):
    """Whatever model and version it was recorded of: it asks for the one that is measured."""
    examples = [example(x=[0.25, 0.5]), example(x=[0.0, 1.0])]
    place = servable(predict_record({"x": X}, model="other", version=7), classify_record(examples))

    (one, two), left_out = questions(place, "m", 3)

    assert left_out == 0
    assert (one.signature, one.rows, one.rest_path) == ("serving_default", 4, "/v1/models/m/versions/3:predict")
    asked = predict.decode_request(one.grpc_message)
    assert (asked.spec.name, asked.spec.version) == ("m", 3)
    spec = TensorSpec("x", predict.tensors.dtypes.FLOAT, (None, 3), "x:0")
    signature = Signature("serving_default", PREDICT, {"x": spec}, {})
    np.testing.assert_array_equal(json_predict.parse_request(one.rest_body).inputs(signature)["x"], asked.inputs["x"])
    assert (two.signature, two.rows, two.rest_path) == ("classify", 2, "/v1/models/m/versions/3:classify")
    assert inference.decode_classify_request(two.grpc_message).examples == examples
    assert json_examples.decode_request(two.rest_body).examples == examples


def test_records_that_are_no_requests_here_are_counted(servable):
    large = predict_record({"x": np.zeros((MAX_MESSAGE_BYTES // 4,), np.float32)})
    unsaid = predict_record({"x": np.zeros((1, 2), np.uint16)})

    assert questions(servable(large, unsaid, b""), "m", 1) == ([], 3)


def test_a_servable_without_records_is_asked_nothing(tmp_path):
    assert questions(tmp_path, "m", 1) == ([], 0)


def test_damaged_records_are_told(servable):
    place = servable()
    (place / warmup_log.WARMUP_FILE).write_bytes(b"cut")

    with pytest.raises(SourceError, match=r"requests: record 0 at byte 0: truncated: .*Run `slipway warmup` again"):
        questions(place, "m", 1)


def test_each_is_sent_several_times_over_either_protocol(servable, run_server):
    place = servable(predict_record({"x": X[:1]}), predict_record({"x": X}))
    asked, _ = questions(place, "m", 1)

    with run_server() as server:
        for protocol in ("rest", "grpc"):
            found = first_requests.measure(server, protocol, asked)

            assert [(one.signature, one.rows) for one in found] == [("serving_default", 1), ("serving_default", 4)]
            assert all(1 <= len(one.later_us) <= 9 for one in found)
            assert all(min(one.first_us, *one.later_us) > 0 for one in found)


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_an_answer_that_is_an_error_is_no_measurement(servable, run_server, protocol):
    asked, _ = questions(servable(predict_record({"x": X[:2]})), "m", 1)

    with (
        run_server("refuses@2") as server,
        pytest.raises(
            InvalidMeasurement, match=r"serving_default with 2 rows: expected an answer, found .*queue is full"
        ),
    ):
        first_requests.measure(server, protocol, asked)
