"""TF Serving's own client package against us: its stubs, its messages, tf.make_tensor_proto."""

import pytest


def spec(name="half_plus_two", **more):
    return {"model_spec": {"name": name, **more}}


def examples(*values):
    return {
        "example_list": {"examples": [{"features": {"feature": {"x": {"float_list": {"value": [v]}}}}} for v in values]}
    }


@pytest.mark.behaviour("5.0-services", "5.2-tensor-out", "5.1-effective")
def test_predict(server, official):
    outcome = official.call(server, "Predict", {**spec(version=123), "tensors": {"x": [[[1.0], [3.0]], "float32"]}})

    assert outcome["code"] == "OK", outcome
    assert outcome["arrays"] == {"y": [[2.5], [3.5]]}
    assert outcome["response"]["outputs"]["y"]["float_val"] == [2.5, 3.5]
    assert outcome["response"]["model_spec"] == {
        "name": "half_plus_two",
        "version": "123",
        "signature_name": "serving_default",
    }


@pytest.mark.behaviour("5.0-services")
def test_errors_keep_their_code_and_text(server, official):
    outcome = official.call(server, "Predict", {**spec("nope"), "tensors": {"x": [[1.0], "float32"]}})

    assert outcome == {"code": "NOT_FOUND", "details": "Servable not found for request: Latest(nope)"}


@pytest.mark.behaviour("5.0-services", "5.4-classify", "5.4-regress")
def test_classify_and_regress(server, official):
    classified = official.call(
        server, "Classify", {**spec(signature_name="classify_x_to_y"), "input": examples(2.0, 4.0)}
    )
    regressed = official.call(server, "Regress", {**spec(signature_name="regress_x_to_y"), "input": examples(2.0, 4.0)})

    assert [one["classes"] for one in classified["response"]["result"]["classifications"]] == [
        [{"score": 3.0}],
        [{"score": 4.0}],
    ]
    assert [one["value"] for one in regressed["response"]["result"]["regressions"]] == [3.0, 4.0]


@pytest.mark.behaviour("5.0-services", "5.5-results")
def test_multi_inference(server, official):
    task = [
        {**spec(signature_name=f"{verb}_x_to_y"), "method_name": f"tensorflow/serving/{verb}"}
        for verb in ("regress", "classify")
    ]

    outcome = official.call(server, "MultiInference", {"tasks": task, "input": examples(2.0)})

    assert outcome["code"] == "OK", outcome
    regressed, classified = outcome["response"]["results"]
    assert regressed["regression_result"] == {"regressions": [{"value": 3.0}]}
    assert classified["classification_result"] == {"classifications": [{"classes": [{"score": 3.0}]}]}
    assert classified["model_spec"]["signature_name"] == "classify_x_to_y"


@pytest.mark.behaviour("5.0-services", "5.6-answer", "5.7-answer")
def test_metadata_and_status(server, official):
    metadata = official.call(server, "GetModelMetadata", {**spec(), "metadata_field": ["signature_def"]})
    status = official.call(server, "GetModelStatus", spec())

    signatures = metadata["response"]["metadata"]["signature_def"]["signature_def"]
    assert signatures["serving_default"]["inputs"]["x"]["dtype"] == "DT_FLOAT"
    assert [one["version"] for one in status["response"]["model_version_status"]] == ["124", "123"]


@pytest.mark.behaviour("10.6-profiler", "1.3-enable_profiler")
def test_the_profiler_traces(server, official):
    """As in TF Serving's suite; something must happen meanwhile, or there is nothing to trace."""
    outcome = official.ask(trace=f"127.0.0.1:{server.grpc_port}", duration_ms=300)

    assert [name for name in outcome.get("files", ()) if name.endswith(".xplane.pb")], outcome
