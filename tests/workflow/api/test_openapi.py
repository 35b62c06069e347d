import json
import math

import jsonschema
import openapi_spec_validator
import pytest
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012
from tests.workflow import served_models as served

from slipway.api import openapi
from slipway.api.calls import Call, calls
from slipway.contract import Contract


def document(contract, called, model="digits"):
    made = openapi.document(contract, called, model=model, version=2, address="localhost:8501")
    return json.loads(openapi.dump(made))


@pytest.fixture(scope="module")
def described(digits):
    return document(served.digits_contract(), list(digits.values()))


def validator(described, schema):
    resource = Resource(described, DRAFT202012)
    registry = Registry().with_resource("urn:api", resource)
    return jsonschema.Draft202012Validator(
        {"$ref": f"urn:api{schema['$ref']}"}
        if "$ref" in schema
        else {"anyOf": [{"$ref": f"urn:api{one['$ref']}"} for one in schema["anyOf"]]},
        registry=registry,
    )


def test_it_is_openapi_3_1(described):
    openapi_spec_validator.validate(described)

    assert described["openapi"].startswith("3.1.")


def test_what_callers_cannot_count_on_is_told(digits):
    def told(**promises):
        made = document(Contract.model_validate(served.DIGITS | promises), list(digits.values()))
        return made["paths"]["/v1/models/digits:predict"]["post"]["description"]

    assert "by chance" in told(deterministic=False)
    assert "the same bits" in told(deterministic="bitwise")
    assert "Rows of one request see each other" in told(row_independent=False)
    assert "At most 8 rows in a request" in told(max_rows=8)
    assert "(" not in told()


def test_it_has_every_route_of_the_model(described):
    forms = ("", "/versions/{version}", "/labels/{label}")
    ends = (":predict", ":classify", ":regress", "", "/metadata")

    assert set(described["paths"]) == {f"/v1/models/digits{form}{end}" for form in forms for end in ends}
    operations = [
        o["operationId"] for item in described["paths"].values() for k, o in item.items() if k != "parameters"
    ]
    assert len(operations) == len(set(operations)) == 15


@pytest.mark.parametrize("verb", ["predict", "classify", "regress"])
def test_every_example_fits_its_schema(described, verb):
    post = described["paths"][f"/v1/models/digits:{verb}"]["post"]

    for where in (post["requestBody"], post["responses"]["200"]):
        content = where["content"]["application/json"]
        assert content["examples"]
        for example in content["examples"].values():
            validator(described, content["schema"]).validate(example["value"])


def test_faults_have_the_status_of_the_servers_own_table(described):
    responses = described["paths"]["/v1/models/digits:predict"]["post"]["responses"]

    assert set(responses) == {"200", "400", "401", "404", "429", "500", "501", "503", "504"}
    assert "FAILED_PRECONDITION" in described["components"]["responses"]["INVALID_ARGUMENT"]["description"]
    assert "Retry-After" in described["components"]["responses"]["UNAVAILABLE"]["headers"]


def test_a_model_that_json_cannot_carry_keeps_its_state(golden):
    contract = served.types_contract({"serving_default": ("uint16", ["x"], ["y"])})
    made = document(contract, calls(contract, golden, "types"), "types")

    openapi_spec_validator.validate(made)
    assert not any(path.endswith(":predict") for path in made["paths"])
    assert "/v1/models/types/metadata" in made["paths"]
    assert (
        "Over gRPC only, because JSON has no form for a dtype of theirs: serving_default."
        in made["info"]["description"]
    )


def test_an_example_that_is_large_or_no_strict_json_is_named_by_its_file(golden):
    image = golden.inputs["image"].copy()
    image[0, 0] = math.nan
    contract = served.digits_contract()
    many = Call("digits", "serving_default", "predict", {"image": golden.inputs["image"].repeat(20, axis=0)}, None)
    for call in (many, Call("digits", "serving_default", "predict", {"image": image}, None)):
        made = document(contract, [call])
        openapi_spec_validator.validate(made)
        examples = made["paths"]["/v1/models/digits:predict"]["post"]["requestBody"]["content"]["application/json"][
            "examples"
        ]
        assert examples["serving_default.row"]["externalValue"] == "requests/serving_default.row.json"


def test_lists_of_numbers_are_written_in_one_line():
    written = openapi.dump({"a": [[1, 2], [3, 4]], "b": [{"c": []}], "d": {}}).decode()

    assert json.loads(written) == {"a": [[1, 2], [3, 4]], "b": [{"c": []}], "d": {}}
    assert '"a": [[1, 2], [3, 4]]' in written
