import numpy as np
import pytest

from slipway_server.transports import message_codecs
from slipway_wire import messages, predict
from slipway_wire.model_spec import ModelSpec
from slipway_wire.status import InvalidArgument

SERVED = ModelSpec("m", version=7, signature_name="s")


@pytest.mark.parametrize(("missing", "is_large"), [(1, False), (0, True)])
def test_all_outputs_together_make_an_answer_large(missing, is_large):
    half = message_codecs.LARGE_BYTES // 2
    outputs = {"a": np.zeros(half, np.uint8), "b": np.zeros(half - missing, np.uint8)}

    assert message_codecs.is_large(outputs) is is_large


def test_a_request_is_read_for_the_signatures_that_serve(fakes):
    signatures = fakes.HalfPlusTwo().signatures

    call = message_codecs.predict_body(predict.encode_request("m", {"x": np.float32([1.0])}), signatures)

    assert (call.signature, call.inputs["x"].tolist(), call.outputs) == ("serving_default", [1.0], ("y",))
    with pytest.raises(InvalidArgument, match="is not a PredictRequest"):
        message_codecs.predict_body(b"\xff", signatures)


def test_answers_over_examples_name_who_served():
    classes = {"classes": np.array([[b"a", b"b"]], object), "scores": np.float32([[0.25, 0.75]])}
    classified = messages.ClassificationResponse.FromString(message_codecs.classify_response(SERVED, classes, 1))
    values = {"outputs": np.float32([1.5, 2.5])}
    regressed = messages.RegressionResponse.FromString(message_codecs.regress_response(SERVED, values, 2))

    assert [(one.label, one.score) for one in classified.result.classifications[0].classes] == [
        ("a", 0.25),
        ("b", 0.75),
    ]
    assert [one.value for one in regressed.result.regressions] == [1.5, 2.5]
    for answer in (classified, regressed):
        spec = answer.model_spec
        assert (spec.name, spec.version.value, spec.signature_name) == ("m", 7, "s")
