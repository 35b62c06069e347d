"""Versions, transitions, labels, the model configuration: everything that changes while the server runs."""

import shutil
import threading

import grpc
import numpy as np
import pytest
from tests.dropin import saved_models
from tests.dropin.processes import wait_for

from slipway_wire import messages, model_status, paths

X = {"x": np.float32([2.0])}


def answer(server, model, **options):
    """Give version and value of a model `y = x / 2 + constant` at 2, or the gRPC code."""
    try:
        spec, outputs = server.predict(model, X, **options)
    except grpc.RpcError as error:
        return error.code().name
    return spec.version, outputs["y"][0]


@pytest.mark.behaviour("7.1-directories", "7.1-policies")
def test_what_counts_as_a_version(server):
    """`odd` has 00000007, 0, a timestamp, and names that are none."""
    assert server.states("odd") == dict.fromkeys([20170111173521, 7, 0], "AVAILABLE")
    assert answer(server, "odd") == (20170111173521, 4.0)
    assert answer(server, "odd", version=0) == (0, 2.0)
    assert server.ask("odd/versions/7:predict", {"instances": [2.0]}) == (200, {"predictions": [3.0]})


@pytest.mark.behaviour("7.1-policies", "7.1-specific-missing")
def test_policies_choose(server):
    assert server.states("odd_default") == {20170111173521: "AVAILABLE"}
    assert server.states("odd_none") == {20170111173521: "AVAILABLE"}
    assert server.states("odd_latest") == dict.fromkeys([20170111173521, 7], "AVAILABLE")
    # Of 123, 124 and 999 only two are there.
    assert server.states("half_plus_two") == dict.fromkeys([124, 123], "AVAILABLE")


@pytest.mark.behaviour("7.4-errors", "7.4-states", "5.7-failed-load", "3.5-status-ended")
def test_versions_that_cannot_be_loaded(server):
    """`failing`: 1 is good; 2 has other tags, 3 an op nobody knows, 4 no variables."""
    assert server.states("failing") == {4: "END", 3: "END", 2: "END", 1: "AVAILABLE"}
    found = server.ask("failing", method="GET")[1]["model_version_status"]
    messages_of = {int(one["version"]): one["status"]["error_message"] for one in found}
    assert "other" in messages_of[2]
    assert "NoSuchOp" in messages_of[3]
    assert "variables" in messages_of[4]
    codes = {int(one["version"]): one["status"]["error_code"] for one in found}
    assert codes[2] == "NOT_FOUND"
    assert codes[1] == "OK"
    assert all(code != "OK" for version, code in codes.items() if version != 1)
    answer_ = server.call(paths.GRPC_GET_MODEL_STATUS, model_status.encode_request("failing", version=2))
    (one,) = messages.GetModelStatusResponse.FromString(answer_).model_version_status
    assert (one.state, one.status.error_code) == (50, 5)
    assert answer(server, "failing") == (1, 2.0)
    assert answer(server, "failing", version=3) == "NOT_FOUND"


@pytest.mark.behaviour("6.1-text")
def test_the_text_format_is_taken_as_people_write_it(server):
    """Commas, colons before braces and single quotes stand in the file of this server."""
    assert server.states("quoted") == {1: "AVAILABLE"}


@pytest.mark.behaviour(
    "7.2-new-version", "7.3-availability", "3.5-status-ended", "7.5-not-found", "1.3-file_system_poll_wait_seconds"
)
def test_a_new_version_takes_over_without_a_failed_request(moving, fleet):
    asked, done = [], threading.Event()

    def ask():
        while not done.is_set():
            asked.append(answer(moving, "rolling"))

    asker = threading.Thread(target=ask)
    asker.start()
    try:
        staging = saved_models.half_plus(2.0).write(fleet.models / "staging")
        wait_for(lambda: asked, "the first answer")
        staging.rename(fleet.rolling / "2")
        wait_for(lambda: moving.states("rolling") == {2: "AVAILABLE", 1: "END"}, "version 2")
        wait_for(lambda: asked[-1] == (2, 3.0), "an answer of version 2")
    finally:
        done.set()
        asker.join()

    assert set(asked) == {(1, 2.0), (2, 3.0)}
    assert answer(moving, "rolling", version=1) == "NOT_FOUND"
    assert moving.ask("rolling/versions/1:predict", {"instances": [2.0]}) == (
        404,
        {"error": "Servable not found for request: Specific(rolling, 1)"},
    )


@pytest.mark.behaviour("7.3-failed-new", "7.4-states", "7.2-in-place")
def test_a_new_version_that_fails_leaves_the_old_one(moving, fleet):
    """And it is tried again when somebody mends it."""
    base_path = fleet.models / "failing_later"
    bad = fleet.models / "bad"
    bad.mkdir()
    (bad / "saved_model.pb").write_bytes(b"\xff no SavedModel")
    bad.rename(base_path / "2")
    wait_for(lambda: moving.states("failing_later") == {2: "END", 1: "AVAILABLE"}, "version 2 to fail")
    assert answer(moving, "failing_later") == (1, 2.0)
    (status,) = moving.ask("failing_later/versions/2", method="GET")[1]["model_version_status"]
    assert status["status"]["error_code"] != "OK"

    good = saved_models.half_plus(5.0).write(fleet.models / "good")
    (good / "saved_model.pb").replace(base_path / "2" / "saved_model.pb")
    wait_for(lambda: moving.states("failing_later") == {2: "AVAILABLE", 1: "END"}, "version 2 to be tried again")
    assert answer(moving, "failing_later") == (2, 6.0)


@pytest.mark.behaviour("7.2-missing-base-path", "7.2-no-versions")
def test_a_base_path_that_vanishes_changes_nothing_but_an_empty_one_unloads(moving, fleet):
    """That the server has looked, another model shows: one missing path holds up no other."""
    vanishing, witness = fleet.models / "vanishing", fleet.models / "witness"
    vanishing.rename(fleet.models / "vanished")
    for version in (2, 3):
        saved_models.half_plus(float(version)).write(fleet.models / f"witness{version}").rename(witness / str(version))
        wait_for(lambda version=version: moving.states("witness").get(version) == "AVAILABLE", "the witness")
    assert answer(moving, "vanishing") == (1, 2.0)

    (fleet.models / "vanished").rename(vanishing)
    shutil.rmtree(vanishing / "1")
    wait_for(lambda: moving.states("vanishing") == {1: "END"}, "the model to be unloaded")
    assert answer(moving, "vanishing") == "NOT_FOUND"
    assert moving.ask("vanishing:predict", {"instances": [2.0]}) == (
        404,
        {"error": "Servable not found for request: Latest(vanishing)"},
    )


@pytest.mark.behaviour("7.5-requests-finish", "7.5-not-found")
def test_unloading_waits_for_the_requests_of_that_version(moving, fleet, hold):
    base_path = fleet.models / "held"
    held = hold(moving, "held")
    saved_models.gated(fleet.models / "held2").rename(base_path / "2")
    wait_for(lambda: moving.states("held") == {2: "AVAILABLE", 1: "UNLOADING"}, "version 1 to be on its way out")
    assert answer(moving, "held") == (2, 2.0)
    assert answer(moving, "held", version=1) == "NOT_FOUND"
    # One slow request holds up its own version only.
    saved_models.half_plus(7.0).write(fleet.models / "free").rename(fleet.models / "unhindered" / "2")
    wait_for(lambda: moving.states("unhindered") == {2: "AVAILABLE", 1: "END"}, "another model to move on")

    assert moving.states("held")[1] == "UNLOADING"
    assert held.release() == 1
    wait_for(lambda: moving.states("held") == {2: "AVAILABLE", 1: "END"}, "version 1 to be freed")


@pytest.mark.behaviour("1.3-file_system_poll_wait_seconds")
def test_without_polling_a_new_version_is_not_seen(bare, fleet, moving):
    """`bare` looks once; that time has passed, a server that polls shows."""
    saved_models.half_plus(3.0, tag="other").write(fleet.models / "bare2").rename(fleet.models / "bare" / "2")
    once = fleet.models / "polled"
    saved_models.half_plus(3.0).write(fleet.models / "polled2").rename(once / "2")
    wait_for(lambda: moving.states("polled").get(2) == "AVAILABLE", "the server that polls")

    assert bare.states("bare") == {1: "AVAILABLE"}
