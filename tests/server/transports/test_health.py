import json

import pytest

from slipway_server.transports import health


@pytest.fixture
def serving(fakes):
    return fakes.make_serving({("half/two", 1): fakes.HalfPlusTwo(), ("m", 1): fakes.HalfPlusTwo()})


def get(serving, target):
    assert health.is_health_path("GET", target)
    response = health.answer(serving, target)
    return response.status, json.loads(response.body)


def test_all_is_well(serving):
    serving, _ = serving

    for target in ("/v1/health/live", "/v1/health/ready", "/v1/health/ready/m", "/v1/health/ready/half%2Ftwo"):
        assert get(serving, target) == (200, {"status": "SERVING"})


def test_a_model_without_a_version_is_named_with_the_reason(serving):
    serving, manager = serving
    manager.aspire("m", {})

    assert get(serving, "/v1/health/live") == (200, {"status": "SERVING"})
    status, content = get(serving, "/v1/health/ready")
    assert (status, content["status"]) == (503, "NOT_SERVING")
    assert content["reason"] == "No version is available of m"
    assert content["models"] == {"m": "version 1 is END"}
    assert get(serving, "/v1/health/ready/m") == (503, content)
    assert get(serving, "/v1/health/ready/half%2Ftwo") == (200, {"status": "SERVING"})


def test_what_does_not_exist_is_told_with_what_does(serving):
    status, content = get(serving[0], "/v1/health/ready/nope")

    assert status == 404
    assert content["error"] == (
        "Nothing is known of /v1/health/ready/nope; there are /v1/health/live, /v1/health/ready, "
        "/v1/health/ready/half/two, /v1/health/ready/m"
    )
    assert get(serving[0], "/v1/health/nope")[0] == 404


def test_a_server_that_is_about_to_end_is_not_ready_and_still_answers(serving, fakes):
    serving, _ = serving
    serving.leave_soon()

    shutting_down = (503, {"status": "NOT_SERVING", "reason": "The server is shutting down"})
    assert get(serving, "/v1/health/ready") == get(serving, "/v1/health/ready/m") == shutting_down
    assert get(serving, "/v1/health/live")[0] == 200
    with serving.exchange("rest", "Predict"):
        pass


@pytest.mark.parametrize(("method", "target"), [("POST", "/v1/health/live"), ("GET", "/v1/models/health")])
def test_other_paths_are_none_of_its_business(method, target):
    assert not health.is_health_path(method, target)
