import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from slipway import cli, files, schema

ROOT = Path(__file__).parents[2]
COMMITTED = {
    "config/config.schema.json": schema.config_schema,
    "config/contract.schema.json": schema.contract_schema,
    "docs/result.schema.json": schema.result_schema,
}


@pytest.mark.parametrize("path", COMMITTED)
def test_the_committed_schema_is_the_one_the_models_give(path):
    assert (ROOT / path).read_bytes() == files.canonical_json(COMMITTED[path]()), "run `make schemas` and commit"


@pytest.mark.parametrize("path", COMMITTED)
def test_each_is_a_schema_of_the_dialect_it_names(path):
    written = json.loads((ROOT / path).read_text())

    jsonschema.Draft202012Validator.check_schema(written)
    assert written["$schema"] == schema.DIALECT


def as_editors_see_it(path: Path):
    """YAML with keys as strings, as JSON Schema has it."""
    return json.loads(json.dumps(yaml.safe_load(path.read_text())))


def test_the_default_config_and_contract_satisfy_their_schemas():
    jsonschema.validate(as_editors_see_it(ROOT / "config/config.yaml"), schema.config_schema())
    for contract in (ROOT / "config/contracts").glob("*.yaml"):
        jsonschema.validate(as_editors_see_it(contract), schema.contract_schema())


def test_a_misspelt_key_is_a_fault_in_the_editor():
    config = as_editors_see_it(ROOT / "config/config.yaml")
    config["benchmark"]["windows"] = 3

    with pytest.raises(jsonschema.ValidationError, match="windows"):
        jsonschema.validate(config, schema.config_schema())


def test_the_command_writes_what_it_was_asked_for(tmp_path):
    config, result = tmp_path / "made" / "c.json", tmp_path / "r.json"

    assert cli.main(["schema", "--config", str(config), "--result", str(result)]) == 0
    assert json.loads(config.read_text())["title"] == "Slipway config"
    assert json.loads(result.read_text())["title"] == "Slipway result"
