import contextlib
import json

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from slipway_wire import inference, json_examples, messages
from slipway_wire.inference import Classification, Regression
from slipway_wire.status import InvalidArgument, WireError

FEATURES = st.one_of(
    st.builds(lambda v: messages.Feature(int64_list=messages.Int64List(value=v)), st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1)),
    st.builds(lambda v: messages.Feature(float_list=messages.FloatList(value=v)), st.lists(st.floats(width=32, allow_nan=False), min_size=1)),
    st.builds(lambda v: messages.Feature(bytes_list=messages.BytesList(value=v)), st.lists(st.binary(max_size=8), min_size=1)),
)  # fmt: skip


@st.composite
def examples(draw):
    example = messages.Example()
    for name, feature in draw(st.dictionaries(st.text(max_size=5), FEATURES, max_size=3)).items():
        example.features.feature[name].CopyFrom(feature)
    return example


@given(st.lists(examples(), min_size=1, max_size=3), st.sampled_from(["", "s"]))
def test_examples_come_back_as_they_were(sent, name):
    body = json_examples.encode_request([one.SerializeToString() for one in sent], signature_name=name)

    found = json_examples.decode_request(body)

    assert found.signature_name == name
    assert [messages.Example.FromString(one) for one in found.examples] == sent


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        ("2", "int64_list", [2]),
        ("[1, -9223372036854775808]", "int64_list", [1, -(2**63)]),
        ("[true, false]", "int64_list", [1, 0]),
        ("2.0", "float_list", [2.0]),
        ("[1e0, Infinity]", "float_list", [1.0, np.inf]),
        ("1e39", "float_list", [np.inf]),
        ('"é"', "bytes_list", ["é".encode()]),
        ('["a", {"b64": "/w=="}]', "bytes_list", [b"a", b"\xff"]),
        ("[]", None, None),
    ],
)
def test_the_kind_of_a_feature_is_told_by_its_values(value, kind, expected):
    (serialized,) = json_examples.decode_request(b'{"examples": [{"f": %b}]}' % value.encode()).examples

    feature = messages.Example.FromString(serialized).features.feature["f"]
    assert feature.WhichOneof("kind") == kind
    if kind:
        assert list(getattr(feature, kind).value) == expected


def test_a_context_is_part_of_every_example_and_gives_way_to_it():
    body = json.dumps({"context": {"c": 1, "both": 1}, "examples": [{"x": 1.5}, {"both": 2}]}).encode()

    first, second = (messages.Example.FromString(one) for one in json_examples.decode_request(body).examples)

    assert first.features.feature["c"].int64_list.value == [1]
    assert first.features.feature["both"].int64_list.value == [1]
    assert first.features.feature["x"].float_list.value == [1.5]
    assert second.features.feature["both"].int64_list.value == [2]


def test_a_context_in_every_example_becomes_only_so_much(monkeypatch):
    monkeypatch.setattr(inference, "_MAX_CONTEXTS_BYTES", 1000)
    body = json.dumps({"context": {"c": "x" * 400}, "examples": [{}] * 3}).encode()

    with pytest.raises(InvalidArgument, match=r"in 3 examples is .* ask for fewer examples at once"):
        json_examples.decode_request(body)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "JSON Parse error: The document is empty"),
        ("[]", "JSON Value: [] Is not object"),
        ("{}", "JSON Value: {} When method is classify, key 'examples' is expected and was not found"),
        ('{"examples": 1}', "JSON Value: {\n    \"examples\": 1\n} Expecting 'examples' value to be an list/array"),
        ('{"examples": []}', "JSON Value: {\n    \"examples\": []\n} 'examples' value is an empty array"),
        ('{"examples": [1]}', "Example must be JSON object but got JSON Number"),
        ('{"examples": [{}], "context": []}', "Example must be JSON object but got JSON Array"),
        ('{"examples": [{"f": null}]}', "Feature: f has element with unexpected JSON type: Null"),
        ('{"examples": [{"f": [[1]]}]}', "Feature: f has element with unexpected JSON type: Array"),
        ('{"examples": [{"f": {"a": 1}}]}', "Feature: f has element with unexpected JSON type: Object"),
        ('{"examples": [{"f": [1, 2.0]}]}', "Unexpected element type in feature: f expecting type: int64"),
        ('{"examples": [{"f": [1.0, 2]}]}', "Unexpected element type in feature: f expecting type: float"),
        ('{"examples": [{"f": ["a", 2]}]}', "Unexpected element type in feature: f expecting type: bytes"),
        (
            '{"examples": [{"f": 9223372036854775808}]}',
            "Feature: f has uint64_t element. Only int64_t is supported.",
        ),
        ('{"examples": [{"f": {"b64": "!"}}]}', "Unable to base64 decode"),
    ],
)
def test_a_fault_is_told_in_tf_servings_words(body, message):
    with pytest.raises(InvalidArgument) as caught:
        json_examples.decode_request(body.encode())

    assert caught.value.message == message


def test_a_name_that_is_not_utf8_is_refused():
    with pytest.raises(InvalidArgument):
        json_examples.decode_request(b'{"examples": [{"\xff": 1}]}')


def test_what_is_no_example_is_not_sent():
    with pytest.raises(InvalidArgument, match=r"not a tf\.Example"):
        json_examples.encode_request([b"\xff"])


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (
            Classification(np.array([[b"a", b"b"]], object), np.float32([[0.5, 3]])),
            '{"results":[[["a",0.5],["b",3.0]]]}',
        ),
        (Classification(None, np.float32([[0.5], [1]])), '{"results":[[["",0.5]],[["",1.0]]]}'),
        (Classification(np.array([[b"a"]], object), None), '{"results":[[["a",0.0]]]}'),
        (Classification(None, np.float32([[np.nan]])), '{"results":[[["",NaN]]]}'),
        (Classification(None, np.zeros((2, 0), np.float32)), '{"results":[[],[]]}'),
    ],
)
def test_a_classification_is_a_list_of_labelled_scores_per_example(answer, text):
    assert json_examples.encode_classify_response(answer).decode() == text

    back = json_examples.decode_classify_response(text.encode())
    if answer.scores is not None:
        np.testing.assert_array_equal(back.scores, answer.scores)
    if answer.classes is not None:
        assert back.classes.tolist() == answer.classes.tolist()


def test_a_regression_is_a_list_of_values():
    text = json_examples.encode_regress_response(Regression(np.float32([0.1, 3])))

    assert text == b'{"results":[0.1,3.0]}'
    assert json_examples.decode_regress_response(text).values.tolist() == np.float32([0.1, 3]).tolist()


@pytest.mark.parametrize(
    "body", [b"{}", b'{"results": 1}', b'{"results": [[1]]}', b'{"results": [[["a"]]]}', b'{"results": [[[1, 1]]]}',
             b'{"results": [[["a", "b"]]]}', b'{"results": [[["a", 1]], []]}']
)  # fmt: skip
def test_what_is_no_classification_is_refused(body):
    with pytest.raises(InvalidArgument):
        json_examples.decode_classify_response(body)


@pytest.mark.parametrize("body", [b"{}", b'{"results": ["a"]}', b'{"results": [[1]]}'])
def test_what_is_no_regression_is_refused(body):
    with pytest.raises(InvalidArgument):
        json_examples.decode_regress_response(body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**65), 2**65) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["f", "g", "b64"]), inner, max_size=3),
    max_leaves=12,
)


@example({"results": [3.4028235677973366e38]})
@given(st.dictionaries(st.sampled_from(["examples", "context", "signature_name", "results"]), JSON, max_size=3))
def test_any_document_gives_examples_or_a_wire_error(document):
    body = json.dumps(document).encode()
    with contextlib.suppress(WireError):
        for one in json_examples.decode_request(body).examples:
            messages.Example.FromString(one)
    for decode in (json_examples.decode_classify_response, json_examples.decode_regress_response):
        with contextlib.suppress(WireError):
            decode(body)
