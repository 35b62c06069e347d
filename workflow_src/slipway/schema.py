"""Write the JSON Schemas of the config, of contracts and of result.json, for editors and other programs."""

import argparse
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from slipway import files
from slipway.contract import Contract
from slipway.records import Result
from slipway.settings import Settings

# https://json-schema.org/draft/2020-12: the dialect that pydantic generates.
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def config_schema() -> dict[str, Any]:
    """Describe config.yaml, as a user writes it."""
    return {"$schema": DIALECT} | _described(Settings, "Slipway config")


def contract_schema() -> dict[str, Any]:
    """Describe a contract, as a user writes it."""
    return {"$schema": DIALECT} | _described(Contract, "Slipway contract")


def result_schema() -> dict[str, Any]:
    """Describe result.json, as Slipway writes it: every key is there."""
    schema = Result.model_json_schema(mode="serialization")
    return {"$schema": DIALECT} | schema | {"title": "Slipway result"}


def _described(model: type[BaseModel], title: str) -> dict[str, Any]:
    return model.model_json_schema() | {"title": title}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare where each schema goes."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="write the schema of config.yaml here")
    parser.add_argument("--contract", type=Path, metavar="FILE", help="write the schema of contracts here")
    parser.add_argument("--result", type=Path, metavar="FILE", help="write the schema of result.json here")


def run(arguments: argparse.Namespace) -> None:
    """Write the schemas that were asked for."""
    wanted = {
        arguments.config: config_schema,
        arguments.contract: contract_schema,
        arguments.result: result_schema,
    }
    for path, schema in wanted.items():
        if path is not None:
            files.write_json(path, schema())
