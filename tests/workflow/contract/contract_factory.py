"""Contracts as their users write them, and what is said of their faults."""

import copy

import pytest
import yaml

from slipway.contract import Contract, read_contract
from slipway.contract.changes import changes
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


# --- changes --------------------------------------------------------------------------------------

REMOVE = object()


def changed(base, *edits):
    """Copy a contract with values at `path/of/keys` set, or removed."""
    contract = copy.deepcopy(base)
    for path, value in edits:
        *keys, last = path.split("/")
        at = contract
        for key in keys:
            at = at.setdefault(key, {})
        if value is REMOVE:
            del at[last]
        else:
            at[last] = value
    return contract


def judged(old, new):
    return changes(Contract.model_validate(old), Contract.model_validate(new))


def edit(*edits):
    return [edits[i : i + 2] for i in range(0, len(edits), 2)]


def agrees(found, expected):
    return len(found) == len(expected) and all(f.startswith(e) for f, e in zip(found, expected, strict=True))
