import numpy as np
import pytest

from slipway import golden
from slipway.bench import examples
from slipway.bench.requests import source_of
from slipway.errors import SettingsError
from slipway.golden import Golden
from slipway_wire import dtypes, messages
from slipway_wire.signatures import CLASSIFY, PREDICT, Signature, TensorSpec

CONTRACT = """
format: 1
signatures:
  serving_default:
    method: predict
    inputs: {x: {shape: [N, 2], range: [3, 4]}}
    outputs: {scores: {shape: [N, 3]}}
  by_example:
    method: classify
    features: {x: {}}
    scores: scores
"""
SIGNATURE = Signature(
    "by_example",
    CLASSIFY,
    {"inputs": TensorSpec("inputs", dtypes.STRING, None, "")},
    {"scores": TensorSpec("scores", dtypes.FLOAT, (None, 3), "")},
)


@pytest.fixture
def contract(tmp_path):
    path = tmp_path / "contract.yaml"
    path.write_text(CONTRACT)
    return path


def values(serialized, feature="x"):
    return list(messages.Example.FromString(serialized).features.feature[feature].float_list.value)


def test_a_contract_says_what_examples_are_made_of(contract):
    source = source_of(None, contract, SIGNATURE, 1)
    ((inputs, promised), *_) = source.chosen(2)

    assert all(3 <= value <= 4 for value in values(inputs["inputs"][0]))
    assert len(inputs["inputs"]) == 2
    assert promised is None


def test_golden_rows_are_carried_as_the_contract_says_with_their_answers(contract, tmp_path):
    x, scores = np.float32([[1, 2], [3, 4]]), np.float32([[0.1, 0.2, 0.7], [1, 0, 0]])
    golden.write(tmp_path / "golden.npz", Golden({"x": x}, {"scores": scores}, None))
    source = source_of(str(tmp_path / "golden.npz"), contract, SIGNATURE, 1)

    assert [values(row) for row in source.inputs["inputs"]] == [[1, 2], [3, 4]]
    np.testing.assert_array_equal(source.outputs["scores"], scores)
    with pytest.raises(
        SettingsError, match=r"has a model's own inputs, and by_example takes tf.Examples: name a --con"
    ):
        source_of(str(tmp_path / "golden.npz"), None, SIGNATURE, 1)


def test_arrays_of_a_file_are_features_or_examples_already(tmp_path):
    found = examples.of_arrays(
        "f", {"x": np.float64([[1, 2], [3, 4]]), "n": np.array([7, 8]), "w": np.array([b"a", b"b"], object)}
    )
    (first, _) = (messages.Example.FromString(one).features.feature for one in found["inputs"])
    np.savez(tmp_path / "rows.npz", inputs=np.array(list(found["inputs"])))

    assert (list(first["x"].float_list.value), list(first["n"].int64_list.value)) == ([1, 2], [7])
    assert list(first["w"].bytes_list.value) == [b"a"]
    again = source_of(str(tmp_path / "rows.npz"), None, SIGNATURE, 1).inputs["inputs"]
    assert list(again) == list(found["inputs"])


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({}, r"found no arrays"),
        ({"x": np.zeros(2), "y": np.zeros(3)}, r"expected features of as many rows each, found x: 2, y: 3"),
        ({"x": np.zeros(2, complex)}, r"x: no feature of a tf.Example is complex128"),
        ({"inputs": np.array([b"\x0a", b""], object)}, r"row 0 of inputs is no tf.Example \(numpy drops zero bytes"),
    ],
)
def test_what_is_no_example_is_one_line(arrays, said):
    with pytest.raises(SettingsError, match=rf"^--payload: f: .*{said}|^--payload: f: {said}"):
        examples.of_arrays("f", arrays)


def test_without_any_of_them_it_says_what_to_give(contract):
    with pytest.raises(
        SettingsError, match=r"by_example takes tf.Examples, and the server does not tell of which feat"
    ):
        source_of(None, None, SIGNATURE, 1)
    other = Signature("by_example", PREDICT, SIGNATURE.inputs, SIGNATURE.outputs)
    with pytest.raises(SettingsError, match=r"contract.yaml has no predict signature by_example"):
        source_of(None, contract, other, 1)
