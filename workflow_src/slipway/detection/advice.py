"""The lines of YAML that import what was found."""

import re
from pathlib import Path
from typing import Any

import yaml

from slipway.detection.detect import Found


def model_name(path: Path) -> str:
    """Make a model's name of what a path is called: lower case, without endings and step."""
    name = re.sub(r"(\.(ckpt|keras|h5|hdf5|weights|pb|pbtxt|tar|gz|tgz|zst|zip))+(-\d+)?\Z", "", path.name.lower())
    if name.isdigit() or name in {"", "model", "checkpoint", "frozen", "saved_model", "variables"}:  # says nothing
        name = path.resolve().parent.name.lower()
    name = re.sub(r"[^a-z0-9_-]+", "_", re.sub(r"-\d+\Z", "", name)).strip("_-")[:63]
    return name if re.match(r"[a-z]", name) else "model"


def source_yaml(found: Found) -> dict[str, Any]:
    """Give the `source` of what was found, as it stands in the config; keys to be filled in end with `…`."""
    return {"kind": found.kind, "path": str(found.path)} | found.keys


def config_lines(found: Found) -> str:
    """Give the lines of config.yaml that import what was found, or "" where nothing does."""
    if found.kind is None:
        return ""
    name = model_name(found.path)
    model = {"contract": f"config/contracts/{name}.yaml", "versions": {1: {"source": source_yaml(found)}}}
    text = yaml.safe_dump({"models": {name: model}}, sort_keys=False, allow_unicode=True, width=120)
    return str(re.sub(r"'(\w[^']*…)'", r"\1", text))
