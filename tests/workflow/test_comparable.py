import pytest
from tests.workflow.contract.contract_factory import small, with_default, with_signature

from slipway import comparable
from slipway.contract import Contract
from slipway_wire.tolerances import Tolerance

CHANCE, APART = {"deterministic": False}, {"row_independent": False}


def contract(given):
    return Contract.model_validate(given)


@pytest.mark.parametrize(("most", "rows", "expected"), [(None, 5, [5]), (2, 5, [2, 2, 1]), (8, 5, [5]), (5, 5, [5])])
def test_rows_are_asked_as_many_at_once_as_the_model_takes(most, rows, expected):
    found = comparable.parts(contract(small(max_rows=most)), rows)

    assert [part.stop - part.start for part in found] == expected
    assert [row for part in found for row in range(part.start, part.stop)] == list(range(rows))


@pytest.mark.parametrize(("given", "same_batches", "why"), [
    (small(), False, ""),
    (small(**CHANCE), True, "deterministic: false"),
    (with_default(**CHANCE), True, "deterministic: false"),
    (with_default(**CHANCE, **APART), False, "deterministic: false"),
    (small(**APART), True, ""),
    (with_default(**APART), False, "row_independent: false, and other rows were asked together"),
])  # fmt: skip
def test_what_cannot_be_compared_is_told(given, same_batches, why):
    assert comparable.why_not(contract(given), "serving_default", same_batches=same_batches) == why


def test_every_output_under_load_has_its_own_tolerance():
    given = with_signature(
        method="predict", inputs={"x": {"shape": ["N", 4]}}, outputs={"y": {"shape": ["N", 3]}}, **CHANCE
    )
    given["signatures"]["serving_default"]["outputs"]["y"] |= {"atol": 0.25}
    given["signatures"]["classify"] = {"method": "classify", "scores": "y"}

    found = comparable.under_load(contract(given), 64, 1)

    assert found.of("serving_default", "y") == Tolerance(0.25, 1e-4)
    assert found.of("serving_default", "kind") == found.default == Tolerance(1e-5, 1e-4)
    assert found.of("other", "y").any_value
    assert found.of("classify", "scores") == Tolerance(0.25, 1e-4)


@pytest.mark.parametrize(
    ("golden_rows", "rows", "any_value"), [(64, 1, True), (64, 32, True), (32, 32, False), (8, 8, False)]
)
def test_rows_that_see_each_other_are_compared_under_load_if_they_are_asked_as_golden_ones_were(
    golden_rows, rows, any_value
):
    found = comparable.under_load(contract(small(max_rows=32, **APART)), golden_rows, rows)

    assert found.of("serving_default", "y").any_value is any_value
