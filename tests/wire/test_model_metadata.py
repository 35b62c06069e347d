import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_wire import messages, model_metadata, signatures
from slipway_wire.model_spec import ModelSpec
from slipway_wire.status import InvalidArgument, WireError

SPEC = ModelSpec("default", version=123)


def definitions(directory):
    return signatures.find_meta_graph(signatures.read_saved_model(directory)).signature_def


@pytest.mark.parametrize(
    ("model", "recorded"),
    [
        ("saved_model_half_plus_two_cpu/00000123", "half_plus_two_model_metadata.json"),
        ("saved_model_half_plus_two_2_versions/00000123", "saved_model_half_plus_two_2_versions_metadata.json"),
    ],
)
def test_the_json_form_is_the_one_tf_serving_gave(model, recorded, testdata):
    expected = json.loads((testdata / recorded).read_text())
    spec = ModelSpec(expected["model_spec"]["name"], version=123)

    assert json.loads(model_metadata.encode_json(spec, definitions(testdata / model))) == expected


def test_the_json_form_is_indented_by_one_space(testdata):
    text = model_metadata.encode_json(SPEC, definitions(testdata / "matrix_half_plus_two" / "1")).decode()

    assert text.startswith('{\n "model_spec": {\n  "name": "default",\n')


@pytest.mark.parametrize("model", ["saved_model_half_plus_two_tf2_cpu/00000123", "saved_model_counter/00000123"])
def test_signatures_come_back_as_they_were(model, testdata):
    """Both forms carry all of them, those with defaults and TF2's __saved_model_init_op included."""
    found = definitions(testdata / model)
    expected = signatures.read_signatures(testdata / model)

    for spec, back in (
        model_metadata.decode_response(model_metadata.encode_response(SPEC, found)),
        model_metadata.decode_json(model_metadata.encode_json(SPEC, found)),
    ):
        assert spec == SPEC
        assert back == expected


def test_a_request_comes_back_as_it_was():
    assert model_metadata.decode_request(model_metadata.encode_request("m", label="stable")) == ModelSpec(
        "m", label="stable"
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (None, "Missing ModelSpec"),
        ([], "GetModelMetadataRequest must specify at least one metadata_field"),
        (["signature_def", "weights"], "Metadata field weights is not supported"),
    ],
)
def test_a_request_for_something_else_is_refused_in_tf_servings_words(fields, message):
    request = messages.GetModelMetadataRequest(metadata_field=fields or [])
    if fields is not None:
        request.model_spec.name = "m"

    with pytest.raises(InvalidArgument) as caught:
        model_metadata.decode_request(request.SerializeToString())

    assert caught.value.message == message


@given(
    st.binary(max_size=60)
    | st.sampled_from(
        [b"[]", b"{}", b'{"model_spec": {}, "metadata": {"signature_def": []}}', b'{"model_spec": 1, "metadata": 1}']
    )
)
def test_any_bytes_give_metadata_or_a_wire_error(data):
    for decode in (model_metadata.decode_response, model_metadata.decode_json, model_metadata.decode_request):
        with contextlib.suppress(WireError):
            decode(data)


def test_an_answer_without_signatures_is_refused():
    with pytest.raises(InvalidArgument, match="no signatures"):
        model_metadata.decode_response(messages.GetModelMetadataResponse().SerializeToString())
