import json

import numpy as np
import pytest

from slipway_wire import payloads, predict, tfrecord, warmup_log
from slipway_wire.json_predict import encode_response
from slipway_wire.status import DataLoss, InvalidArgument

IMAGE = np.linspace(0, 1, 12, dtype=np.float32).reshape(2, 6)
ANSWER = {"scores": np.array([[0.1, 0.9], [1.0, 0.0]], np.float32), "label": np.array([1, 0])}


def made(**more):
    return payloads.make("m", {"image": IMAGE}, ANSWER, version=3, **more)


def test_both_protocols_carry_the_same_bits():
    payload = made(signature_name="other")

    body = json.loads(payload.rest_body)
    over_grpc = predict.decode_request(payload.grpc_message)

    assert payload.rest_path == "/v1/models/m/versions/3:predict"
    assert body["signature_name"] == over_grpc.spec.signature_name == "other"
    np.testing.assert_array_equal(np.array(body["instances"], np.float32), IMAGE)
    np.testing.assert_array_equal(over_grpc.inputs["image"], IMAGE)
    assert over_grpc.spec.version == 3
    assert payload.rows == 2


def test_a_file_gives_back_what_was_written(tmp_path):
    sent = [made(), payloads.make("m", {"a": np.array([1]), "b": np.array([b"x\xff"], object)}, None)]
    (tmp_path / "p").write_bytes(payloads.encode(sent))

    found = payloads.read(tmp_path / "p")

    assert [p.rest_body for p in found] == [p.rest_body for p in sent]
    assert [p.grpc_message for p in found] == [p.grpc_message for p in sent]
    assert found[1].expected is None
    for name, array in ANSWER.items():
        np.testing.assert_array_equal(found[0].expected[name], array)
        assert found[0].expected[name].dtype == array.dtype
    assert payloads.encode(found) == payloads.encode(sent)


def test_warm_up_records_are_payloads_without_answers(tmp_path):
    """So is any request log of TF Serving."""
    record = warmup_log.encode("predict", predict.encode_request("m", {"x": np.array([1.0, 2.0], np.float32)}))
    (tmp_path / "p").write_bytes(tfrecord.frame_all([record]))

    (payload,) = payloads.read(tmp_path / "p")

    assert payload.expected is None
    assert payload.rest_body == b'{"instances":[1.0,2.0]}'
    assert payload.rest_path == "/v1/models/m:predict"


def test_answers_are_read_alike_from_both_protocols():
    payload = made()
    over_rest = payloads.decode_rest_answer(payload, encode_response(ANSWER, row_format=True))
    over_grpc = payloads.decode_grpc_answer(payload, predict.encode_response(payload.spec, ANSWER))

    for name, array in ANSWER.items():
        for found in (over_rest[name], over_grpc[name]):
            np.testing.assert_array_equal(found, array)
            assert found.dtype == array.dtype


def test_a_single_output_comes_without_its_name_over_rest():
    payload = payloads.make("m", {"x": IMAGE}, {"y": np.array([1.5], np.float32)})

    found = payloads.decode_rest_answer(payload, b'{"predictions":[1.5]}')

    assert found["y"].dtype == np.float32
    assert found["y"].tolist() == [1.5]


@pytest.mark.parametrize(
    ("content", "error", "complaint"),
    [
        (b"", InvalidArgument, "no records"),
        (b"\x01\x02", DataLoss, "truncated"),
        (tfrecord.frame(b"\xff"), InvalidArgument, "record 0: not a PredictionLog"),
        (tfrecord.frame(b""), InvalidArgument, "expected a predict_log, classify_log, regress_log, got None"),
    ],
)
def test_what_is_no_payload_file_is_refused(tmp_path, content, error, complaint):
    (tmp_path / "p").write_bytes(content)

    with pytest.raises(error, match=complaint):
        payloads.read(tmp_path / "p")
