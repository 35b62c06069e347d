import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_wire import messages, model_status
from slipway_wire.model_spec import ModelSpec
from slipway_wire.model_status import VersionStatus
from slipway_wire.status import Code, InvalidArgument, WireError

STATES = ["UNKNOWN", "START", "LOADING", "AVAILABLE", "UNLOADING", "END"]
VERSIONS = st.lists(
    st.builds(
        VersionStatus,
        st.integers(0, 2**63 - 1),
        st.sampled_from(STATES),
        st.sampled_from(list(Code)),
        st.text(max_size=20),
    ),
    max_size=3,
)


@given(VERSIONS)
def test_a_status_comes_back_as_it_was(versions):
    assert model_status.decode_response(model_status.encode_response(versions)) == versions
    assert model_status.decode_json(model_status.encode_json(versions)) == versions


def test_the_json_form_is_tf_servings():
    """Scripts and health checks grep it: every field is there, versions are strings, one space of indentation."""
    assert (
        model_status.encode_json([VersionStatus(123, "AVAILABLE")]).decode()
        == """{
 "model_version_status": [
  {
   "version": "123",
   "state": "AVAILABLE",
   "status": {
    "error_code": "OK",
    "error_message": ""
   }
  }
 ]
}"""
    )


def test_no_versions_are_an_empty_list():
    assert json.loads(model_status.encode_json([])) == {"model_version_status": []}


def test_states_have_tf_servings_numbers():
    (entry,) = messages.GetModelStatusResponse.FromString(
        model_status.encode_response([VersionStatus(1, "END", Code.INTERNAL, "why")])
    ).model_version_status

    assert (entry.state, entry.status.error_code, entry.status.error_message) == (50, 13, "why")


def test_a_request_comes_back_as_it_was():
    assert model_status.decode_request(model_status.encode_request("m", version=3)) == ModelSpec("m", version=3)
    with pytest.raises(InvalidArgument, match="Missing ModelSpec"):
        model_status.decode_request(b"")


def test_states_and_codes_of_a_later_server_do_not_break_the_client():
    serialized = messages.GetModelStatusResponse(
        model_version_status=[
            messages.ModelVersionStatus(version=1, state=77, status=messages.StatusProto(error_code=99))
        ]
    ).SerializeToString()

    assert model_status.decode_response(serialized) == [VersionStatus(1, "UNKNOWN", Code.UNKNOWN)]
    assert model_status.decode_json(b'{"model_version_status": [{"version": "1", "new": 1}]}') == [
        VersionStatus(1, "UNKNOWN")
    ]


@given(st.binary(max_size=60) | st.sampled_from([b"[]", b"1", b'{"model_version_status": 1}', b'{"error": "no"}']))
def test_any_bytes_give_a_status_or_a_wire_error(data):
    for decode in (model_status.decode_response, model_status.decode_json, model_status.decode_request):
        with contextlib.suppress(WireError):
            decode(data)
