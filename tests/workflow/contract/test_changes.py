import copy
from pathlib import Path

import pytest

from slipway.contract import Contract, read_contract
from slipway.contract.changes import KINDS, breaking, changes

DIGITS = Path(__file__).parents[3] / "config/contracts/digits.yaml"
BASE = {
    "format": 1,
    "doc": "Tells flowers apart.",
    "signatures": {
        "serving_default": {
            "method": "predict",
            "inputs": {
                "x": {"shape": ["N", "T", 4], "range": [0, 1], "units": "cm"},
                "kind": {"dtype": "string", "shape": ["N", "K"], "values": ["a", "b"]},
            },
            "outputs": {
                "y": {"shape": ["N", 3], "range": [0, 1], "row_sum": 1, "meaning": "probability", "from": "softmax(z)"},
                "z": {"shape": ["N", 3], "meaning": "logits"},
                "each": {"shape": ["N", "T"], "atol": 0.1},
            },
        },
        "plain": {"method": "predict", "inputs": {"a": {"shape": ["N", 2]}}, "outputs": {"b": {"shape": ["N", 2]}}},
    },
    "golden": {"label": "y", "min_accuracy": 0.9, "atol": 1e-5},
    "probe": {"dims": {"T": 3, "K": 2}},
    "max_rows": 32,
    "row_independent": True,
}
S = "signatures/serving_default"
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


# What is edited -> what is said of it, and what of taking it back.
CASES = {
    "an input without default": (
        edit(f"{S}/inputs/age", {"shape": ["N"]}),
        ["breaking: signatures.serving_default.inputs.age: input added, which callers must send"],
        ["breaking: signatures.serving_default.inputs.age: input removed"],
    ),
    "an output": (
        edit(f"{S}/outputs/extra", {"shape": ["N"]}),
        ["compatible: signatures.serving_default.outputs.extra: output added"],
        ["breaking: signatures.serving_default.outputs.extra: output removed"],
    ),
    "a signature": (
        edit("signatures/more", BASE["signatures"]["plain"]),
        ["compatible: signatures.more: signature added"],
        ["breaking: signatures.more: signature removed"],
    ),
    "a dtype": (
        edit(f"{S}/outputs/each/dtype", "float64"),
        ["breaking: signatures.serving_default.outputs.each.dtype: dtype changed: float32 → float64"],
        ["breaking: signatures.serving_default.outputs.each.dtype: dtype changed: float64 → float32"],
    ),
    "a rank": (
        edit("signatures/plain/inputs/a/shape", ["N", 2, 1]),
        ["breaking: signatures.plain.inputs.a.shape: rank changed: [N, 2] → [N, 2, 1]"],
        ["breaking: signatures.plain.inputs.a.shape: rank changed: [N, 2, 1] → [N, 2]"],
    ),
    "a fixed size": (
        edit("signatures/plain/outputs/b/shape", ["N", 5]),
        ["breaking: signatures.plain.outputs.b.shape: sizes changed: [N, 2] → [N, 5]"],
        ["breaking: signatures.plain.outputs.b.shape: sizes changed: [N, 5] → [N, 2]"],
    ),
    "an input's size that becomes free": (
        edit("signatures/plain/inputs/a/shape", ["N", "L"], "probe/dims", {"T": 3, "K": 2, "L": 4}),
        [
            "compatible: signatures.plain.inputs.a.shape: sizes changed: [N, 2] → [N, L]",
            "documentation: probe: how it is tested",
        ],
        [
            "breaking: signatures.plain.inputs.a.shape: sizes changed: [N, L] → [N, 2]",
            "documentation: probe: how it is tested",
        ],
    ),
    "an output's size that becomes free": (
        edit("signatures/plain/outputs/b/shape", ["N", "T"]),
        ["breaking: signatures.plain.outputs.b.shape: sizes changed: [N, 2] → [N, T]"],
        ["compatible: signatures.plain.outputs.b.shape: sizes changed: [N, T] → [N, 2]"],
    ),
    "a symbol's name": (
        edit(f"{S}/inputs/kind/shape", ["N", "L"], "probe/dims", {"T": 3, "L": 2}),
        ["documentation: probe: how it is tested", "documentation: signatures.serving_default.L: size called otherwise: K → L"],
        ["documentation: probe: how it is tested", "documentation: signatures.serving_default.K: size called otherwise: L → K"],
    ),
    "sizes that must agree": (
        edit(f"{S}/inputs/kind/shape", ["N", "T"], "probe/dims", {"T": 3}),
        [
            "breaking: signatures.serving_default.T: sizes that were free must agree: T, K → T",
            "documentation: probe: how it is tested",
        ],
        ["documentation: probe: how it is tested", "documentation: signatures.serving_default.K: size called otherwise: T → K"],
    ),
    "a wider range of an input": (
        edit(f"{S}/inputs/x/range", [-1, 2]),
        ["compatible: signatures.serving_default.inputs.x.range: range of what is taken: [0, 1] → [-1, 2]"],
        ["breaking: signatures.serving_default.inputs.x.range: range of what is taken: [-1, 2] → [0, 1]"],
    ),
    "an input's first range": (
        edit("signatures/plain/inputs/a/range", [0, 1]),
        ["breaking: signatures.plain.inputs.a.range: range of what is taken: none → [0, 1]"],
        ["compatible: signatures.plain.inputs.a.range: range of what is taken: [0, 1] → none"],
    ),
    "an output's first range": (
        edit("signatures/plain/outputs/b/range", [0, 1]),
        ["compatible: signatures.plain.outputs.b.range: range of answers: none → [0, 1]"],
        ["breaking: signatures.plain.outputs.b.range: range of answers: [0, 1] → none"],
    ),
    "a range that moves": (
        edit(f"{S}/inputs/x/range", [0.5, 2]),
        ["breaking: signatures.serving_default.inputs.x.range: range of what is taken: [0, 1] → [0.5, 2]"],
        ["breaking: signatures.serving_default.inputs.x.range: range of what is taken: [0.5, 2] → [0, 1]"],
    ),
    "units": (
        edit(f"{S}/inputs/x/units", "inch"),
        ["breaking: signatures.serving_default.inputs.x.units: units: cm → inch"],
        ["breaking: signatures.serving_default.inputs.x.units: units: inch → cm"],
    ),
    "units that were not said": (
        edit("signatures/plain/inputs/a/units", "cm"),
        ["documentation: signatures.plain.inputs.a.units: units: none → cm"],
        ["breaking: signatures.plain.inputs.a.units: units: cm → none"],
    ),
    "a meaning": (
        edit(f"{S}/outputs/z/meaning", "score"),
        ["breaking: signatures.serving_default.outputs.z.meaning: meaning: logits → score"],
        ["breaking: signatures.serving_default.outputs.z.meaning: meaning: score → logits"],
    ),
    "a sum": (
        edit(f"{S}/outputs/y/row_sum", REMOVE),
        ["breaking: signatures.serving_default.outputs.y.row_sum: sum of the last axis: 1 → none"],
        ["compatible: signatures.serving_default.outputs.y.row_sum: sum of the last axis: none → 1"],
    ),
    "another function": (
        edit(f"{S}/outputs/y/from", "sigmoid(z)"),
        ["breaking: signatures.serving_default.outputs.y.from: made otherwise: softmax(z) → sigmoid(z)"],
        ["breaking: signatures.serving_default.outputs.y.from: made otherwise: sigmoid(z) → softmax(z)"],
    ),
    "another tensor of the model": (
        edit("signatures/plain/outputs/b/from", "dense_7"),
        ["compatible: signatures.plain.outputs.b.from: made otherwise: none → dense_7"],
        ["compatible: signatures.plain.outputs.b.from: made otherwise: dense_7 → none"],
    ),
    "a looser tolerance for all": (
        edit("golden/atol", 0.5),
        [
            "breaking: signatures.plain.outputs.b.atol: tolerance: 1e-05 → 0.5",
            "breaking: signatures.serving_default.outputs.y.atol: tolerance: 1e-05 → 0.5",
            "breaking: signatures.serving_default.outputs.z.atol: tolerance: 1e-05 → 0.5",
        ],
        [
            "compatible: signatures.plain.outputs.b.atol: tolerance: 0.5 → 1e-05",
            "compatible: signatures.serving_default.outputs.y.atol: tolerance: 0.5 → 1e-05",
            "compatible: signatures.serving_default.outputs.z.atol: tolerance: 0.5 → 1e-05",
        ],
    ),
    "a tighter tolerance of one": (
        edit(f"{S}/outputs/each/atol", 0.01),
        ["compatible: signatures.serving_default.outputs.each.atol: tolerance: 0.1 → 0.01"],
        ["breaking: signatures.serving_default.outputs.each.atol: tolerance: 0.01 → 0.1"],
    ),
    "accuracy": (
        edit("golden/min_accuracy", 0.8),
        ["breaking: golden.min_accuracy: least accuracy: 0.9 → 0.8"],
        ["compatible: golden.min_accuracy: least accuracy: 0.8 → 0.9"],
    ),
    "accuracy at all": (
        edit("golden/min_accuracy", REMOVE),
        ["breaking: golden.min_accuracy: least accuracy: 0.9 → none"],
        ["compatible: golden.min_accuracy: least accuracy: none → 0.9"],
    ),
    "most rows": (
        edit("max_rows", REMOVE),
        ["compatible: max_rows: most rows at once: 32 → none"],
        ["breaking: max_rows: most rows at once: none → 32"],
    ),
    "rows that see each other": (
        edit(f"{S}/row_independent", False),
        ["breaking: signatures.serving_default.row_independent: whether rows are answered apart: true → false"],
        ["compatible: signatures.serving_default.row_independent: whether rows are answered apart: false → true"],
    ),
    "determinism": (
        edit("deterministic", "bitwise"),
        [
            "compatible: signatures.plain.deterministic: what the same question gets twice: within_tolerance → bitwise",
            "compatible: signatures.serving_default.deterministic: what the same question gets twice: within_tolerance →",
        ],
        [
            "breaking: signatures.plain.deterministic: what the same question gets twice: bitwise → within_tolerance",
            "breaking: signatures.serving_default.deterministic: what the same question gets twice: bitwise → within",
        ],
    ),
    "words for people": (
        edit("doc", "Tells flowers.", f"{S}/outputs/y/doc", "how likely", f"{S}/inputs/kind/values", ["b"]),
        [
            "documentation: doc: text changed: Tells flowers apart. → Tells flowers.",
            "documentation: signatures.serving_default.inputs.kind.values: changed: [a, b] → [b]",
            "documentation: signatures.serving_default.outputs.y.doc: changed: none → how likely",
        ],
        [
            "documentation: doc: text changed: Tells flowers. → Tells flowers apart.",
            "documentation: signatures.serving_default.inputs.kind.values: changed: [b] → [a, b]",
            "documentation: signatures.serving_default.outputs.y.doc: changed: how likely → none",
        ],
    ),
    "how it is tested": (
        edit("golden/rows", 7, "forbid_ops", ["Conv2D"], "allow_ops", {"Print": "wanted"}),
        ["documentation: allow_ops: how it is tested", "documentation: forbid_ops: how it is tested",
         "documentation: golden.rows: how it is tested: 64 → 7"],
        ["documentation: allow_ops: how it is tested", "documentation: forbid_ops: how it is tested",
         "documentation: golden.rows: how it is tested: 7 → 64"],
    ),
}  # fmt: skip


def agrees(found, expected):
    return len(found) == len(expected) and all(f.startswith(e) for f, e in zip(found, expected, strict=True))


@pytest.mark.parametrize(("edits", "there", "back"), CASES.values(), ids=CASES)
def test_every_change_is_judged_there_and_back(edits, there, back):
    new = changed(BASE, *edits)

    for old, now, expected in ((BASE, new, there), (new, BASE, back)):
        lines = [change.line() for change in judged(old, now)]
        assert agrees(lines, expected), lines


EXAMPLES = changed(
    BASE,
    (f"{S}/inputs", {"x": {"shape": ["N", 4]}}),
    (f"{S}/outputs/each", REMOVE),
    ("probe/dims", {}),
    ("signatures/classify", {"method": "classify", "scores": "y", "classes": ["rose", "tulip", "daisy"]}),
)
CLASSIFY = "signatures/classify"


@pytest.mark.parametrize(("edits", "expected"), [
    (edit(f"{CLASSIFY}/classes", ["tulip", "rose", "daisy"]),
     ["breaking: signatures.classify.classes[0]: classes reordered: rose → tulip"]),
    (edit(f"{CLASSIFY}/classes", ["rose", "tulip", "iris"]),
     ["breaking: signatures.classify.classes: classes changed (3 → 3): daisy → iris"]),
    (edit(f"{CLASSIFY}/classes", REMOVE), ["breaking: signatures.classify.classes: classes changed: [rose, tulip, daisy] → none"]),
    (edit(f"{CLASSIFY}/features", {"x": "flower/x"}),
     ["breaking: signatures.classify.features.x: feature that carries the input: x → flower/x"]),
    (edit(f"{CLASSIFY}/features", {"x": "x"}), []),
    (edit(CLASSIFY, {"method": "regress", "value": "v"}, f"{S}/outputs/v", {"shape": ["N"]}),
     ["breaking: signatures.classify.method: method changed: classify → regress",
      "compatible: signatures.serving_default.outputs.v: output added"]),
])  # fmt: skip
def test_what_examples_carry_and_what_scores_stand_for(edits, expected):
    assert [change.line() for change in judged(EXAMPLES, changed(EXAMPLES, *edits))] == expected


def test_other_scores_break_however_alike_they_are():
    lines = [change.line() for change in judged(EXAMPLES, changed(EXAMPLES, (f"{CLASSIFY}/scores", "z")))]

    assert "breaking: signatures.classify.scores: changed: y → z" in lines


def test_equal_contracts_do_not_differ():
    for contract in (Contract.model_validate(BASE), Contract.model_validate(EXAMPLES), read_contract(DIGITS)):
        assert changes(contract, contract) == []


def test_the_worst_comes_first():
    new = changed(
        BASE, ("doc", "x"), (f"{S}/outputs/new", {"shape": ["N"]}), (f"{S}/outputs/y", REMOVE), ("golden", {})
    )
    found = judged(BASE, new)

    assert [change.kind for change in found] == sorted((change.kind for change in found), key=KINDS.index)
    assert breaking(found) == [change for change in found if change.kind == "breaking"] != []
