from pathlib import Path

import pytest
import tensorflow as tf

from slipway import cli, contract_sources
from slipway.contract import read_contract
from slipway.parsed_examples import Feature

TESTDATA = Path(__file__).parents[1] / "testdata"


@pytest.fixture(scope="module")
def estimator(tmp_path_factory):
    """A SavedModel of TensorFlow 1 that classifies Examples, and gives no tensors."""
    place = tmp_path_factory.mktemp("estimator") / "1"
    parsed = {
        "age": tf.io.FixedLenFeature([2], tf.float32, default_value=[0.35, 1.5]),
        "kind": tf.io.FixedLenFeature([], tf.int64),
        "name": tf.io.FixedLenFeature([1], tf.string, default_value=[""]),
        "many": tf.io.FixedLenSequenceFeature([], tf.float32, allow_missing=True, default_value=0.0),
        "sparse": tf.io.VarLenFeature(tf.string),
        "ragged": tf.io.RaggedFeature(tf.int64),
    }
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        examples = tf.compat.v1.placeholder(tf.string, [None], "input_example_tensor")
        found = tf.io.parse_example(examples, parsed)
        used = tf.reduce_sum(found["many"], -1) + tf.cast(found["ragged"].row_lengths(), tf.float32)
        used += tf.cast(tf.sparse.to_dense(found["sparse"], "")[:, 0] == found["name"][:, 0], tf.float32)
        used += tf.cast(found["kind"], tf.float32) + found["age"][:, 0]
        scores = tf.nn.softmax(tf.stack([used, 2 * used, 3 * used], axis=1))
        classes = tf.tile(tf.constant([["no", "maybe", "yes"]]), [tf.shape(scores)[0], 1])
        signature = tf.compat.v1.saved_model.classification_signature_def(examples, classes, scores)
        builder = tf.compat.v1.saved_model.Builder(str(place))
        builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": signature})
        builder.save()
    return place


def test_every_kind_of_feature_is_read(estimator):
    signature = contract_sources.read(estimator).signatures["serving_default"]

    assert signature.features == (
        Feature("age", "float32", (2,), (0.35, 1.5)),
        Feature("kind", "int64", ()),
        Feature("many", "float32", None),
        Feature("name", "string", (1,), ("",)),
        Feature("ragged", "int64", None),
        Feature("sparse", "string", None),
    )
    assert signature.classes == ("no", "maybe", "yes")


def test_its_first_contract_says_all_of_it(estimator, tmp_path):
    assert cli.main(["contract", "init", str(estimator), "--out", str(tmp_path / "c.yaml")]) == 0

    contract = read_contract(tmp_path / "c.yaml")
    assert contract.signatures["serving_default"].classes == ("no", "maybe", "yes")
    assert contract.takes_examples()
    assert sorted(contract.default.inputs["examples"].example) == ["age", "kind", "many", "name", "ragged", "sparse"]


def test_what_old_graphs_parse_is_read_too():
    """ParseExample, as TensorFlow wrote it until 2019: a default, empty or not, for each feature."""
    found = contract_sources.read(TESTDATA / "saved_model_half_plus_two_cpu")

    assert found.signatures["regress_x_to_y"].features == (
        Feature("x", "float32", (1,)),
        Feature("x2", "float32", (1,), (0.0,)),
    )
