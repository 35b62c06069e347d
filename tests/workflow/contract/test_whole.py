import copy
import json
import re
from pathlib import Path
from typing import get_args

import pytest
from tests.workflow.contract.contract_factory import faults, small, with_default

from slipway import op_policy
from slipway.contract import FORBIDDEN_OPS, Contract, forms, read_contract, signatures, tensors, whole, words
from slipway.errors import SettingsError

DOCUMENTATION = (Path(__file__).parents[3] / "docs/contract.md").read_text()
DIGITS = Path(__file__).parents[3] / "config/contracts/digits.yaml"


def test_the_digits_contract_reads_as_its_callers_need_it():
    contract = read_contract(DIGITS)

    assert contract.inputs_of("serving_default")["image"].sizes({"N": 2}) == (2, 8, 8, 1)
    assert contract.outputs_of("classify")["scores"].dtype == "float32"
    assert contract.outputs_of("classify")["classes"].shape == ("N", 10)
    assert [(r.name, r.method) for r in contract.signature_records()] == [
        ("serving_default", "predict"),
        ("classify", "classify"),
    ]
    assert contract.signature_records()[1].inputs[0].note == "tf.Example with image/raw (64 × float32)"


def test_a_users_contract_takes_ten_lines(tmp_path):
    path = tmp_path / "contract.yaml"
    path.write_text("""\
format: 1
signatures:
  serving_default:
    method: predict
    inputs:
      x: {shape: [N, 4]}
    outputs:
      y: {shape: [N, 3]}
""")

    contract = read_contract(path)

    assert contract.default.inputs["x"].dtype == "float32"
    assert contract.forbid_ops == FORBIDDEN_OPS


WRONG = {
    "unknown key": (
        small(tolerance=1),
        ["tolerance: unknown key; see config/contract.schema.json for those there are"],
    ),
    "accuracy of nothing": (
        small(golden={"min_accuracy": 0.9}),
        ["golden: min_accuracy needs `label`, the output that is compared with the labels"],
    ),
}


@pytest.mark.parametrize(("contract", "expected"), WRONG.values(), ids=WRONG)
def test_every_fault_is_a_line_of_its_own(contract, expected, tmp_path):
    assert faults(contract, tmp_path) == expected


def test_faults_of_several_keys_are_told_together(tmp_path):
    contract = with_default(inputs={"x": {"shape": ["N", 0], "dtype": "float31"}})

    lines = faults(contract, tmp_path)

    assert any(line.startswith("signatures.serving_default.predict.inputs.x.dtype: ") for line in lines)
    assert any(line.startswith("signatures.serving_default.predict.inputs.x.shape.1") for line in lines)


@pytest.mark.parametrize("text", ["signatures: [", "\tformat: 1"])
def test_what_is_not_yaml_is_told_with_its_line(text, tmp_path):
    (line,) = faults(text, tmp_path)

    assert line.startswith("not YAML: ")
    assert "line " in line


def test_a_missing_contract_names_the_key_that_names_it(tmp_path):
    with pytest.raises(SettingsError, match=r"no contract there .* names it"):
        read_contract(tmp_path / "none.yaml")


def change(contract, path, value):
    changed = copy.deepcopy(contract)
    at = changed
    for key in path[:-1]:
        at = at.setdefault(key, {})
    at[path[-1]] = value
    return Contract.model_validate(changed)


X = ("signatures", "serving_default", "inputs", "x")
Y = ("signatures", "serving_default", "outputs", "y")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("golden", "atol"), 1.0),
        (("golden", "min_accuracy"), None),
        (("doc",), "other words"),
        ((*X, "doc"), "other words"),
        ((*Y, "range"), [0, 1]),
        (("probe", "batch_sizes"), [3]),
        (("forbid_ops",), ["Conv2D"]),
        (("signatures", "classify"), {"method": "classify", "scores": "y"}),
    ],
)
def test_a_change_that_golden_data_do_not_depend_on_trains_nothing_again(path, value):
    assert change(small(), path, value).golden_part() == Contract.model_validate(small()).golden_part()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("golden", "rows"), 5),
        (("golden", "label"), "kind"),
        (("probe", "seed"), 5),
        (("max_rows",), 5),
        ((*X, "range"), [0, 2]),
        ((*X, "shape"), ["N", 5]),
        ((*Y, "from"), "softmax(z)"),
    ],
)
def test_a_change_that_golden_data_depend_on_makes_them_again(path, value):
    assert change(small(), path, value).golden_part() != Contract.model_validate(small()).golden_part()


def test_the_golden_part_is_json_in_a_fixed_order():
    part = Contract.model_validate(small()).golden_part()

    assert part == json.dumps(json.loads(part), sort_keys=True)


def keys_of(section):
    for name, field in section.model_fields.items():
        yield field.alias or name


@pytest.mark.parametrize("section", [
    Contract, whole.GoldenContract, whole.ProbeContract, signatures.PredictSignature, signatures.ClassifySignature,
    signatures.RegressSignature, signatures.Alias, tensors.InputContract, tensors.OutputContract, forms.ImageForm,
    forms.FeatureForm, forms.ExampleFeature, words.Words,
])  # fmt: skip
def test_every_key_is_in_the_documentation(section):
    assert [key for key in keys_of(section) if not re.search(rf"(`|\.|\b){key}(`|:)", DOCUMENTATION)] == []


def test_every_meaning_is_in_the_documentation():
    assert [one for one in get_args(tensors.Meaning) if f"| `{one}` |" not in DOCUMENTATION] == []


def test_every_op_that_draws_by_chance_is_forbidden():
    """An update of TensorFlow may bring new ones: decide on each."""
    speaks_of_chance = re.compile(
        "Random|Rng|CandidateSampler|Multinomial|TruncatedNormal|Shuffle|Stateful(Uniform|Standard)|Stateless(Random|Shuffle)"
    )
    # Make and delete generators, prepare keys, are gradients, or say where one integer goes in a permutation; queues are refused.
    draw_nothing = {
        *("AnonymousRandomSeedGenerator", "DeleteRandomSeedGenerator", "RandomGammaGrad", "RandomIndexShuffle"),
        *("RandomShuffleQueue", "RandomShuffleQueueV2"),
        *("StatelessRandomGetAlg", "StatelessRandomGetKeyCounter", "StatelessRandomGetKeyCounterAlg"),
    }
    drawing = {op for op in op_policy.known_ops() if speaks_of_chance.search(op)} - draw_nothing

    assert sorted(drawing) == list(FORBIDDEN_OPS)


def test_the_report_says_what_strings_hold():
    """A recommender's `examples: string [N]` would say nothing to whoever is to call it."""
    told = {
        (record.name, tensor.name): tensor.note
        for recipe in ("recommender", "ner")
        for record in read_contract(
            Path(__file__).parents[3] / f"config/recipes/{recipe}/contract.yaml"
        ).signature_records()
        for tensor in record.inputs
    }

    examples = "tf.Example with age (1 × float32, may be absent), cities (0 to 4 × string), gender (1 × string, may be absent), price (1 × float32), weekday (1 × string)"
    assert told["predict", "examples"] == told["regression", "inputs"] == examples
    assert told["characters", "characters"] == "words of a vocabulary of 42"
