from tests.workflow import result_factory as factory

from slipway.report.sections.contract import contract


def test_signatures_are_told_as_the_contract_states_them():
    signatures = contract(factory.model_result()).blocks[0]

    assert [cell.text for cell in signatures.rows[0]] == [
        "serving_default",
        "predict",
        "image: float32 [N, 8, 8, 1]  0 white, 1 black",
        "probabilities: float32 [N, 10]",
    ]


def test_every_version_is_held_against_every_kind_of_demand():
    checks = contract(factory.model_result()).blocks[2]

    assert [[cell.text for cell in row[1:]] for row in checks.rows] == [["✓ 1 of 1"] * 2] * 3


def test_a_broken_promise_names_what_was_found():
    model = factory.model_result()
    first = model.versions[0]
    broken = first.validation.checks[0].model_copy(update={"ok": False, "expected": "float32", "found": "float64"})
    validation = first.validation.model_copy(update={"checks": [broken]})
    versions = [first.model_copy(update={"validation": validation}), model.versions[1]]
    blocks = contract(model.model_copy(update={"versions": versions})).blocks

    assert blocks[2].rows[0][1].text == "✕ 0 of 1"
    assert blocks[3].items == (("version 1", "serving_default.inputs.image: expected float32, found float64"),)
