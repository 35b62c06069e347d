"""
A sound SavedModel, whole and in parts, and others that the stage must pass.

It tells digits by the nearest of ten mean images: weights that numpy can check, a lookup table filled from an asset, a
predict and a classify signature. A builder either makes it again with one thing changed, by TensorFlow, or edits its
bytes. All run in one process that has TensorFlow.
"""

import contextlib
import shutil
import tempfile
from functools import lru_cache
from pathlib import Path

import numpy as np

from slipway.golden import Golden
from slipway_wire import messages

ROWS = 60
NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
PROMISED = {
    "format": 1,
    "signatures": {
        "serving_default": {
            "method": "predict",
            "inputs": {"image": {"shape": ["N", 8, 8, 1], "range": [0, 1]}},
            "outputs": {
                "logits": {"shape": ["N", 10]},
                "probabilities": {"shape": ["N", 10], "range": [0, 1], "row_sum": 1, "from": "softmax(logits)"},
                "label": {"dtype": "int64", "shape": ["N"], "range": [0, 9], "from": "argmax(logits)"},
            },
        },
        "classify": {
            "method": "classify",
            "features": {"image": "image/raw"},
            "scores": "probabilities",
            "classes": {"file": "labels.txt"},
        },
    },
    "golden": {"label": "label", "min_accuracy": 0.9},
    "probe": {"batch_sizes": [1, 2, 7, 32]},
}


def _means():
    return np.random.default_rng(1).uniform(0, 1, (10, 64)).astype(np.float32)


def weights():
    """Weights [64, 10] and offsets [10] whose largest sum is the nearest mean image."""
    means = _means()
    return means.T.copy(), -(means**2).sum(axis=1) / 2


def rows():
    generator = np.random.default_rng(2)
    labels = generator.integers(0, 10, ROWS)
    images = np.clip(_means()[labels] + generator.normal(0, 0.05, (ROWS, 64)), 0, 1).astype(np.float32)
    w, b = weights()
    logits = images @ w + b
    scores = np.exp(logits - logits.max(axis=1, keepdims=True))
    outputs = {
        "logits": logits,
        "probabilities": scores / scores.sum(axis=1, keepdims=True),
        "label": logits.argmax(axis=1),
    }
    return Golden({"image": images.reshape(-1, 8, 8, 1)}, outputs, labels)


def make(
    directory,
    *,
    given=weights,
    shape=(None, 8, 8, 1),
    dtype="float32",
    before=None,
    logits=None,
    after=None,
    feature="image/raw",
    default=None,
    labels=NAMES,
    name="serving_default",
    method="tensorflow/serving/classify",
    tags=("serve",),
    more=None,
    state=None,
):
    """
    Write the model with TensorFlow.

    Args:
        directory: Where.
        given: Gives weights and offsets.
        shape: Of the input.
        dtype: Of the input.
        before: What is done to the image before the model.
        logits: Makes them of (x [N, 64], w, b), if not the model itself.
        after: What is done to the outputs, a dict.
        feature: The tf.Example's feature that is an image.
        default: Of the feature, where an Example lacks it.
        labels: Lines of the asset.
        name: Of the predict signature.
        method: Of the classify signature.
        tags: Of the meta graph.
        more: Further inputs of the predict signature, name -> dtype of a tensor [N]; `after` gets them.
        state: What the model keeps besides.
    """
    import tensorflow as tf

    w, b = given()
    module = tf.Module()
    module.w, module.b, module.state = tf.Variable(w), tf.Variable(b), state
    with tempfile.TemporaryDirectory() as words:
        path = Path(words, "labels.txt")
        path.write_bytes("".join(f"{label}\n" for label in labels).encode())
        initializer = tf.lookup.TextFileInitializer(
            str(path), tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER, tf.string, tf.lookup.TextFileIndex.WHOLE_LINE
        )
        module.labels = tf.lookup.StaticHashTable(initializer, "UNK")

        def outputs(image):
            x = tf.reshape(before(image) if before else image, [-1, 64])
            z = (logits or (lambda x, w, b: tf.matmul(x, w) + b))(x, module.w, module.b)
            return {"logits": z, "probabilities": tf.nn.softmax(z), "label": tf.argmax(z, -1)}

        specs = [tf.TensorSpec(shape, dtype, "image")]
        specs += [tf.TensorSpec([None], kind, key) for key, kind in (more or {}).items()]

        @tf.function(input_signature=specs, autograph=False)
        def predict(image, *others):
            found = outputs(image)
            return after(found, *others) if after else found

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "inputs")], autograph=False)
        def classify(inputs):
            features = {feature: tf.io.FixedLenFeature([64], tf.float32, default and [default] * 64)}
            scores = outputs(tf.reshape(tf.io.parse_example(inputs, features)[feature], [-1, 8, 8, 1]))["probabilities"]
            classes = module.labels.lookup(tf.range(10, dtype=tf.int64))
            return {"classes": tf.tile(classes[None], [tf.shape(scores)[0], 1]), "scores": scores}

        tf.saved_model.save(module, str(directory), {name: predict, "classify": classify})
    with edited(directory) as meta:
        meta.signature_def["classify"].method_name = method
        meta.meta_info_def.tags[:] = tags


@lru_cache(maxsize=1)
def _sound():
    directory = tempfile.TemporaryDirectory()
    make(Path(directory.name, "sound"))
    return directory


def copy_sound(directory):
    shutil.copytree(Path(_sound().name, "sound"), directory)


def variables_of(directory):
    copy_sound(directory)
    return directory / "variables/variables.data-00000-of-00001"


@contextlib.contextmanager
def edited(directory):
    """Give the MetaGraphDef of the SavedModel in *directory*, which is made of the sound one if it is not there."""
    if not directory.exists():
        copy_sound(directory)
    path = directory / "saved_model.pb"
    model = messages.SavedModel.FromString(path.read_bytes())
    yield model.meta_graphs[0]
    path.write_bytes(model.SerializeToString(deterministic=True))


def default_of(meta):
    return meta.signature_def["serving_default"]


def node_of(meta, tensor):
    return next(node for node in meta.graph_def.node if node.name == tensor.split(":")[0])


def put_behind(meta, signature, output, op, *, source=None, **attributes):
    """Put a node between *output* of a signature and the caller; its input is *source*, or what the output was."""
    tensor = meta.signature_def[signature].outputs[output]
    node = meta.graph_def.node.add(name=f"behind_{output}", op=op, input=[source or tensor.name])
    for key, value in attributes.items():
        node.attr[key].CopyFrom(value)
    tensor.name = f"{node.name}:0"
    return node


def kind(number):
    return messages.AttrValue(type=number)


FLOAT, INT32, STRING, INT64 = 1, 3, 7, 9


# --- others that are sound -------------------------------------------------------------------------


def plain(directory, _):
    """The model itself."""
    copy_sound(directory)


def loops_and_branches(directory, _):
    """Loops and branches, whose functions nobody follows output by output."""
    import tensorflow as tf

    def looped(x):
        twice = tf.while_loop(lambda i, _: i < 2, lambda i, y: (i + 1, y * 2), (0, x))[1]
        return tf.cond(tf.shape(x)[0] > 3, lambda: twice / 4, lambda: x)

    make(directory, before=looped)


def input_only_asserted(directory, promised):
    """An input that no answer depends on, but whether there is one."""
    import tensorflow as tf

    def guarded(o, mask):
        with tf.control_dependencies([tf.debugging.assert_non_negative(mask)]):
            return o | {"logits": tf.identity(o["logits"])}

    promised["signatures"]["serving_default"]["inputs"]["mask"] = {"shape": ["N"], "range": [0, 1]}
    del promised["golden"]["min_accuracy"]
    make(directory, more={"mask": "float32"}, after=guarded)


def allowed(directory, promised):
    """What would be refused, each with its reason."""
    import tensorflow as tf

    def told(x):
        with tf.control_dependencies([tf.print("a call")]):
            return tf.identity(x)

    promised["allow_ops"] = {"PrintV2": "its operators read it"}
    make(directory, before=told)


def by_chance(directory, promised):
    """A model that draws, and says so."""
    import tensorflow as tf

    promised["deterministic"] = False
    del promised["golden"]["min_accuracy"]
    make(directory, logits=lambda x, w, b: tf.matmul(tf.nn.dropout(x, 0.5), w) + b)


def rows_together(directory, promised):
    """A model whose rows see each other, and that says so: as if it were a ranking of what is sent."""
    import tensorflow as tf

    promised["row_independent"] = False
    # The golden answers are those of all rows at once.
    make(directory, after=lambda o: o | {"logits": o["logits"] + 0 * tf.reduce_mean(o["logits"], 0)})


def few_rows(directory, promised):
    """A model that takes eight rows, and says so."""
    import tensorflow as tf

    def few(x):
        with tf.control_dependencies([tf.debugging.assert_less_equal(tf.shape(x)[0], 8)]):
            return tf.identity(x)

    promised["max_rows"] = 8
    make(directory, before=few)


SOUND = {
    build.__name__.replace("_", "-"): build
    for build in (plain, loops_and_branches, input_only_asserted, allowed, by_chance, rows_together, few_rows)
}
