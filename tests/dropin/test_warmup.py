"""Warm-up files: the counter shows how often records were replayed, before any request."""

import numpy as np
import pytest

from slipway_wire import messages, model_status, paths


def status_of(server, model, version):
    request = model_status.encode_request(model, version=version)
    answer = messages.GetModelStatusResponse.FromString(server.call(paths.GRPC_GET_MODEL_STATUS, request))
    (one,) = answer.model_version_status
    return one


@pytest.mark.behaviour("9-records", "1.3-num_request_iterations_for_warmup")
def test_records_are_replayed_in_order_before_the_first_request(server):
    """incr, incr_by 5, get: three times each, one after the other."""
    assert server.predict("warmed", {}, signature_name="get_counter")[1] == {"output": 18.0}


@pytest.mark.behaviour("9-off", "1.3-enable_model_warmup")
def test_without_warm_up(moving):
    assert moving.predict("warmed", {}, signature_name="get_counter")[1] == {"output": 0.0}


@pytest.mark.behaviour("9-records", "10.2-warmup-metrics")
def test_classify_regress_and_multi_inference_records(server, fleet):
    """Of the model `warmed_examples`: a record of each kind, and one without a log, which does nothing."""
    assert server.states("warmed_examples") == {1: "AVAILABLE"}
    path = f'model_path="{fleet.models}/warmed_examples/1",status="OK"'
    assert server.metric(f":tensorflow:serving:model_warmup_records_read{{{path}") > 0
    assert server.metric(f":tensorflow:serving:model_warmup_latency_count{{{path}") >= 1


# Version of the model `badly_warmed` -> behaviour, code, part of the message.
FAILED = {
    2: ("9-failure", "FAILED_PRECONDITION", "S"),
    3: ("9-failure", "INVALID_ARGUMENT", "Failed to parse warmup record: "),
    4: ("9-damaged", "DATA_LOSS", "Please verify your warmup data is in TFRecord format."),
    5: ("9-unsupported", "UNIMPLEMENTED", "Unsupported log_type for warmup: "),
    6: ("9-too-many", "INVALID_ARGUMENT", "Number of warmup records exceeds the maximum (1000) at "),
}


@pytest.mark.behaviour("9-failure", "9-damaged", "9-unsupported", "9-too-many", "5.7-failed-load")
@pytest.mark.parametrize("version", FAILED)
def test_a_failure_fails_the_load(server, version):
    _, code, message = FAILED[version]

    found = status_of(server, "badly_warmed", version)

    assert found.state == 50
    assert message in found.status.error_message
    assert found.status.error_code == {
        "FAILED_PRECONDITION": 9, "INVALID_ARGUMENT": 3, "DATA_LOSS": 15, "UNIMPLEMENTED": 12,
    }[code]  # fmt: skip
    assert server.predict("badly_warmed", {"x": np.float32([1])})[1] == {"y": [1.5]}
