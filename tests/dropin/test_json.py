"""Tensors in JSON: what is taken, what is refused in which words, and how numbers look in answers."""

import base64
import json

import pytest
from tests.dropin import saved_models

# signature of `types`, values, what the answer shows, as text: JSON parsers differ in what they make of numbers.
TAKEN = [
    ("4.1-floats", "float", "[1, 2.5, -3e2, 1E-2]", "[1.0, 2.5, -300.0, 0.01]"),
    ("4.1-floats", "float", "[NaN, Inf, Infinity, -Inf, -Infinity]", "[NaN, Infinity, Infinity, -Infinity, -Infinity]"),
    ("4.1-floats", "double", "[NaN, Inf, -Infinity]", "[NaN, Infinity, -Infinity]"),
    ("4.1-floats", "float", "[16777217, 1e39, -1e39, 1e-50]", "[16777216.0, Infinity, -Infinity, 0.0]"),
    ("4.1-number-range", "double", "[18446744073709551616, 1e308]", "[1.8446744073709552e+19, 1e+308]"),
    ("4.1-integers", "int32", "[2147483647, -2147483648, 0]", "[2147483647, -2147483648, 0]"),
    ("4.1-integers", "int16", "[-32768, 32767]", "[-32768, 32767]"),
    ("4.1-integers", "int8", "[-128, 127]", "[-128, 127]"),
    ("4.1-integers", "uint8", "[0, 255]", "[0, 255]"),
    ("4.1-integers", "int64", "[9223372036854775807, -9223372036854775808]", "[9223372036854775807, -9223372036854775808]"),
    ("4.1-integers", "uint32", "[4294967295]", "[4294967295]"),
    ("4.1-integers", "uint64", "[18446744073709551615]", "[18446744073709551615]"),
    ("4.1-bool", "bool", "[true, false]", "[true, false]"),
    ("4.1-strings", "string", '["é", {"b64": "YQ=="}, ""]', '["é", "a", ""]'),
    ("4.1-half", "half", "[1.5, -2]", "[1.5, -2.0]"),
    ("4.1-half", "bfloat16", "[1.5, -2]", "[1.5, -2.0]"),
    ("4.2-floats", "float", "[3, 9000000, 0.00003, 555557.5, 0.1]", "[3.0, 9e+06, 3e-05, 555557.5, 0.1]"),
    ("4.2-floats", "float", "[0.33333334, 16777216, 123456.7, 1e10, -0.0]",
     "[0.333333343, 16777216.0, 123456.703, 1e+10, -0.0]"),
    ("4.2-floats", "double", "[0.1, 0.3333333333333333, 1e22, 3, 123456789]",
     "[0.1, 0.33333333333333331, 1e+22, 3.0, 123456789.0]"),
    ("4.2-non-finite", "float", "[NaN, Infinity, -Infinity]", "[NaN, Infinity, -Infinity]"),
    ("4.2-integers", "int64", "[9000000, 0]", "[9000000, 0]"),
    ("4.1-deep-nesting", "float", "[[[[[[1]]]]]]", "[[[[[[1.0]]]]]]"),
    ("4.1-row-format", "float", "[[[1, 2], [3, 4]], [[5, 6], [7, 8]]]", "[[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]]"),
]  # fmt: skip


def compact(text):
    return "".join(text.split())


@pytest.mark.behaviour(
    "4.1-floats",
    "4.1-number-range",
    "4.1-integers",
    "4.1-bool",
    "4.1-strings",
    "4.1-half",
    "4.1-row-format",
    "4.1-column-format",
    "4.2-predictions",
    "4.2-outputs",
    "4.2-floats",
    "4.2-non-finite",
    "4.2-integers",
    "4.2-half",
)
@pytest.mark.parametrize(("behaviour", "signature", "values", "shown"), TAKEN)
def test_values_go_in_and_come_out(server, behaviour, signature, values, shown):
    for key, answered in (("instances", "predictions"), ("inputs", "outputs")):
        answer = server.send("types:predict", f'{{"signature_name": "{signature}", "{key}": {values}}}'.encode())

        assert answer.status_code == 200, answer.text
        assert compact(answer.text) == compact(f'{{"{answered}": {shown}}}')


# signature, the element, JSON type, TensorFlow's name
WRONG_TYPES = [
    *[("float", value, kind, "float") for value, kind in (('"a"', "String"), ("true", "True"), ("null", "Null"))],
    ("double", "false", "False", "double"),
    *[("int32", value, "Number", "int32") for value in ("1.0", "2147483648", "1e3")],
    ("int32", "true", "True", "int32"),
    ("int64", "9223372036854775808", "Number", "int64"),
    ("uint32", "-1", "Number", "uint32"),
    ("uint64", "-1", "Number", "uint64"),
    ("bool", "1", "Number", "bool"),
    ("bool", "0", "Number", "bool"),
    ("string", "1", "Number", "string"),
]


@pytest.mark.behaviour("4.1-type-error", "4.1-floats", "4.1-integers", "4.1-bool", "4.1-strings", "4.1-row-wrapped")
@pytest.mark.parametrize(("signature", "value", "kind", "name"), WRONG_TYPES)
def test_values_of_another_type_are_refused(server, signature, value, kind, name):
    message = f"JSON Value: {value} Type: {kind} is not of expected type: {name}"
    row = server.ask("types:predict", f'{{"signature_name": "{signature}", "instances": [{value}]}}'.encode())
    column = server.ask("types:predict", f'{{"signature_name": "{signature}", "inputs": [{value}]}}'.encode())

    assert row[0] == column[0] == 400
    assert "Failed to process element: 0" in row[1]["error"]
    if name != "double":
        assert message.rpartition(" Type")[2] in row[1]["error"]
    assert f"Type: {kind} is not of expected type: {name}" in column[1]["error"]
    assert "JSON Value: " in column[1]["error"]


@pytest.mark.behaviour("4.1-half", "4.2-half")
@pytest.mark.parametrize("dtype", ["complex64", "uint16"])
def test_types_that_have_no_json(server, dtype):
    assert server.ask("types:predict", {"signature_name": dtype, "inputs": [1]})[0] == 501
    status, answer = server.ask("types:predict", {"signature_name": dtype, "instances": [1]})
    assert status == 400
    assert f"Error: UNIMPLEMENTED: Conversion of JSON Value: 1 to type: {dtype}" in answer["error"]


# signature, body without it, part of the message
REFUSED = [
    ("4.1-one-of-both", "float", {}, "Missing 'inputs' or 'instances' key"),
    ("4.1-one-of-both", "float", {"instances": [1], "inputs": [1]},
     "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist"),
    ("4.1-instances-list", "float", {"instances": 1}, "Expecting 'instances' to be an list/array"),
    ("4.1-instances-list", "float", {"instances": {"x": 1}}, "Expecting 'instances' to be an list/array"),
    ("4.1-instances-list", "float", {"instances": []}, "No values in 'instances' array"),
    ("4.1-row-objects", "two", {"instances": [{"a": 1, "b": "s", "c": 1}]}, "JSON object: does not have named input: c"),
    ("4.1-row-objects", "two", {"instances": [{"a": 1}]}, "keys must be equal to: a,b"),
    ("4.1-row-plain-needs-one-input", "two", {"instances": [1]},
     "instances is a plain list, but expecting list of objects as multiple input tensors required as per tensorinfo_map"),
    ("4.1-row-same-shape", "float", {"instances": [[1, 2], [3]]}, "Expecting tensor size: 2 but got: 1"),
    ("4.1-row-same-shape", "float", {"instances": [[1, 2], [[3, 4]]]}, "Expecting shape [2] but got: [1,2]"),
    ("4.1-row-mixed", "float", {"instances": [{"x": 1}, [2]]}, "Expecting object but got list at item 1 of input list"),
    ("4.1-row-mixed", "float", {"instances": [[2], {"x": 1}]}, "Expecting value/list but got object at item 1 of input list"),
    ("4.1-row-wrapped", "two", {"instances": [{"a": "s", "b": "s"}]}, "Failed to process element: 0 key: a of 'instances' list"),
    ("4.1-row-wrapped", "float", {"instances": [1, "s"]}, "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: "),
    ("4.1-column-objects", "two", {"inputs": [1]},
     "inputs is a plain value/list, but expecting an object as multiple input tensors required as per tensorinfo_map"),
    ("4.1-column-objects", "two", {"inputs": {"a": [1]}}, "Missing named input: b in 'inputs' object."),
    ("4.1-ragged", "float", {"inputs": [[1, 2], [3]]}, "Encountered list at unexpected size: 1 at level: 1 expected size: 2"),
    ("4.1-ragged", "float", {"inputs": [[1, 2], 3]}, " found at incorrect level: "),
    ("4.1-ragged", "float", {"inputs": [1, [2]]}, "Encountered list at unexpected level: "),
    ("4.1-signature-name", "float", {"signature_name": 3, "instances": [1]}, "'signature_name' key must be a string value."),
    ("4.1-b64", "string", {"inputs": [{"b64": 1}]}, "not formatted correctly for base64 data"),
    ("4.1-b64", "string", {"inputs": [{"b64": "YQ==", "x": 1}]}, "not formatted correctly for base64 data"),
    ("4.1-b64", "string", {"inputs": [{"b64": "%%%"}]}, "Unable to base64 decode"),
    ("4.1-b64", "float", {"inputs": [{"b64": "YQ=="}]}, "Type: Object is not of expected type: float"),
    ("4.2-row-rank0", "scalar", {"instances": [1]}, "Tensor name: y has no shape information"),
    ("4.2-row-rank0", "uneven", {"instances": [1, 2]}, "has inconsistent batch size: "),
]  # fmt: skip


@pytest.mark.behaviour(
    "4.1-one-of-both",
    "4.1-instances-list",
    "4.1-row-objects",
    "4.1-row-plain-needs-one-input",
    "4.1-row-same-shape",
    "4.1-row-mixed",
    "4.1-row-wrapped",
    "4.1-column-objects",
    "4.1-ragged",
    "4.1-signature-name",
    "4.1-b64",
    "4.2-row-rank0",
)
@pytest.mark.parametrize(("behaviour", "signature", "body", "message"), REFUSED)
def test_bodies_that_do_not_fit(server, behaviour, signature, body, message):
    status, answer = server.ask("types:predict", {"signature_name": signature, **body})

    assert status == 400
    assert message in answer["error"]


@pytest.mark.behaviour("4.2-no-outputs")
def test_a_signature_without_outputs(server):
    status, answer = server.ask("types:predict", {"signature_name": "no_outputs", "inputs": [1]})

    assert status == 400
    assert answer["error"] in {
        "Cannot convert empty tensor map to JSON",
        "Must specify at least one target to fetch or execute.",
    }


@pytest.mark.behaviour("4.1-number-range")
def test_a_number_beyond_double_is_no_json(server):
    status, answer = server.ask("types:predict", b'{"signature_name": "float", "inputs": [1e400]}')

    assert status == 400
    assert "JSON Parse error: Number too big to be stored in double." in answer["error"]


@pytest.mark.behaviour("4.1-row-objects", "4.2-predictions", "4.1-signature-name", "4.1-other-keys")
def test_rows_of_several_inputs(server):
    body = {"signature_name": "two", "instances": [{"a": 1, "b": "s"}, {"b": "t", "a": 2}], "more": [{"deep": None}]}

    assert server.ask("types:predict", body) == (
        200,
        {"predictions": [{"a": 1.0, "b": "s"}, {"a": 2.0, "b": "t"}]},
    )


@pytest.mark.behaviour("4.1-column-format", "4.2-outputs", "4.1-column-objects")
def test_columns_of_several_inputs(server):
    """Extra names are ignored, and batch sizes may differ."""
    body = {"signature_name": "two", "inputs": {"a": [1, 2, 3], "b": [["s"]], "c": 1}}

    assert server.ask("types:predict", body) == (200, {"outputs": {"a": [1.0, 2.0, 3.0], "b": [["s"]]}})
    assert server.ask("types:predict", {"signature_name": "float", "inputs": 2}) == (200, {"outputs": 2.0})
    assert server.ask("types:predict", {"signature_name": "float", "inputs": {"x": [2]}}) == (200, {"outputs": [2.0]})
    assert server.ask("types:predict", {"signature_name": "string", "inputs": {"b64": "YQ=="}}) == (
        200,
        {"outputs": "a"},
    )


@pytest.mark.behaviour("4.1-row-format", "4.1-strings")
def test_rows_of_b64_objects_are_plain_values(server):
    body = {"signature_name": "string", "instances": [{"b64": "YQ=="}, {"b64": "Yg=="}]}

    assert server.ask("types:predict", body) == (200, {"predictions": ["a", "b"]})


@pytest.mark.behaviour("4.1-shape-unchecked")
def test_the_graph_judges_shapes(server):
    """TF Serving's suite relies on it: [-1, 1] is declared, [2] is sent."""
    assert server.ask("half_plus_two:predict", {"instances": [2.0, 3.0]}) == (200, {"predictions": [3.0, 3.5]})
    assert server.ask("half_plus_three:predict", {"instances": [1.0, 2.0, 5.0]}) == (
        200,
        {"predictions": [3.5, 4.0, 5.5]},
    )


@pytest.mark.behaviour("4.1-text-after-end", "4.1-duplicate-keys")
def test_what_the_parser_forgives(server):
    first = b'{"instances": [2.0], "instances": [4.0]} and then {"some": more}'

    assert server.ask("half_plus_two:predict", first) == (200, {"predictions": [3.0]})


@pytest.mark.behaviour("4.1-deep-nesting")
def test_deep_nesting_does_no_harm(server):
    body = b'{"x": ' + b"[" * 500_000 + b"]" * 500_000 + b', "instances": [2.0]}'

    answer = server.ask("half_plus_two:predict", body)

    assert answer == (200, {"predictions": [3.0]})


@pytest.mark.behaviour("4.1-invalid-utf8", "4.2-strings")
def test_bytes_that_are_no_text_pass_through(server):
    answer = server.send("types:predict", b'{"signature_name": "bytes", "inputs": ["\xff\xfea"]}')
    assert answer.json() == {"outputs": [{"b64": base64.b64encode(b"\xff\xfea").decode()}]}

    raw = server.send("types:predict", b'{"signature_name": "string", "inputs": ["\xff\xfea"]}')
    assert b'"\xff\xfea"' in raw.content


@pytest.mark.behaviour("4.2-strings")
def test_the_name_of_the_output_decides_on_base64(server):
    for body, answer in (({"inputs": ["é"]}, "outputs"), ({"instances": ["é"]}, "predictions")):
        encoded = {"b64": base64.b64encode("é".encode()).decode()}
        assert server.ask("types:predict", {"signature_name": "bytes", **body}) == (200, {answer: [encoded]})
        assert server.ask("types:predict", {"signature_name": "string", **body}) == (200, {answer: ["é"]})


@pytest.mark.behaviour("4.2-predictions")
def test_a_batch_of_none_and_every_type_of_the_model(server):
    assert server.ask("types:predict", {"signature_name": "float", "inputs": []}) == (200, {"outputs": []})
    assert server.ask("types:predict", {"signature_name": "float", "instances": [[], []]}) == (
        200,
        {"predictions": [[], []]},
    )
    known = server.ask("types/metadata", method="GET")[1]["metadata"]["signature_def"]["signature_def"]
    assert set(saved_models.TYPES) <= set(known)


# Behaviour, body, part of the message.
BAD_EXAMPLES = [
    ("4.3-examples", {}, "key 'examples' is expected and was not found"),
    ("4.3-examples", {"examples": {}}, "Expecting 'examples' value to be an list/array"),
    ("4.3-examples", {"examples": []}, "'examples' value is an empty array"),
    ("4.3-examples", {"examples": [1]}, "Example must be JSON object but got JSON Number"),
    ("4.3-examples", {"examples": [{}], "context": []}, "Example must be JSON object but got JSON Array"),
    (
        "4.3-feature-errors",
        {"examples": [{"x": [1, "a"]}]},
        "Unexpected element type in feature: x expecting type: int64",
    ),
    ("4.3-feature-errors", {"examples": [{"x": None}]}, "Feature: x has element with unexpected JSON type: Null"),
    ("4.3-feature-errors", {"examples": [{"x": [[1]]}]}, "Feature: x has element with unexpected JSON type: Array"),
    ("4.3-feature-errors", {"examples": [{"x": {"y": 1}}]}, "Feature: x has element with unexpected JSON type: Object"),
    ("4.3-feature-errors", {"examples": [{"x": 2**63}]}, "Feature: x has uint64_t element. Only int64_t is supported."),
]


@pytest.mark.behaviour("4.3-examples", "4.3-feature-errors")
@pytest.mark.parametrize(("behaviour", "body", "message"), BAD_EXAMPLES)
@pytest.mark.parametrize("verb", ["classify", "regress"])
def test_examples_that_do_not_fit(server, behaviour, body, message, verb):
    status, answer = server.ask(f"half_plus_two:{verb}", {"signature_name": f"{verb}_x_to_y", **body})

    assert status == 400
    assert message in answer["error"]


@pytest.mark.behaviour("4.3-classify", "4.3-regress", "4.3-context")
def test_classify_and_regress(server):
    examples = [{"x": 1.0}, {"x": [3.0]}, {}]
    body = {"context": {"x": 5.0}, "examples": examples}

    classify = {"signature_name": "classify_x_to_y", **body}
    assert server.ask("half_plus_two:classify", classify) == (200, {"results": [[["", 2.5]], [["", 3.5]], [["", 4.5]]]})
    regress = {"signature_name": "regress_x_to_y2", **body}
    assert server.ask("half_plus_two:regress", regress) == (200, {"results": [3.5, 4.5, 5.5]})


@pytest.mark.behaviour("4.3-classify")
def test_labels_of_a_model_that_has_some(server):
    status, answer = server.ask("labelled:classify", {"signature_name": "classify", "examples": [{"x": 1}]})

    assert status == 200
    (((label, score),),) = answer["results"]
    assert score == len(label) > 0


@pytest.mark.behaviour("4.3-features")
def test_features_take_the_kind_of_their_values(server, example):
    """The model answers with the length of the Example it was fed: kinds show in it."""
    cases = {
        '{"x": 2.0}': example(x=2.0),
        '{"x": 2e0}': example(x=2.0),
        '{"x": NaN}': example(x=2.0),
        '{"x": 2}': example(x=2),
        '{"x": true}': example(x=1),
        '{"x": "abc"}': example(x=b"abc"),
        '{"x": {"b64": "YWJj"}}': example(x=b"abc"),
    }
    for text, fed in cases.items():
        body = f'{{"signature_name": "regress", "examples": [{text}]}}'.encode()
        assert server.ask("labelled:regress", body) == (200, {"results": [float(len(fed))]}), text
    refused = server.ask("half_plus_two:regress", {"signature_name": "regress_x_to_y", "examples": [{"x": 2}]})
    assert refused[0] == 400


@pytest.mark.behaviour("4.3-signature-errors")
def test_examples_for_another_kind_of_signature(server):
    body = {"examples": [{"x": 1.0}]}

    for verb in ("classify", "regress"):
        assert server.ask(f"half_plus_two:{verb}", body)[0] == 400
        status, answer = server.ask(f"nope:{verb}", body)
        assert (status, answer) == (404, {"error": "Servable not found for request: Latest(nope)"})
        assert server.ask(f"half_plus_two/versions/7:{verb}", body)[0] == 404
        assert server.ask(f"half_plus_two/labels/L:{verb}", body)[0] == 400


@pytest.mark.behaviour("4.2-floats")
def test_numbers_read_back_to_what_the_model_gave(server):
    values = [1 / 3, 2 / 3, 1e-7, 123456789.0, 1.1, 9.99999e5, 1e6]

    answer = server.send("types:predict", json.dumps({"signature_name": "double", "inputs": values}).encode())

    assert answer.json() == {"outputs": values}
