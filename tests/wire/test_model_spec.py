import pytest

from slipway_wire import messages, model_spec
from slipway_wire.model_spec import ModelSpec
from slipway_wire.status import InvalidArgument


@pytest.mark.parametrize(
    "spec",
    [
        ModelSpec("m"),
        ModelSpec("m", version=0),
        ModelSpec("m", version=2**63 - 1, signature_name="s"),
        ModelSpec("m", label="stable"),
    ],
)
def test_a_spec_comes_back_as_it_was(spec):
    assert model_spec.from_proto(model_spec.to_proto(spec)) == spec


def test_version_zero_is_a_version():
    assert model_spec.to_proto(ModelSpec("m", version=0)).WhichOneof("version_choice") == "version"


def test_an_empty_signature_name_means_serving_default():
    assert (ModelSpec("m").signature_key, ModelSpec("m", signature_name="s").signature_key) == ("serving_default", "s")


@pytest.mark.parametrize("kind", [messages.PredictRequest, messages.ClassificationRequest, messages.RegressionRequest])
@pytest.mark.parametrize("named", [ModelSpec("m", label="stable"), ModelSpec("m", version=3), ModelSpec("m")])
def test_a_request_names_another_instead(kind, named):
    request = kind(model_spec=model_spec.to_proto(named))
    if kind is messages.PredictRequest:
        request.output_filter.append("y")
    else:
        request.input.example_list.examples.add()
    served = ModelSpec("m", version=7, signature_name="s")

    changed = kind.FromString(model_spec.instead(request.SerializeToString(), served))

    assert model_spec.from_request(changed) == served
    changed.ClearField("model_spec")
    request.ClearField("model_spec")
    assert changed == request


def test_a_request_without_a_model_is_refused_in_tf_servings_words():
    with pytest.raises(InvalidArgument, match=r"^Missing ModelSpec$"):
        model_spec.from_request(messages.PredictRequest())
    with pytest.raises(InvalidArgument, match=r"^ModelSpec has no name specified\.$"):
        model_spec.from_request(messages.PredictRequest(model_spec=messages.ModelSpec(signature_name="s")))
