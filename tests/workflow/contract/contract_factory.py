"""Contracts as their users write them, and what is said of their faults."""

import pytest
import yaml

from slipway.contract import read_contract
from slipway.errors import SettingsError


def small(**changes):
    """The shortest contract, as a user writes it, with what the test changes."""
    contract = {
        "format": 1,
        "signatures": {
            "serving_default": {
                "method": "predict",
                "inputs": {"x": {"shape": ["N", 4]}},
                "outputs": {"y": {"shape": ["N", 3]}, "kind": {"dtype": "int64", "shape": ["N"], "from": "argmax(y)"}},
            }
        },
    }
    return contract | changes


def with_default(**changes):
    contract = small()
    contract["signatures"]["serving_default"] |= changes
    return contract


def with_signature(**signature):
    contract = small()
    contract["signatures"]["other"] = signature
    return contract


def faults(contract, tmp_path):
    path = tmp_path / "contract.yaml"
    path.write_text(contract if isinstance(contract, str) else yaml.safe_dump(contract, sort_keys=False))
    with pytest.raises(SettingsError) as caught:
        read_contract(path)
    lines = str(caught.value).splitlines()
    assert all(line.startswith(f"{path}: ") for line in lines)
    return [line.removeprefix(f"{path}: ") for line in lines]
