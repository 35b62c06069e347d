"""TensorFlow's compiler on signatures of every kind: programs and shared weights, or one line that names the op."""

import numpy as np
import pytest
import tensorflow as tf

from slipway.errors import SourceError
from slipway.models.lowering import has_rows, lower
from slipway_wire import signatures as wire


class Module(tf.Module):
    def __init__(self):
        super().__init__()
        self.matrix = tf.Variable(np.arange(6, dtype=np.float32).reshape(3, 2))
        self.count = tf.Variable(0)
        initializer = tf.lookup.KeyValueTensorInitializer([1, 2], [3, 4])
        self.table = tf.lookup.StaticHashTable(initializer, 0)


MODULE = Module()
FLOATS = tf.TensorSpec([None, 3], tf.float32, "x")
STRINGS = tf.TensorSpec([None], tf.string, "x")
INTS = tf.TensorSpec([None], tf.int32, "x")
FUNCTIONS = {
    "good": (lambda x: x @ MODULE.matrix, FLOATS),
    "twice": (lambda x: x @ MODULE.matrix * 2, FLOATS),
    "once": (lambda x: x + tf.constant([1, 2]), tf.TensorSpec([2], tf.int32, "x")),
    "wide": (lambda x: x * 2, tf.TensorSpec([None, None], tf.float32, "x")),
    "loose": (lambda x: tf.boolean_mask(x, x > 0), tf.TensorSpec([2], tf.float32, "x")),
    "strings": (tf.strings.length, STRINGS),
    "examples": (lambda x: tf.io.parse_example(x, {"a": tf.io.FixedLenFeature([2], tf.float32)})["a"], STRINGS),
    "words": (tf.strings.as_string, INTS),
    "table": (MODULE.table.lookup, INTS),
    "inside": (lambda x: tf.strings.length(tf.strings.as_string(x)), INTS),
    "axis": (lambda x, n: tf.ensure_shape(tf.reshape(x, n), [None, 2]), FLOATS, tf.TensorSpec([2], tf.int32, "n")),
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    directory = tmp_path_factory.mktemp("exported")
    made = {}
    for name, (function, *specs) in FUNCTIONS.items():
        wrapped = tf.function(lambda *a, function=function: {"y": function(*a)}, input_signature=specs)
        made[name] = wrapped.get_concrete_function()
    tf.saved_model.save(MODULE, str(directory), signatures=made)
    return directory


def sizes(names):
    return {name: [1, 4] for name in names}


def test_each_number_of_rows_has_a_program_and_all_share_the_weights(exported):
    lowered, weights = lower(exported, ["good", "twice", "once"], sizes(["good", "twice", "once"]))

    assert [one.signature.name for one in lowered] == ["good", "twice", "once"]
    assert [[program.rows for program in one.programs] for one in lowered] == [[1, 4], [1, 4], [None]]
    assert [program.weights for one in lowered[:2] for program in one.programs] == [(0,)] * 4
    assert lowered[2].programs[0].weights == ()
    assert [array.tolist() for array in weights] == [MODULE.matrix.numpy().tolist()]
    assert all(program.bytecode.startswith(b"ML\xefR") for one in lowered for program in one.programs)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "strings",
            r"XLA cannot compile the op StringLength \(node \S+\)\. Leave the signature out of the contract, or",
        ),
        ("examples", r"XLA cannot compile the op ParseExampleV2 \(node \S+\)\."),
        ("words", r"XLA cannot compile the op AsString \(node \S+\)\."),
        ("table", r"XLA cannot compile the op LookupTableFindV2 \(node \S+\)\."),
        ("inside", r"XLA cannot compile the op AsString \(node \S+\)\."),
        (
            "axis",
            r"XLA cannot compile the op Reshape \(node \S+\), whose input 1, a shape or an axis, depends on what is",
        ),
        (
            "wide",
            r"input x has shape \[\?, \?\], and XLA needs the size of every axis but the rows\. Promise it in the",
        ),
        ("loose", r"output y has any number of rows, which no input says$"),
    ],
)
def test_what_xla_cannot_compile_is_told_by_signature_and_op(exported, name, said):
    with pytest.raises(SourceError, match=rf"^signature {name}: {said}") as refused:
        lower(exported, [name], sizes([name]))

    assert "\n" not in str(refused.value)


def test_every_signature_at_fault_has_its_line(exported):
    names = ["good", "table", "words"]

    with pytest.raises(SourceError) as refused:
        lower(exported, names, sizes(names))

    assert [line.split(":")[0] for line in str(refused.value).splitlines()] == ["signature table", "signature words"]


def test_a_directory_without_a_saved_model_is_told(tmp_path, exported):
    (tmp_path / "saved_model.pb").write_bytes((exported / "saved_model.pb").read_bytes())

    with pytest.raises(SourceError, match=r"cannot be loaded: .* Export it again\.$"):
        lower(tmp_path, ["good"], sizes(["good"]))


def test_rows_are_an_axis_that_an_input_leaves_open(exported):
    found = wire.read_signatures(exported)

    assert has_rows(found["good"])
    assert not has_rows(found["once"])
