from pathlib import Path

import pytest
from tests.workflow.contract.contract_factory import REMOVE, agrees, changed, edit, judged
from tests.workflow.contract.test_changed_forms import FORM_CASES, FORMS, PARSING, PICTURES

from slipway.contract import Contract, forms, read_contract, signatures, tensors, whole, words
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
    "rows of outputs": (
        edit("signatures/plain/batched", False, "signatures/plain/outputs/b/shape", [2]),
        ["breaking: signatures.plain.batched: changed: true → false; outputs get or lose the rows that callers read them by",
         "breaking: signatures.plain.outputs.b.shape: rank changed: [N, 2] → [2]"],
        ["breaking: signatures.plain.batched: changed: false → true",
         "breaking: signatures.plain.outputs.b.shape: rank changed: [2] → [N, 2]"],
    ),
    "a relative tolerance": (
        edit(f"{S}/outputs/each/rtol", 0.01),
        ["breaking: signatures.serving_default.outputs.each.rtol: tolerance: 0.0001 → 0.01; answers may be further off"],
        ["compatible: signatures.serving_default.outputs.each.rtol: tolerance: 0.01 → 0.0001"],
    ),
    "what labels are compared with": (
        edit("golden/label", "z"),
        ["breaking: golden.label: output that labels are compared with: y → z"],
        ["breaking: golden.label: output that labels are compared with: z → y"],
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
            "documentation: signatures.serving_default.inputs.kind.values: values to draw from: [a, b] → [b]",
            "documentation: signatures.serving_default.outputs.y.doc: text changed: none → how likely",
        ],
        [
            "documentation: doc: text changed: Tells flowers. → Tells flowers apart.",
            "documentation: signatures.serving_default.inputs.kind.values: values to draw from: [b] → [a, b]",
            "documentation: signatures.serving_default.outputs.y.doc: text changed: how likely → none",
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


@pytest.mark.parametrize(("edits", "there", "back"), CASES.values(), ids=CASES)
def test_every_change_is_judged_there_and_back(edits, there, back):
    new = changed(BASE, *edits)

    for old, now, expected in ((BASE, new, there), (new, BASE, back)):
        lines = [change.line() for change in judged(old, now)]
        assert agrees(lines, expected), lines


def _keys(section, path=()):
    """Name every key of the grammar, by the model that has it."""
    for name, field in section.model_fields.items():
        yield section.__name__, field.alias or name


SECTIONS = (
    whole.Contract, whole.GoldenContract, signatures.PredictSignature, signatures.ClassifySignature,
    signatures.RegressSignature, tensors.InputContract, tensors.OutputContract, forms.ImageForm, forms.FeatureForm,
    forms.ExampleFeature, words.Vocabulary,
)  # fmt: skip
# `file` and `digest` are the same words in another place; `format` has one value, `probe` its own tests.
ELSEWHERE = {("Vocabulary", "file"), ("Vocabulary", "digest"), ("Contract", "format"), ("Contract", "probe")}


def test_no_key_of_the_grammar_is_forgotten():
    """A key that is new must be judged: each stands in a case above, as what is edited or within it."""
    edited = set()

    def walk(path, value):
        edited.update(path.split("/"))
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(key, inner)

    for edits in (*(case[0] for case in CASES.values()), *(case[1] for case in FORM_CASES.values())):
        for path, value in edits:
            walk(path, value)
    forgotten = [key for section in SECTIONS for key in _keys(section) if key not in ELSEWHERE and key[1] not in edited]

    assert not forgotten, forgotten


def test_equal_contracts_do_not_differ():
    for contract in (
        Contract.model_validate(BASE),
        *map(Contract.model_validate, (FORMS, PICTURES, PARSING)),
        read_contract(DIGITS),
    ):
        assert changes(contract, contract) == []


def test_the_worst_comes_first():
    new = changed(
        BASE, ("doc", "x"), (f"{S}/outputs/new", {"shape": ["N"]}), (f"{S}/outputs/y", REMOVE), ("golden", {})
    )
    found = judged(BASE, new)

    assert [change.kind for change in found] == sorted((change.kind for change in found), key=KINDS.index)
    assert breaking(found) == [change for change in found if change.kind == "breaking"] != []
