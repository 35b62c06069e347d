import sys
from pathlib import Path

import numpy as np
import pytest
from tests.workflow.graphs.graph_factory import const, graph, node, placeholder

from slipway import contract_sources
from slipway.errors import SourceError
from slipway.parsed_examples import Feature

TESTDATA = Path(__file__).parents[1] / "testdata"


def test_a_saved_model_says_what_it_takes_gives_and_parses():
    found = contract_sources.read(TESTDATA / "saved_model_half_plus_two_cpu")

    default = found.signatures["serving_default"]
    assert (default.method, default.inputs["x"].shape, default.outputs["y"].op) == (
        "tensorflow/serving/predict",
        (None, 1),
        "Add",
    )
    assert [feature.name for feature in found.signatures["regress_x_to_y"].features] == ["x", "x2"]
    assert found.source == {"kind": "saved_model", "path": str(TESTDATA / "saved_model_half_plus_two_cpu/00000123")}


def test_functions_are_looked_through(exported):
    found = contract_sources.read(exported.export)

    made = {name: tensor.op for name, tensor in found.signatures["serving_default"].outputs.items()}
    assert made == {"label": "ArgMax", "logits": "BiasAdd", "probabilities": "Softmax"}
    assert found.signatures["classify"].features == (Feature("image/raw", "float32", (8, 8, 1)),)
    assert found.remarks == ()


def test_what_the_op_policy_refuses_is_remarked():
    found = contract_sources.read(TESTDATA / "saved_model_counter")

    assert any("op AssignAdd (node incr_counter_op/AssignAdd) changes the model" in remark for remark in found.remarks)


@pytest.mark.parametrize(("name", "content", "said"), [
    ("nowhere", None, "there is nothing at this path"),
    ("m.index", b"", "m: a checkpoint holds weights and no signatures"),
    ("saved_model.pb", b"\xff\xff", "not a SavedModel, or damaged"),
])  # fmt: skip
def test_what_has_no_signatures_is_one_line(name, content, said, tmp_path):
    place = tmp_path / name
    if content is not None:
        place.write_bytes(content)
    if name == "saved_model.pb":
        place = tmp_path
    elif name.endswith(".index"):
        place = place.with_suffix("")

    with pytest.raises(SourceError) as caught:
        contract_sources.read(place)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_graph_that_would_run_as_it_is_imported_is_refused_before_tensorflow(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    reads = graph(placeholder("x"), const("path", np.array(b"/etc/passwd", object)), node("r", "ReadFile", "path"))
    (tmp_path / "m.pb").write_bytes(reads.SerializeToString())

    with pytest.raises(SourceError, match=r"m\.pb: op ReadFile \(node r\) reads files of the machine that serves"):
        contract_sources.read(tmp_path / "m.pb")
