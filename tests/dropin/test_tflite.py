"""TFLite models, with signatures and without."""

import numpy as np
import pytest

from slipway_wire import model_metadata, paths


@pytest.mark.behaviour("1.3-prefer_tflite_model", "5.9-without-signatures", "5.9-resized")
def test_a_model_without_signatures(rich):
    answer = rich.call(paths.GRPC_GET_MODEL_METADATA, model_metadata.encode_request("lite"))
    _, signatures = model_metadata.decode_response(answer)
    assert set(signatures) == {"serving_default"}
    (signature,) = signatures.values()
    ((name, _),) = signature.inputs.items()
    assert ":" not in name

    for rows in (1, 3, 2):
        x = np.arange(rows, dtype=np.float32).reshape(rows, 1)
        (y,) = rich.predict("lite", {name: x})[1].values()
        assert y == (x / 2 + 2).tolist()


@pytest.mark.behaviour("5.9-with-signatures", "1.3-prefer_tflite_model")
def test_a_model_with_signatures(rich):
    answer = rich.call(paths.GRPC_GET_MODEL_METADATA, model_metadata.encode_request("lite_with_signatures"))
    _, signatures = model_metadata.decode_response(answer)

    assert "serving_default" in signatures
    assert rich.ask("lite_with_signatures:predict", {"instances": [[2.0], [4.0]]})[0] == 200
    x = np.float32([[2.0], [4.0]])
    assert list(rich.predict("lite_with_signatures", {"x": x})[1].values()) == [[[3.0], [4.0]]]


@pytest.mark.behaviour("1.3-prefer_tflite_model", "1.3-tensorflow_session_config_file")
def test_where_there_is_no_tflite_file_the_saved_model_is_served(rich):
    """And sessions are made from a ConfigProto of the user's."""
    assert rich.predict("half_plus_two", {"x": np.float32([1.0])})[1] == {"y": [2.5]}
