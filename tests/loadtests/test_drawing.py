import json

import numpy as np
import pytest
from tests.loadtests.conftest import http_server

from slipway_loadtests import drawing
from slipway_wire import dtypes, model_metadata, predict
from slipway_wire.model_spec import ModelSpec
from slipway_wire.signatures import PREDICT, Signature, TensorSpec
from slipway_wire.status import InvalidArgument


def signature(**specs):
    inputs = {name: TensorSpec(name, data_type, shape, f"{name}:0") for name, (data_type, shape) in specs.items()}
    return Signature("serving_default", PREDICT, inputs, {})


def test_drawn_values_fit_the_signature_and_repeat_with_the_seed():
    fitting = signature(
        image=(dtypes.FLOAT, (None, 8, None, 1)),
        ids=(dtypes.INT64, (None,)),
        word=(dtypes.STRING, (None, 2)),
        flag=(dtypes.BOOL, (None,)),
    )

    drawn = list(drawing.draw("m", fitting, rows=3, seed=1))

    assert len(drawn) == drawing.DISTINCT
    for payload in drawn:
        inputs = predict.decode_request(payload.grpc_message).inputs
        assert {name: (array.shape, array.dtype) for name, array in inputs.items()} == {
            "image": ((3, 8, 1, 1), np.float32),
            "ids": ((3,), np.int64),
            "word": ((3, 2), object),
            "flag": ((3,), bool),
        }
        assert len(json.loads(payload.rest_body)["instances"]) == 3
        assert payload.expected is None
    again = [payload.grpc_message for payload in drawing.draw("m", fitting, rows=3, seed=1)]
    assert again == [payload.grpc_message for payload in drawn]
    assert again != [payload.grpc_message for payload in drawing.draw("m", fitting, rows=3, seed=2)]


def test_a_type_that_nobody_can_send_is_refused():
    with pytest.raises(InvalidArgument, match="cannot be drawn"):
        list(drawing.draw("m", signature(x=(dtypes.from_name("resource"), ())), rows=1, seed=1))


def test_the_signature_is_the_servers_own():
    definition = model_metadata.messages.SignatureDef(method_name=PREDICT)
    definition.inputs["x"].dtype = 1
    metadata = model_metadata.encode_json(ModelSpec("m", 1), {"serving_default": definition})
    with http_server(lambda *_: b"", get=lambda _: metadata) as port:
        assert drawing.ask_signature("127.0.0.1", port, "m", "serving_default").inputs["x"].dtype is dtypes.FLOAT
        with pytest.raises(InvalidArgument, match="no predict signature other; there are: serving_default"):
            drawing.ask_signature("127.0.0.1", port, "m", "other")
