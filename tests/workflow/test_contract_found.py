import pytest

from slipway.contract_found import Signature, Tensor, human_name, named
from slipway.parsed_examples import Feature


@pytest.mark.parametrize(("name", "op", "human"), [
    ("dense_1/Softmax:0", "", "probabilities"),
    ("dense_1/Softmax:0", "Softmax", "probabilities"),
    ("out:0", "ArgMax", "label"),
    ("head/logits/BiasAdd:0", "BiasAdd", "logits"),
    ("tensorflow/serving/regress", "", "regress"),
    ("ChatInputs:0", "Placeholder", "chat_inputs"),
    ("strided_slice_3:0", "", "strided_slice_3"),
    ("0:1", "", "tensor"),
    ("a-b c", "", "a_b_c"),
])  # fmt: skip
def test_names_of_graphs_become_names_for_people(name, op, human):
    assert human_name(name, op) == human


def test_a_name_is_given_once():
    assert human_name("a/Softmax:0", "", ["probabilities", "probabilities_2"]) == "probabilities_3"


def test_a_name_that_can_be_typed_stays():
    assert named("ChatInputs", "") == "ChatInputs"
    assert named("a/b:0", "", ["b"]) == "b_2"


def test_examples_are_all_that_a_signature_takes_or_it_takes_something_else():
    text, parsed = Tensor("string", (None,)), (Feature("x", "int64", ()),)

    assert Signature("m", {"e": text}, {}, parsed).takes_examples
    assert not Signature("m", {"e": text}, {}).takes_examples
    assert not Signature("m", {"e": text, "x": Tensor("float", (None,))}, {}, parsed).takes_examples
