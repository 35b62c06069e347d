"""Whose process is watched, and how a signature is called."""

import pytest
from tests.workflow.test_bench import Running

from slipway.bench import spoken, target
from slipway.errors import ServerError, SettingsError
from slipway_wire.model_spec import ModelSpec


@pytest.fixture(scope="module")
def server():
    with Running() as running:
        yield running


def test_a_named_process_is_watched(server):
    known = target.TargetServer({}, server.process.pid)

    known.check_alive()
    assert known.pids()[0] == server.process.pid
    with pytest.raises(ServerError, match="its process 999999999 is gone"):
        target.TargetServer({}, 999_999_999).check_alive()
    assert target.TargetServer({}).pids() == []


def test_a_signature_is_called_as_it_says_and_by_no_other_method_but_predict(server):
    known = target.TargetServer(spoken.find([f"127.0.0.1:{server.rest}"], None))
    found = target.find_signature(known, ModelSpec("m"), None)

    assert (found.signature.name, found.method, found.version) == ("serving_default", "predict", 1)
    with pytest.raises(
        SettingsError, match=r"^--method classify: serving_default is called by predict; .*classify: none$"
    ):
        target.find_signature(known, ModelSpec("m"), "classify")
