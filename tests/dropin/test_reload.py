"""The configuration that changes: HandleReloadConfigRequest, the file that is read again, labels that move."""

import threading

import grpc
import numpy as np
import pytest
from tests.dropin import saved_models
from tests.dropin.processes import wait_for

from slipway_wire import messages, paths

X = {"x": np.float32([2.0])}


def answer(server, model, **options):
    """Give version and value of a model `y = x / 2 + constant` at 2, or the gRPC code."""
    try:
        spec, outputs = server.predict(model, X, **options)
    except grpc.RpcError as error:
        return error.code().name
    return spec.version, outputs["y"][0]


def reload_request(*configs, metrics=()):
    """Make a ReloadConfigRequest of (name, base path, {label: version}, versions)."""
    request = messages.ReloadConfigRequest(metric_names=metrics)
    request.config.model_config_list.SetInParent()
    for name, base_path, *more in configs:
        config = request.config.model_config_list.config.add(
            name=name, base_path=str(base_path), model_platform="tensorflow"
        )
        labels, versions = (*more, {}, ())[:2]
        for label, version in labels.items():
            config.version_labels[label] = version
        if versions:
            config.model_version_policy.specific.versions.extend(versions)
    return request


def base(fleet):
    """Make the request that brings the configuration back which each test begins with."""
    return reload_request(("a", fleet.models / "a", {}, (1, 2)))


@pytest.fixture(scope="module")
def without_models(fleet):
    """The server as it is before anything was reloaded: its states then, by model."""
    server = fleet.reloaded.wait_until_ready()
    return {model: answer(server, model) for model in ("ignored", "a", "b")}


@pytest.fixture(scope="module")
def reloaded(fleet, without_models):
    """The server of this module: two versions of one model, which the configuration chooses from."""
    fleet.reloaded.call(paths.GRPC_RELOAD_CONFIG, base(fleet))
    return fleet.reloaded


@pytest.fixture
def reload(fleet, reloaded):
    """`reload(*configs)` asks for a new configuration; the file's own comes back at the end."""

    def send(*configs, metrics=()):
        answer_ = reloaded.call(paths.GRPC_RELOAD_CONFIG, reload_request(*configs, metrics=metrics))
        return messages.ReloadConfigResponse.FromString(answer_)

    yield send
    reloaded.call(paths.GRPC_RELOAD_CONFIG, base(fleet))


@pytest.mark.behaviour("5.8-replaces", "5.8-file-untouched")
def test_the_new_list_replaces_the_old_one(reloaded, reload, fleet):
    """When the call returns, the new model serves; what is not in the list goes."""
    before = fleet.reloaded_config.read_text()

    reload(("b", fleet.models / "b"))

    assert answer(reloaded, "b") == (1, 6.0)
    wait_for(lambda: answer(reloaded, "a") == "NOT_FOUND", "the old model to go")
    assert fleet.reloaded_config.read_text() == before


@pytest.mark.behaviour("5.8-unsupported")
@pytest.mark.parametrize("serialized", [b"", b"\x0a\x00", b"\x0a\x02\x12\x00"], ids=["empty", "no list", "custom"])
def test_only_lists_can_be_reloaded(reloaded, serialized):
    code, details = reloaded.refusal(paths.GRPC_RELOAD_CONFIG, serialized)

    assert code in {"INVALID_ARGUMENT", "FAILED_PRECONDITION"}
    if code == "INVALID_ARGUMENT":
        assert "ServerModelConfig type not supported by HandleReloadConfigRequest." in details
    assert answer(reloaded, "a") == (2, 3.0)


@pytest.mark.behaviour("5.8-failed-model")
def test_a_new_model_that_fails_is_told_and_the_rest_is_in_force(reloaded, reload, fleet):
    (fleet.models / "cannot" / "1").mkdir(parents=True, exist_ok=True)
    (fleet.models / "cannot" / "1" / "saved_model.pb").write_bytes(b"\xff")
    request = reload_request(("cannot", fleet.models / "cannot"), ("b", fleet.models / "b"))

    code, details = reloaded.refusal(paths.GRPC_RELOAD_CONFIG, request)

    assert code == "UNKNOWN"
    assert "1 model(s) did not become available: {" in details
    assert "cannot" in details
    assert answer(reloaded, "b") == (1, 6.0)


@pytest.mark.behaviour("5.8-metric-deltas")
def test_how_much_metrics_rose_is_told(reloaded, reload, fleet):
    name = "/tensorflow/cc/saved_model/load_attempt_count"

    response = reload(("a", fleet.models / "a", {}, (1, 2)), ("b", fleet.models / "b"), metrics=[name])

    assert [one.name for one in response.metric] == [name]
    assert response.metric[0].int64_value_increase >= 1


# name -> configs (with {models} for the directory), code, part of the message
REFUSED = {
    "twice": ([("a", "{models}/a"), ("a", "{models}/a")], "Illegal to list model a multiple times in config list"),
    "relative": ([("a", "here")], "Expected model a to have an absolute path or URI; got base_path()=here"),
    "label": (
        [("a", "{models}/a", {"stable": 9}, (1, 2))],
        "Request to assign label to version 9 of model a, which is not currently available for inference",
    ),
}


@pytest.mark.behaviour("6.2-atomic", "6.4-unavailable", "6.2-duplicate-name", "6.2-relative-path")
@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_configuration_changes_nothing(reloaded, fleet, name):
    configs, message = REFUSED[name]
    placed = [(model, base_path.format(models=fleet.models), *more) for model, base_path, *more in configs]
    # A new model stands in front of what is wrong.
    request = reload_request(("b", fleet.models / "b"), *placed)

    code, details = reloaded.refusal(paths.GRPC_RELOAD_CONFIG, request)

    assert code == ("FAILED_PRECONDITION" if name == "label" else "INVALID_ARGUMENT")
    assert message in details
    assert answer(reloaded, "a") == (2, 3.0)
    assert answer(reloaded, "b") == "NOT_FOUND"


@pytest.mark.behaviour("6.2-platform-change")
def test_the_platform_cannot_change(reloaded, fleet):
    request = reload_request(("a", fleet.models / "a"))
    request.config.model_config_list.config[0].model_platform = "other"

    code, details = reloaded.refusal(paths.GRPC_RELOAD_CONFIG, request)

    assert code == "INVALID_ARGUMENT"
    assert "Illegal to change a model's platform." in details or "requests unsupported platform other" in details


@pytest.mark.behaviour("6.4-move", "6.4-several")
def test_a_label_moves_under_load_without_a_failed_request(reloaded, reload, fleet):
    def labelled(version):
        return ("a", fleet.models / "a", {"stable": version, "same": version}, (1, 2))

    reload(labelled(1))
    assert answer(reloaded, "a", label="stable") == answer(reloaded, "a", label="same") == (1, 2.0)
    asked, done = [], threading.Event()

    def ask():
        while not done.is_set():
            asked.append(answer(reloaded, "a", label="stable"))

    asker = threading.Thread(target=ask)
    asker.start()
    try:
        wait_for(lambda: asked, "the first answer")
        reload(labelled(2))
        assert answer(reloaded, "a", label="stable") == (2, 3.0)
        assert reloaded.ask("a/labels/same:predict", {"instances": [2.0]}) == (200, {"predictions": [3.0]})
    finally:
        done.set()
        asker.join()
    assert set(asked) <= {(1, 2.0), (2, 3.0)}


@pytest.mark.behaviour("6.3-replaces", "6.3-bad-file", "1.3-model_config_file_poll_wait_seconds")
def test_the_file_is_read_again(moving, fleet):
    """A file that does not parse changes nothing, and the next good one counts."""
    path, before = fleet.moving_config, fleet.moving_config.read_text()
    saved_models.half_plus(8.0).write(fleet.models / "from_file" / "1")
    replace(path, "no text proto {")
    wait_for(lambda: "Error parsing text-format" in moving.stderr, "the bad file to be told")
    assert answer(moving, "rolling")[1] in {2.0, 3.0}
    replaced = before.replace('name: "polled"', 'name: "from_file"').replace(
        str(fleet.models / "polled"), str(fleet.models / "from_file")
    )
    try:
        replace(path, replaced)
        wait_for(lambda: answer(moving, "from_file") == (1, 9.0), "the new model")
        wait_for(lambda: answer(moving, "polled") == "NOT_FOUND", "the old model to go")
    finally:
        replace(path, before)
        wait_for(lambda: isinstance(answer(moving, "polled"), tuple), "the configuration as it was")


def replace(path, content):
    """Replace a file at once, as who writes configurations should."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(content)
    partial.replace(path)


@pytest.mark.behaviour("6.4-allowed", "1.3-allow_version_labels_for_unavailable_models")
def test_with_the_flag_a_label_may_come_first(moving, fleet):
    """`labelled_early` has label `next` for version 2, which comes later."""
    assert answer(moving, "labelled_early", label="next") == "NOT_FOUND"
    status, told = moving.ask("labelled_early/labels/next:predict", {"instances": [2.0]})
    assert (status, told["error"]) == (404, "Servable not found for request: Specific(labelled_early, 2)")

    saved_models.half_plus(2.0).write(fleet.models / "early").rename(fleet.models / "labelled_early" / "2")

    wait_for(lambda: answer(moving, "labelled_early", label="next") == (2, 3.0), "version 2")


@pytest.mark.behaviour("1.3-model_config_file", "6.2-empty", "5.8-replaces")
def test_a_server_without_models_takes_them_later(without_models, reloaded):
    """`model_config_list {}`; the flags for a single model do not count beside the file."""
    assert set(without_models.values()) == {"NOT_FOUND"}
    assert answer(reloaded, "a") == (2, 3.0)


@pytest.mark.behaviour("1.3-platform_config_file")
def test_with_a_platform_config_batching_is_ignored(reloaded):
    """A batcher would refuse a scalar."""
    assert reloaded.predict("a", {"x": np.float32(2)})[1] == {"y": 3.0}


@pytest.mark.behaviour("1.1-file-schemes")
def test_a_base_path_may_have_a_scheme(reloaded, reload, fleet):
    reload(("b", f"file://{fleet.models / 'b'}"))

    assert answer(reloaded, "b") == (1, 6.0)


@pytest.mark.behaviour("5.8-replaces")
def test_the_official_client_reloads(reloaded, official, fleet):
    config = {"name": "a", "base_path": str(fleet.models / "a"), "model_platform": "tensorflow"}
    config["model_version_policy"] = {"specific": {"versions": ["1", "2"]}}

    outcome = official.call(
        reloaded, "HandleReloadConfigRequest", {"config": {"model_config_list": {"config": [config]}}}
    )

    assert outcome["code"] == "OK", outcome
    assert answer(reloaded, "a", version=1) == (1, 2.0)
