import pytest
from tests.workflow import served_models

from slipway.contract import Contract
from slipway.contract.backends import check_backend, compile_faults
from slipway.errors import SettingsError
from slipway.settings import ServerSettings

STABLEHLO = ServerSettings(backend="stablehlo")
DEFAULT = served_models.DIGITS["signatures"]["serving_default"]


def contract(**signatures):
    dims = {"probe": {"dims": {"T": 3}}} if "'T'" in str(signatures) else {}
    return Contract.model_validate(served_models.DIGITS | {"signatures": signatures} | dims)


def with_input(**tensor):
    inputs = {"image": {"dtype": "float32", "shape": ["N", 64], "range": [0, 1]}}
    return DEFAULT | {"inputs": inputs | {"more": tensor}}


def test_numbers_in_known_shapes_can_be_compiled():
    good = contract(serving_default=DEFAULT)

    assert compile_faults(good) == []
    check_backend("m", good, STABLEHLO)


def test_what_cannot_be_is_no_fault_where_tensorflow_serves():
    check_backend("m", Contract.model_validate(served_models.DIGITS), ServerSettings())


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (
            with_input(dtype="string", shape=["N"], values=["a"]),
            "has the input more of strings, which XLA does not have",
        ),
        (with_input(shape=["N", "T"]), "has the input more with any size T, and XLA must know every size but the rows"),
    ],
)
def test_strings_and_open_sizes_are_told_with_the_signature(made, said):
    with pytest.raises(SettingsError) as refused:
        check_backend("m", contract(serving_default=made), STABLEHLO, "models.m.server")

    assert str(refused.value) == (
        f"models.m.server.backend: stablehlo: m's signature serving_default {said}. Leave the signature out of the contract, "
        "or serve it with backend: saved_model"
    )


def test_every_signature_at_fault_has_its_line():
    with pytest.raises(SettingsError) as refused:
        check_backend("m", Contract.model_validate(served_models.DIGITS), STABLEHLO)

    assert [line.split("signature ")[1].split()[0] for line in str(refused.value).splitlines()] == [
        "classify",
        "regress",
    ]


def test_batches_must_find_a_program():
    few = ServerSettings(backend="stablehlo", compiled_batch_sizes=[1, 8])

    with pytest.raises(
        SettingsError, match=r"^server\.compiled_batch_sizes: must reach batching\.max_batch_size, 32; the lar"
    ):
        check_backend("m", contract(serving_default=DEFAULT), few)
    check_backend("m", contract(serving_default=DEFAULT), few.model_copy(update={"batching": None}))
