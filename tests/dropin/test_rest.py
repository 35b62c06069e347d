"""Addresses, order of checks, errors, status, metadata, CORS, transport: everything of REST but the tensors."""

import gzip
import json
import subprocess
import urllib.parse

import numpy as np
import pytest

from slipway_wire import predict
from slipway_wire.status import Code

ONE = {"instances": [1.0]}
MALFORMED = [
    ("GET", "half_plus_two:predict"),
    ("PUT", "half_plus_two:predict"),
    ("DELETE", "half_plus_two"),
    ("PATCH", "half_plus_two:predict"),
    ("POST", "half_plus_two"),
    ("POST", "half_plus_two:PREDICT"),
    ("POST", "half_plus_two:frobnicate"),
    ("POST", "half_plus_two/version/1:predict"),
    ("POST", "half_plus_two/versions/123/labels/stable:predict"),
    ("POST", "half_plus_two/versions/x:predict"),
    ("POST", "half_plus_two:predict?x=1"),
    ("GET", "half_plus_two/metadata/more"),
]
# Behaviour, method, path, body, status, part of the message.
REFUSED = [
    ("3.4-unknown-model", "POST", "nope:predict", ONE, 404, "Servable not found for request: Latest(nope)"),
    ("3.4-unknown-version", "POST", "half_plus_two/versions/7:predict", ONE, 404,
     "Servable not found for request: Specific(half_plus_two, 7)"),
    ("3.4-unknown-label", "POST", "half_plus_two/labels/L:predict", ONE, 400, "Unrecognized servable version label: L"),
    ("3.4-unknown-signature", "POST", "half_plus_two:predict", {"signature_name": "S", **ONE}, 400,
     'Serving signature name: "S" not found in signature def'),
    ("3.4-signature-without-inputs", "POST", "counter:predict", {"signature_name": "get_counter", **ONE}, 400,
     "Failed to get input map for signature: get_counter"),
    ("3.4-unknown-signature-of-examples", "POST", "half_plus_two:classify",
     {"signature_name": "S", "examples": [{"x": 1.0}]}, 400, "No signature was found with the name: S"),
    ("3.4-unknown-signature-of-examples", "POST", "half_plus_two:regress",
     {"signature_name": "S", "examples": [{"x": 1.0}]}, 400, "No signature was found with the name: S"),
    ("3.4-empty-body", "POST", "half_plus_two:predict", b"", 400, "JSON Parse error: The document is empty"),
    ("3.4-parse-error", "POST", "half_plus_two:predict", b"hello", 400, "JSON Parse error: Invalid value. at offset: 0"),
    ("3.4-parse-error", "POST", "half_plus_two:predict", b'{"instances": [1 2]}', 400,
     "JSON Parse error: Missing a comma or ] after an array element."),
    ("3.4-no-object", "POST", "half_plus_two:predict", b"[1, 2]", 400, "JSON Value: ["),
    ("3.4-no-object", "POST", "half_plus_two:predict", b'"text"', 400, 'JSON Value: "text" Is not object'),
    ("3.4-status-unknown", "GET", "nope", None, 404, "Could not find any versions of model nope"),
    ("3.4-status-unknown", "GET", "half_plus_two/versions/7", None, 404,
     "Could not find version 7 of model half_plus_two"),
    ("3.4-metadata-unknown", "GET", "nope/metadata", None, 404, "Servable not found for request: Latest(nope)"),
    ("3.4-metadata-unknown", "GET", "half_plus_two/versions/7/metadata", None, 404,
     "Servable not found for request: Specific(half_plus_two, 7)"),
    ("3.1-version-overflow", "GET", f"half_plus_two/versions/{2**63}", None, 400,
     f"Failed to convert version: {2**63} to numeric."),
    ("3.1-version-overflow", "POST", f"half_plus_two/versions/{2**63}:predict", ONE, 400,
     f"Failed to convert version: {2**63} to numeric."),
    # A bad body comes first, an unknown model second, an unknown signature third, the inputs last.
    ("3.2-body-before-model", "POST", "nope:predict", b"{", 400, "JSON Parse error"),
    ("3.2-body-before-model", "POST", "nope:predict", b"3", 400, "Is not object"),
    ("3.2-body-before-model", "POST", "nope:predict", {"signature_name": 1}, 400,
     "'signature_name' key must be a string value."),
    ("3.2-body-before-model", "POST", "nope:classify", {"examples": 3}, 400, "Expecting 'examples' value to be an list/array"),
    ("3.2-model-before-signature", "POST", "nope:predict", {"signature_name": "S"}, 404, "Latest(nope)"),
    ("3.2-model-before-signature", "POST", "half_plus_two:predict", {"signature_name": "S"}, 400,
     'Serving signature name: "S" not found in signature def'),
]  # fmt: skip


@pytest.mark.behaviour(
    "3.4-form",
    "3.4-unknown-model",
    "3.4-unknown-version",
    "3.4-unknown-label",
    "3.4-unknown-signature",
    "3.4-signature-without-inputs",
    "3.4-unknown-signature-of-examples",
    "3.4-empty-body",
    "3.4-parse-error",
    "3.4-no-object",
    "3.4-status-unknown",
    "3.4-metadata-unknown",
    "3.1-version-overflow",
    "3.2-body-before-model",
    "3.2-model-before-signature",
)
@pytest.mark.parametrize(("behaviour", "method", "path", "body", "status", "message"), REFUSED)
def test_what_is_refused(server, behaviour, method, path, body, status, message):
    answer = server.send(path, body, method)

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    assert list(answer.json()) == ["error"]
    assert message in answer.json()["error"]


@pytest.mark.behaviour("3.4-signature-without-inputs")
def test_the_default_signature_goes_by_another_name_in_one_message(fleet, server):
    """`DEFAULT`; a model whose default has no inputs is needed to see it."""
    answer = server.ask("counter:predict", ONE)

    assert answer[0] == 400
    assert 'Serving signature name: "serving_default" not found in signature def' in answer[1]["error"]


@pytest.mark.behaviour("3.4-no-object")
def test_a_long_offending_value_is_cut(server):
    status, answer = server.ask("half_plus_two:predict", list(range(10_000)))

    assert status == 400
    assert answer["error"].endswith("Is not object")
    assert len(answer["error"]) < 320


@pytest.mark.behaviour("3.4-form")
def test_a_message_is_whole_however_long(server):
    name = "n" * 3000
    answer = server.ask(f"{name}:predict", ONE)

    assert answer == (404, {"error": f"Servable not found for request: Latest({name})"})


@pytest.mark.behaviour("3.1-malformed", "3.4-form")
@pytest.mark.parametrize(("method", "path"), MALFORMED)
def test_malformed_requests(server, method, path):
    answer = server.send(path, ONE, method)

    assert (answer.status_code, answer.json()) == (400, {"error": f"Malformed request: {method} /v1/models/{path}"})


@pytest.mark.behaviour("3.1-malformed", "3.4-status-unknown")
def test_a_query_is_part_of_the_name(server):
    answer = server.ask("half_plus_two?x=1", method="GET")

    assert answer == (404, {"error": "Could not find any versions of model half_plus_two?x=1"})


@pytest.mark.behaviour("3.1-malformed")
def test_head_is_malformed_without_a_body(server):
    answer = server.send("half_plus_two", None, "HEAD")

    assert (answer.status_code, answer.content) == (400, b"")


@pytest.mark.behaviour("3.1-outside")
@pytest.mark.parametrize("path", ["/", "/v2/models/half_plus_two", "/v1", "/models/half_plus_two"])
def test_outside_of_the_api(server, path):
    answer = server.rest.get(path)

    assert answer.status_code == 404
    assert b"error" not in answer.content


@pytest.mark.behaviour("3.1-no-model")
def test_no_model(server):
    assert server.rest.get("/v1/models").json() == {"error": "Missing model name in request."}
    assert server.rest.get("/v1/models").status_code == 400


@pytest.mark.behaviour("3.1-predict-paths", "3.1-get-paths", "6.4-several")
def test_versions_and_labels_in_the_path(server):
    for where in ("", "/versions/123", "/versions/000124", "/labels/stable", "/labels/canary", "/labels/also%20stable"):
        assert server.ask(f"half_plus_two{where}:predict", ONE) == (200, {"predictions": [2.5]})
        body = {"signature_name": "classify_x_to_y", "examples": [{"x": 1.0}]}
        assert server.ask(f"half_plus_two{where}:classify", body) == (200, {"results": [[["", 2.5]]]})
        body["signature_name"] = "regress_x_to_y"
        assert server.ask(f"half_plus_two{where}:regress", body) == (200, {"results": [2.5]})
        version = server.ask(f"half_plus_two{where}/metadata", method="GET")[1]["model_spec"]["version"]
        assert version == ("123" if "123" in where or "stable" in where else "124")


@pytest.mark.behaviour("3.1-case")
def test_case_matters_in_the_verb_only(server):
    assert server.rest.post("/V1/Models/half_plus_two:predict", json=ONE).json() == {"predictions": [2.5]}
    assert server.rest.get("/V1/MODELS/half_plus_two/VERSIONS/123").status_code == 200
    assert server.ask("half_plus_two:Predict", ONE)[0] == 400


@pytest.mark.behaviour("3.1-percent-encoding")
def test_names_may_hold_anything(server):
    name = urllib.parse.quote("a name/with:all", safe="")

    assert server.ask(f"{name}:predict", ONE) == (200, {"predictions": [2.5]})
    assert server.ask(f"{name}/metadata", method="GET")[1]["model_spec"]["name"] == "a name/with:all"


@pytest.mark.behaviour("3.3-status-mapping")
def test_every_code_has_its_status():
    """Some codes no model can provoke; the table that every answer goes through is shown instead."""
    expected = {
        "OK": 200, "CANCELLED": 499, "UNKNOWN": 500, "INVALID_ARGUMENT": 400, "DEADLINE_EXCEEDED": 504, "NOT_FOUND": 404,
        "ALREADY_EXISTS": 409, "PERMISSION_DENIED": 403, "RESOURCE_EXHAUSTED": 429, "FAILED_PRECONDITION": 400,
        "ABORTED": 409, "OUT_OF_RANGE": 400, "UNIMPLEMENTED": 501, "INTERNAL": 500, "UNAVAILABLE": 503, "DATA_LOSS": 500,
        "UNAUTHENTICATED": 401,
    }  # fmt: skip

    assert {code.name: code.http_status for code in Code} == expected


@pytest.mark.behaviour("3.5-status", "3.5-status-version", "3.5-status-label", "7.1-specific-missing")
def test_status(server):
    def entry(version):
        return (
            f'  {{\n   "version": "{version}",\n   "state": "AVAILABLE",\n   "status": {{\n    "error_code": "OK",\n'
            '    "error_message": ""\n   }\n  }'
        )

    both = '{\n "model_version_status": [\n' + f"{entry(124)},\n{entry(123)}" + "\n ]\n}"
    one = '{\n "model_version_status": [\n' + entry(123) + "\n ]\n}"

    # TF Serving's own JSON ends in a newline; clients parse it.
    assert server.send("half_plus_two", method="GET").text.strip() == both
    assert server.send("half_plus_two/versions/123", method="GET").text.strip() == one
    assert server.send("half_plus_two/labels/nope", method="GET").text.strip() == both


@pytest.mark.behaviour("3.5-metadata")
def test_metadata_is_what_tf_servings_suite_expects(server, testdata):
    expected = json.loads((testdata / "saved_model_half_plus_two_2_versions_metadata.json").read_text())

    answer = server.send("half_plus_two/versions/123/metadata", method="GET")

    assert answer.json()["metadata"] == expected["metadata"]
    assert answer.json()["model_spec"] == {"name": "half_plus_two", "signature_name": "", "version": "123"}
    assert answer.text.startswith('{\n "model_spec": {\n')
    assert server.ask("half_plus_two/metadata", method="GET")[1]["model_spec"]["version"] == "124"


@pytest.mark.behaviour("3.5-metadata-init-op")
def test_metadata_lists_the_init_op_and_defaults(server):
    found = server.ask("tf2/metadata", method="GET")[1]["metadata"]["signature_def"]["signature_def"]

    output = found["__saved_model_init_op"]["outputs"]["__saved_model_init_op"]
    assert output["dtype"] == "DT_INVALID"
    assert output["tensor_shape"]["unknown_rank"] is True
    assert output["name"] == "NoOp"
    assert list(found["serving_default"]["defaults"]) == ["x"]


@pytest.mark.behaviour("3.6-cors", "1.3-rest_api_enable_cors_support")
def test_cors_headers_come_with_the_flag(server, batched):
    headers = {
        "access-control-allow-origin": "*",
        "access-control-allow-methods": "POST, GET",
        "access-control-allow-headers": "Content-Type",
    }

    for path in ("half_plus_two", "nope", "half_plus_two/metadata"):
        found = server.send(path, method="GET").headers
        assert {name: found.get(name) for name in headers} == headers
        assert "access-control-allow-origin" not in batched.send(path, method="GET").headers


@pytest.mark.behaviour("3.6-options")
@pytest.mark.parametrize(("origin", "status"), [("http://a.b", 200), ("https://a.b", 200), ("a.b", 400)])
def test_options(server, batched, origin, status):
    for one in (server, batched):
        answer = one.send("half_plus_two:predict", method="OPTIONS", Origin=origin)
        assert (answer.status_code, answer.content) == (status, b"")


@pytest.mark.behaviour("3.7-gzip")
def test_gzip_bodies(server):
    body = gzip.compress(json.dumps(ONE).encode())

    answer = server.ask("half_plus_two:predict", body, **{"Content-Encoding": "gzip"})
    assert answer == (200, {"predictions": [2.5]})
    assert server.ask("half_plus_two:predict", b"no gzip", **{"Content-Encoding": "gzip"})[0] == 400


@pytest.mark.behaviour("3.7-content-type", "3.7-keep-alive", "3.1-predict-paths")
def test_curl_as_in_every_tutorial(server):
    """Its default Content-Type is that of a form; two URLs go over one connection."""
    url = f"http://127.0.0.1:{server.rest_port}/v1/models/half_plus_two:predict"

    done = subprocess.run(
        ["curl", "-sS", "-v", "-d", '{"instances": [1.0, 2.0, 5.0]}', url, url], capture_output=True, check=True
    )

    assert [json.loads(part + "}") for part in done.stdout.decode().split("}")[:2]] == 2 * [
        {"predictions": [2.5, 3.0, 4.5]}
    ]
    assert b"application/x-www-form-urlencoded" in done.stderr
    assert b" existing connection" in done.stderr


@pytest.mark.behaviour("3.7-content-type")
@pytest.mark.parametrize("content_type", ["application/x-protobuf", "application/protobuf"])
def test_the_message_of_grpc_may_be_posted_and_is_answered_with_one(server, tmp_path, content_type):
    message, answer = tmp_path / "request", tmp_path / "answer"
    message.write_bytes(predict.encode_request("half_plus_two", {"x": np.float32([1.0, 2.0, 5.0])}))
    url = f"http://127.0.0.1:{server.rest_port}/v1/models/half_plus_two:predict"

    posted = ["curl", "-sS", "--data-binary", f"@{message}", "-H", f"Content-Type: {content_type}", "-o", str(answer)]
    done = subprocess.run(
        [*posted, "-w", "%{http_code} %{content_type}", url], capture_output=True, text=True, check=True
    )

    assert done.stdout == "200 application/x-protobuf"
    spec, outputs = predict.decode_response(answer.read_bytes())
    assert (spec.name, spec.version, outputs["y"].tolist()) == ("half_plus_two", 124, [2.5, 3.0, 4.5])
    # What is wrong is told as to everybody over REST.
    message.write_bytes(b"{")
    subprocess.run([*posted, url], check=True)
    assert json.loads(answer.read_bytes()) == {"error": "the message is not a PredictRequest"}


@pytest.mark.behaviour("1.3-rest_api_timeout_in_ms")
def test_a_request_ends_at_the_rest_timeout(server, open_gate):
    """4 s are allowed; the model answers when told."""
    assert server.ask("gated:predict", {"signature_name": "wait", "instances": [1.0]})[0] == 504
    open_gate(server)
    assert server.ask("gated:predict", {"signature_name": "wait", "instances": [1.0]}) == (200, {"predictions": [1.0]})
