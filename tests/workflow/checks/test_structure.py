import pytest
import yaml

from slipway.checks.structure import check_policy, check_structure
from slipway.contract import Contract
from slipway_wire import signatures


@pytest.fixture(scope="module")
def promised(exported):
    return yaml.safe_load(exported.contract.read_text())


def failed(contract, exported):
    checks = check_structure(Contract.model_validate(contract), exported.export)
    return {check.subject: (check.expected, check.found) for check in checks if not check.ok}


def changed(contract, signature=None, **sections):
    signatures = contract["signatures"] | ({} if signature is None else signature)
    return contract | {"signatures": {k: v for k, v in signatures.items() if v is not None}} | sections


def default(contract, **sides):
    signature = contract["signatures"]["serving_default"]
    merged = {side: {k: v for k, v in (signature[side] | new).items() if v is not None} for side, new in sides.items()}
    return changed(contract, {"serving_default": signature | merged})


def test_an_export_has_the_structure_of_its_contract(promised, exported):
    checks = check_structure(Contract.model_validate(promised), exported.export)

    assert all(check.ok for check in checks)
    assert len(checks) >= 20


DEPARTURES = {
    "a signature too many": (
        lambda c: changed(c, {"classify": None}),
        {"signatures": ("serving_default", "classify, serving_default")},
    ),
    "a signature too few": (
        lambda c: changed(c, {"rate": {"method": "classify", "scores": "logits"}}),
        {"signatures": ("classify, rate, serving_default", "classify, serving_default")},
    ),
    "another method": (
        lambda c: changed(c, {"classify": c["signatures"]["serving_default"]}),
        {
            "classify.method": ("tensorflow/serving/predict", "tensorflow/serving/classify"),
            "classify.inputs": ("image", "inputs"),
            "classify.outputs": ("label, logits, probabilities", "classes, scores"),
        },
    ),
    "another input name": (
        lambda c: default(
            changed(c, {"classify": {"method": "classify", "scores": "probabilities"}}),
            inputs={"image": None, "images": {"shape": ["N", 8, 8, 1]}},
        ),
        {"serving_default.inputs": ("images", "image")},
    ),
    "another dtype": (
        lambda c: default(c, outputs={"label": {"dtype": "int32", "shape": ["N"], "from": "argmax(logits)"}}),
        {"serving_default.outputs.label.dtype": ("DT_INT32", "DT_INT64")},
    ),
    "another size": (
        lambda c: default(c, outputs={"logits": {"shape": ["N", 11]}}),
        {"serving_default.outputs.logits.shape": ("[N, 11]", "[?, 10]")},
    ),
    "a size that should vary": (
        lambda c: default(c, outputs={"logits": {"shape": ["N", "K"]}}) | {"probe": {"dims": {"K": 10}}},
        {"serving_default.outputs.logits.shape": ("[N, K]", "[?, 10]")},
    ),
    "another rank": (
        lambda c: default(c, outputs={"label": {"dtype": "int64", "shape": ["N", 1], "from": "argmax(logits)"}}),
        {"serving_default.outputs.label.shape": ("[N, 1]", "[?]")},
    ),
}


@pytest.mark.parametrize(("change", "expected"), DEPARTURES.values(), ids=DEPARTURES)
def test_every_departure_is_told_by_what_was_expected_and_found(change, expected, promised, exported):
    assert failed(change(promised), exported) == expected


def test_forbidden_ops_are_found_inside_functions(promised, exported):
    found = failed(changed(promised, forbid_ops=["Conv2D", "PyFunc"]), exported)

    assert set(found) == {"serving_default.ops", "classify.ops"}
    assert found["serving_default.ops"][1].startswith("Conv2D (")


def test_a_directory_without_a_savedmodel_is_one_failed_check(promised, tmp_path):
    (check,) = check_structure(Contract.model_validate(promised), tmp_path)

    assert not check.ok
    assert "saved_model.pb: not there" in check.line()


@pytest.mark.parametrize("content", [b"", b"\xff\xff\xff", b"not a SavedModel"])
def test_another_file_is_one_failed_check(content, promised, tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(content)

    (check,) = check_structure(Contract.model_validate(promised), tmp_path)

    assert not check.ok


def test_what_is_allowed_is_told_with_its_reason(promised, exported):
    """Whoever reads the report sees what the policy let pass, and why; an op that is not there needs no word."""
    meta_graph = signatures.find_meta_graph(signatures.read_saved_model(exported.export))
    meta_graph.graph_def.node.add(name="note", op="PrintV2")
    start = meta_graph.signature_def["serving_default"].outputs["logits"].name
    next(node for node in meta_graph.graph_def.node if node.name == start.split(":")[0]).input.append("^note")
    allowed = {"PrintV2": "its operators read it", "ReadFile": "another model needs it"}

    checks = {check.subject: check for check in check_policy(meta_graph, allowed)}

    assert checks["serving_default.op_policy"].found == "none but what is allowed: PrintV2 (its operators read it)"
    assert checks["classify.op_policy"].found == "none"
    assert [check.subject for check in check_policy(meta_graph, {}) if not check.ok] == ["serving_default.op_policy"]
