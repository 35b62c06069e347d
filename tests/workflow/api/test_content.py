"""Every program and body is run and sent as it is written, to a real server; the answers are the golden ones."""

import json
import shutil
import subprocess
import sys

import grpc
import jsonschema
import numpy as np
import pytest
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012
from tests.workflow import served_models as served

from slipway.api.calls import calls
from slipway.api.content import api_files
from slipway.api.snippets import Addresses
from slipway.golden import Golden
from slipway_wire import inference, predict

# TensorFlow is not there for these programs, and what they define is told as JSON.
_RUN = """
import contextlib, io, json, runpy, sys
sys.modules["tensorflow"] = None
sys.path.insert(0, "")
with contextlib.redirect_stdout(io.StringIO()) as printed:
    found = runpy.run_path(sys.argv[1])
value = found[sys.argv[2]]
if isinstance(value, dict):
    value = {name: array.tolist() for name, array in value.items()}
elif hasattr(value, "tolist"):
    value = value.tolist()
assert printed.getvalue().strip()
print(json.dumps(value, default=lambda data: data.decode("latin-1")))
"""
# Large, with NaN, and bytes that no text can be: what cannot stand in a program itself.
STRANGE_TWO = {
    "a": np.array([[1.5, -np.inf], [0, 0]], np.float32),
    "b_bytes": np.array([[b"\x89PNG" + bytes(range(200)), "ü'\"".encode()], [b"", b""]], object),
}
STRANGE_ONE = np.array([[1.5, np.nan], [0, 0]], np.float32)
STRANGE = Golden({"x": STRANGE_ONE} | STRANGE_TWO, {"y": STRANGE_ONE}, None, {"two": STRANGE_TWO})


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with served.running(tmp_path_factory.mktemp("served")) as server:
        yield server


def written(server, directory, model, contract, golden):
    """Write everything for *model*, addressed to the server."""
    addresses = Addresses(f"127.0.0.1:{server.rest_port}", f"127.0.0.1:{server.grpc_port}")
    called = calls(contract, golden, model)
    for name, content in api_files(contract, called, version=2, addresses=addresses).items():
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_bytes(content)
    return directory


@pytest.fixture(scope="module")
def digits_api(server, golden, tmp_path_factory):
    return written(server, tmp_path_factory.mktemp("digits"), "digits", served.digits_contract(), golden)


@pytest.fixture(scope="module")
def types_api(server, tmp_path_factory):
    contract = served.types_contract({"serving_default": ("float32", ["x"], ["y"])})
    two = contract.signatures["serving_default"].model_dump(by_alias=True)
    text = {"dtype": "string", "shape": ["N", "T"]}
    two |= {"inputs": {"a": two["inputs"]["x"], "b_bytes": text | {"values": ["a"]}}}
    two |= {"outputs": {"a": two["outputs"]["y"], "b_bytes": text}}
    signatures = {"serving_default": contract.default.model_dump(by_alias=True), "two": two}
    contract = type(contract).model_validate(contract.model_dump(by_alias=True) | {"signatures": signatures})
    return written(server, tmp_path_factory.mktemp("types"), "types", contract, STRANGE)


def run(directory, program, variable):
    finished = subprocess.run(
        [sys.executable, "-I", "-c", _RUN, program, variable],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


def expected(directory, name):
    return json.loads((directory / "answers" / f"{name}.row.json").read_text())


def close(found, wanted):
    """Compare JSON values; numbers as near as a float32 is."""
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys()
        return all(close(found[key], wanted[key]) for key in wanted)
    if isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(close, found, wanted))
    if isinstance(wanted, float):
        return np.isclose(found, wanted, rtol=1e-5, atol=1e-6, equal_nan=True)
    return found == wanted


@pytest.mark.parametrize("name", ["serving_default", "classify", "regress"])
@pytest.mark.skipif(not shutil.which("curl"), reason="no curl on PATH")
def test_curl_answers_as_the_golden_data_do(digits_api, name):
    script = digits_api / f"{name}.sh"
    finished = subprocess.run(["bash", script.name], cwd=digits_api, capture_output=True, check=True, timeout=300)

    assert close(json.loads(finished.stdout), expected(digits_api, name))


@pytest.mark.parametrize(
    ("name", "key"), [("serving_default", "predictions"), ("classify", "results"), ("regress", "results")]
)
def test_python_over_rest_answers_as_the_golden_data_do(digits_api, name, key):
    assert close(run(digits_api, f"{name}_rest.py", key), expected(digits_api, name)[key])


def test_python_over_grpc_answers_as_the_golden_data_do_without_tensorflow(digits_api):
    outputs = run(digits_api, "serving_default_grpc.py", "outputs")
    classes = run(digits_api, "classify_grpc.py", "results")
    values = run(digits_api, "regress_grpc.py", "results")

    (row,) = expected(digits_api, "serving_default")["predictions"]
    assert close({name: rows[0] for name, rows in outputs.items()}, row)
    assert close(classes, expected(digits_api, "classify")["results"])
    assert close(values, expected(digits_api, "regress")["results"])


def test_what_cannot_stand_in_a_program_is_read_from_files(types_api):
    assert "requests/serving_default.row.json" in (types_api / "serving_default_rest.py").read_text()
    assert 'np.load("requests/two.a.npy")' in (types_api / "two_grpc.py").read_text()
    assert 'Path("requests/two.b_bytes.png").read_bytes()' in (types_api / "two_grpc.py").read_text()

    over_rest = run(types_api, "serving_default_rest.py", "predictions")
    over_grpc = run(types_api, "two_grpc.py", "outputs")

    assert close(over_rest, [[1.5, float("nan")]])
    assert close(over_grpc["a"], [[1.5, float("-inf")]])
    assert over_grpc["b_bytes"] == [[value.decode("latin-1") for value in STRANGE.inputs["b_bytes"][0]]]


def test_the_programs_on_the_page_are_the_files(digits_api):
    page = (digits_api / "README.md").read_text()
    programs = [p for p in digits_api.iterdir() if p.suffix in (".py", ".sh") and p.name != "grpc_client.py"]

    assert len(programs) == 9
    assert all(f"```{'bash' if p.suffix == '.sh' else 'python'}\n{p.read_text()}```" in page for p in programs)


@pytest.mark.parametrize("model", ["digits", "types"])
def test_bodies_are_accepted_and_answers_fit_the_schema(server, digits_api, types_api, model):
    directory = digits_api if model == "digits" else types_api
    described = json.loads((directory / "openapi.json").read_text())
    registry = Registry().with_resource("urn:api", Resource(described, DRAFT202012))
    bodies = sorted((directory / "requests").glob("*.*.json"))
    tried = 0
    for body in bodies:
        signature, form, _ = body.name.split(".")
        if form == "grpcurl":
            continue
        verb = signature if signature in ("classify", "regress") else "predict"
        status, answer = server.ask(f"{model}:{verb}", body.read_bytes())
        assert status == 200, answer
        assert close(answer, json.loads((directory / "answers" / body.name).read_text()))
        content = described["paths"][f"/v1/models/{model}:{verb}"]["post"]["responses"]["200"]["content"]
        schema = content["application/json"]["schema"]
        named = [schema["$ref"]] if "$ref" in schema else [one["$ref"] for one in schema["anyOf"]]
        anyone = {"anyOf": [{"$ref": f"urn:api{reference}"} for reference in named]}
        jsonschema.Draft202012Validator(anyone, registry=registry).validate(answer)
        tried += 1
    assert tried == 4


def test_messages_are_accepted_over_grpc(server, digits_api, golden):
    message = (digits_api / "requests/serving_default.pb").read_bytes()
    _, outputs = predict.decode_response(server.call("/tensorflow.serving.PredictionService/Predict", message))
    assert np.allclose(outputs["probabilities"], golden.outputs["probabilities"][:1], atol=1e-6)

    message = (digits_api / "requests/classify.pb").read_bytes()
    _, answer = inference.decode_classify_response(
        server.call("/tensorflow.serving.PredictionService/Classify", message)
    )
    assert np.allclose(answer.scores, golden.outputs["probabilities"][:1], atol=1e-6)


def test_status_and_metadata_are_as_described(server, digits_api):
    described = json.loads((digits_api / "openapi.json").read_text())
    schemas = described["components"]["schemas"]

    for path, schema in (("", "ModelStatus"), ("/metadata", "ModelMetadata")):
        for form in ("", "/versions/1", "/labels/stable"):
            status, answer = server.ask(f"digits{form}{path}", method="GET")
            assert status == 200
            jsonschema.Draft202012Validator(schemas[schema]).validate(answer)
    status, answer = server.ask("other", method="GET")
    assert status == 404
    jsonschema.Draft202012Validator(schemas["Error"]).validate(answer)


def test_equal_data_give_equal_bytes(digits, golden):
    contract = served.digits_contract()
    first, second = (
        api_files(contract, calls(contract, golden, "digits"), version=2, addresses=Addresses()) for _ in range(2)
    )

    assert first == second
    assert list(first) == sorted(first)


def test_the_generated_client_can_do_what_callers_want(server, digits_api, golden):
    """Another version or label, chosen outputs, several rows, a future, the server's words, a deadline."""
    from slipway.api.grpc_client import Client

    target, images = f"127.0.0.1:{server.grpc_port}", golden.inputs["image"]
    with Client(target, "digits", version=1) as client:
        assert client.predict({"image": images}, outputs=["label"]).keys() == {"label"}
        future = client.predict_future({"image": images})
        assert future.result()["label"].tolist() == golden.outputs["label"].tolist()
        with pytest.raises(grpc.RpcError) as refused:
            client.predict({"image": images}, signature="other")
        assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    with Client(target, "digits", label="stable") as client:
        assert client.predict({"image": images})["label"].shape == (8,)
    with Client(target, "digits", version=9) as client, pytest.raises(grpc.RpcError) as refused:
        client.predict({"image": images})
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
