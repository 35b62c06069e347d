import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_wire import messages, model_management
from slipway_wire.status import InvalidArgument

CONFIG = messages.ModelServerConfig(model_config_list={"config": [{"name": "m", "base_path": "/m"}]})


def test_a_request_comes_back_as_it_was():
    request = model_management.decode_request(model_management.encode_request(CONFIG, ("a", "b")))

    assert request.config == CONFIG
    assert request.metric_names == ("a", "b")


def test_a_response_comes_back_as_it_was_and_says_ok():
    encoded = model_management.encode_response({"a": 0, "b": 3})

    assert model_management.decode_response(encoded) == {"a": 0, "b": 3}
    response = messages.ReloadConfigResponse.FromString(encoded)
    assert response.status.error_code == 0
    assert [metric.WhichOneof("value_increase") for metric in response.metric] == ["int64_value_increase"] * 2


@pytest.mark.parametrize("decode", [model_management.decode_request, model_management.decode_response])
@given(data=st.binary(max_size=100))
def test_any_bytes_give_a_message_or_are_refused(decode, data):
    with contextlib.suppress(InvalidArgument):
        decode(data)
