from pathlib import Path

import pytest
import yaml
from tests.workflow.conftest import ROOT

from slipway.detection.advice import config_lines, model_name
from slipway.detection.detect import Found, detect
from slipway.settings import parse_settings


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a/Flowers.keras", "flowers"),
        ("a/My Model (2).weights.h5", "my_model_2"),
        ("ner/model.ckpt-157585", "ner"),
        ("ner/inception.ckpt-157585", "inception"),
        ("resnet/00000123", "resnet"),
        ("x/net.tar.gz", "net"),
        ("2020/1", "model"),
    ],
)
def test_a_model_is_named_after_its_file(path, name):
    assert model_name(Path(path)) == name


def test_the_lines_are_a_config(tmp_path):
    """They are what parse_settings takes, once the contract is there."""
    found = detect(ROOT / "tests/testdata/saved_model_half_plus_two_2_versions")

    lines = config_lines(found)

    assert len(lines.splitlines()) <= 10
    settings = parse_settings({"format": 1} | yaml.safe_load(lines))
    source = settings.models["saved_model_half_plus_two_2_versions"].versions[1].source
    assert (source.kind, source.path) == ("saved_model", found.path)


def test_what_must_be_filled_in_is_marked():
    found = Found("weights", Path("w.h5"), "weights", keys={"builder": "module:function that builds the model …"})

    assert config_lines(found).endswith("          builder: module:function that builds the model …\n")


def test_what_nothing_imports_has_no_lines():
    assert config_lines(Found("a model of ONNX", Path("m.onnx"))) == ""
