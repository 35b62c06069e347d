"""
A sound SavedModel, and what goes wrong with such in production: a builder for each broken model, and the line that names it.

The sound one tells digits by the nearest of ten mean images: weights that numpy can check, a lookup table filled from
an asset, a predict and a classify signature. A builder either makes the model again with one thing changed, by
TensorFlow, or edits the bytes of the sound one. All run in one process that has TensorFlow; the first 22 are those of the
study that the checks began with.
"""

import contextlib
import io
import os
import shutil
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import yaml

from slipway import cli, golden, isolation
from slipway.golden import Golden
from slipway.records import ExportRecord, TreeManifest
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


# --- the stage -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Judged:
    """What `slipway validate` did."""

    code: int
    lines: list[str]
    left: set[str]


def prepare(name, directory):
    """Make a model, `sound` or one of BROKEN, and all that the stage reads."""
    promised = yaml.safe_load(yaml.safe_dump(PROMISED))
    (directory / "labels.txt").write_text("\n".join(NAMES) + "\n")
    golden.write(directory / "golden.npz", rows())
    export = directory / "export"
    if name == "sound":
        _copy_sound(export)
    else:
        BROKEN[name].build(export, promised)
    (directory / "contract.yaml").write_text(yaml.safe_dump(promised, sort_keys=False))
    # As if the exporter itself had written it so: what changes afterwards is for the manifest to find.
    tree = TreeManifest.of(export)
    ExportRecord(model="digits", version=1, tree=tree, signatures=[*promised["signatures"]], tools={}).write(
        directory / "export.json"
    )


def run_stage(directory, limit_s=60):
    """Run `slipway validate` as the line does."""
    os.environ[isolation.TIMEOUT] = str(limit_s)
    before = {path.name for path in directory.iterdir()}
    told = io.StringIO()
    with contextlib.redirect_stderr(told):
        code = cli.main([
            "validate", "--model", "digits", "--version", "1",
            "--contract", str(directory / "contract.yaml"), "--golden", str(directory / "golden.npz"),
            "--export", str(directory / "export"), "--export-record", str(directory / "export.json"),
            "--out", str(directory / "validation.json"),
        ])  # fmt: skip
    lines = [line.split(": error: ", 1)[-1] for line in told.getvalue().splitlines()]
    return Judged(code, lines, {path.name for path in directory.iterdir()} - before)


def judge(name):
    """
    Make a model and run the stage on it, here.

    The stage forks, and a process whose TensorFlow has run something must not: here it goes on without.
    """
    isolation.run = lambda work, *_, **__: work()
    with tempfile.TemporaryDirectory() as made:
        prepare(name, Path(made))
        return run_stage(Path(made))


# --- the sound model, whole and in parts -----------------------------------------------------------


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


def _copy_sound(directory):
    shutil.copytree(Path(_sound().name, "sound"), directory)


@contextlib.contextmanager
def edited(directory):
    """Give the MetaGraphDef of the SavedModel in *directory*, which is made of the sound one if it is not there."""
    if not directory.exists():
        _copy_sound(directory)
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


# --- the broken ones -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Broken:
    build: object
    fault: str
    lines: tuple[str, ...]
    limit_s: float | None = None


BROKEN: dict[str, Broken] = {}
# How the line of the op policy begins.
POLICY = "serving_default.op_policy: expected no op that reaches outside the model, found signature serving_default:"
AT_LOAD = "init.op_policy: expected no op that reaches outside the model, found"


def broken(*lines, limit_s=None):
    """
    Register a builder.

    Args:
        lines: Each must begin a line that the user is told.
        limit_s: Where the model ends its process, or none: how long the stage may take.
    """

    def register(build):
        BROKEN[build.__name__.replace("_", "-")] = Broken(build, build.__doc__, lines, limit_s)
        return build

    return register


# The 22 of the study.


@broken("serving_default.outputs: expected label, logits, probabilities, found label, logits, probs")
def renamed_output(directory, _):
    """An output goes by another name."""
    with edited(directory) as meta:
        outputs = default_of(meta).outputs
        outputs["probs"].CopyFrom(outputs.pop("probabilities"))


@broken("signatures: expected classify, serving_default, found classify, predict")
def renamed_default(directory, _):
    """The signature that requests without a name get is called otherwise."""
    with edited(directory) as meta:
        meta.signature_def["predict"].CopyFrom(meta.signature_def.pop("serving_default"))


@broken("serving_default.outputs.label.dtype: expected DT_INT64, found DT_INT32")
def int32_label(directory, _):
    """An output has another dtype."""
    import tensorflow as tf

    make(directory, after=lambda o: o | {"label": tf.cast(o["label"], tf.int32)})


@broken("serving_default.inputs.image.shape: expected [N, 8, 8, 1], found [1, 8, 8, 1]")
def fixed_batch(directory, _):
    """Traced with one row: no other number goes."""
    make(directory, shape=(1, 8, 8, 1))


@broken("serving_default.inputs.image.shape: expected [N, 8, 8, 1], found [?, 64]")
def flat_input(directory, _):
    """The input has another rank."""
    make(directory, shape=(None, 64))


@broken("classify.method: expected tensorflow/serving/classify, found tensorflow/serving/predict")
def predict_method_for_classify(directory, _):
    """What TensorFlow writes for every signature: `:classify` would be refused."""
    make(directory, method="tensorflow/serving/predict")


@broken("saved_model: expected a SavedModel with tags {serve}, found no meta graph with tags {serve}")
def train_tag(directory, _):
    """The graph of the training, or one with a tag that no server asks for."""
    make(directory, tags=["train"])


@broken("serving_default.ops: expected no forbidden op, found RandomUniform (", "serving_default.repeatable: ")
def live_dropout(directory, _):
    """A Dropout drops at inference."""
    import tensorflow as tf

    make(directory, logits=lambda x, w, b: tf.matmul(tf.nn.dropout(x, 0.5), w) + b)


@broken("serving_default.logits: checkpoint→SavedModel: ", "golden.accuracy: expected at least 0.9, found ")
def fresh_weights(directory, _):
    """The checkpoint was never read: the weights are those of a new model."""
    generator = np.random.default_rng(9)
    make(directory, given=lambda: (generator.normal(0, 0.1, (64, 10)).astype(np.float32), np.zeros(10, np.float32)))


@broken("serving_default.outputs.probabilities.row_sum: expected 1, found ", "serving_default.batch_invariance: ")
def batch_softmax(directory, _):
    """Softmax over the batch: strangers share the probability."""
    import tensorflow as tf

    make(directory, after=lambda o: o | {"probabilities": tf.nn.softmax(o["logits"], 0)})


@broken("serving_default.batch_invariance: ")
def batch_norm_leak(directory, _):
    """Scaled by the statistics of whoever is in the batch."""
    import tensorflow as tf

    make(directory, before=lambda x: (x - tf.reduce_mean(x)) / (tf.math.reduce_std(x) + 1e-6))


@broken("serving_default.logits: checkpoint→SavedModel: ")
def unscaled_input(directory, _):
    """Scaled twice, or not at all."""
    make(directory, before=lambda x: x / 16)


@broken("serving_default.outputs.probabilities.range: expected 0 … 1, found -")
def swapped(directory, _):
    """Two outputs changed places."""
    make(directory, after=lambda o: o | {"logits": o["probabilities"], "probabilities": o["logits"]})


@broken("serving_default.outputs: expected label, logits, probabilities, found label, logits, mean, probabilities")
def scalar_output(directory, _):
    """An output without rows: a server that batches cannot cut it."""
    import tensorflow as tf

    make(directory, after=lambda o: o | {"mean": tf.reduce_mean(o["logits"])})


@broken(f"{POLICY} op EagerPyFunc (node EagerPyFunc) calls a Python function of the process that exported it; ")
def pyfunc(directory, _):
    """It calls back into the program that exported it."""
    import tensorflow as tf

    make(directory, before=lambda x: tf.py_function(lambda a: a, [x], tf.float32))


@broken("serving_default.outputs.logits.finite: expected finite values, found ")
def inf_on_blank(directory, _):
    """A blank image is divided by its own maximum."""
    import tensorflow as tf

    make(directory, before=lambda x: x / tf.reduce_max(x, [1, 2, 3], keepdims=True))


@broken("serving_default.batch_size.32: expected answers, found InvalidArgumentError: ")
def big_batch_fails(directory, _):
    """It takes eight rows, and a server puts more together."""
    import tensorflow as tf

    def few(x):
        with tf.control_dependencies([tf.debugging.assert_less_equal(tf.shape(x)[0], 8, "no more than 8 rows")]):
            return tf.identity(x)

    make(directory, before=few)


@broken("serving_default.logits: checkpoint→SavedModel: ")
def float16_weights(directory, _):
    """Rounded to half precision on the way."""
    make(directory, given=lambda: tuple(a.astype(np.float16).astype(np.float32) for a in weights()))


@broken("serving_default.logits: checkpoint→SavedModel: ")
def one_bias_off(directory, _):
    """One number of 650 is another."""

    def changed():
        w, b = weights()
        b[3] += 0.5
        return w, b

    make(directory, given=changed)


def _variables(directory):
    _copy_sound(directory)
    return directory / "variables/variables.data-00000-of-00001"


@broken("v1.loader: expected loads, found ")
def truncated_variables(directory, _):
    """The file of the weights ends too early."""
    path = _variables(directory)
    path.write_bytes(path.read_bytes()[:1000])


@broken("v1.loader: expected loads, found ")
def bit_flip(directory, _):
    """One bit of the weights is another."""
    path = _variables(directory)
    data = bytearray(path.read_bytes())
    data[1500] ^= 0x40
    path.write_bytes(data)


@broken("v1.loader: expected loads, found ")
def no_variables(directory, _):
    """There are no weights."""
    shutil.rmtree(_variables(directory).parent)


# What else goes wrong in production: what callers would see.


@broken("serving_default.outputs.logits.finite: expected finite values, found 10 NaN or infinite")
def nan_at_the_edge(directory, _):
    """An exponential overflows for the largest image that is allowed, and for no row of the golden data."""
    import tensorflow as tf

    def grown(x, w, b):
        total = 1.5 * tf.reduce_sum(x, axis=1, keepdims=True)
        return tf.matmul(x, w) + b + (tf.math.log(tf.exp(total)) - total)

    make(directory, logits=grown)


@broken("serving_default.outputs.probabilities.dtype: expected DT_FLOAT, found DT_DOUBLE")
def double_output(directory, _):
    """A numpy constant made it double."""
    import tensorflow as tf

    make(directory, after=lambda o: o | {"probabilities": tf.cast(o["probabilities"], tf.float64)})


@broken("serving_default.inputs.image.dtype: expected DT_FLOAT, found DT_UINT8")
def bytes_for_floats(directory, _):
    """It takes 0 … 255 where 0 … 1 is promised."""
    import tensorflow as tf

    make(directory, dtype="uint8", before=lambda x: tf.cast(x, tf.float32) / 255)


@broken("serving_default.outputs.logits.shape: expected [N, 10], found […]")
def unknown_rank(directory, _):
    """A signature that says nothing of an output's shape: no client can be generated."""
    with edited(directory) as meta:
        shape = default_of(meta).outputs["logits"].tensor_shape
        shape.Clear()
        shape.unknown_rank = True


@broken("classify.method: expected tensorflow/serving/classify, found none")
def no_method(directory, _):
    """The method's name was left out."""
    make(directory, method="")


@broken("signatures: expected classify, serving_default, found __debug, classify, serving_default")
def hidden_signature(directory, _):
    """A signature that begins like TensorFlow's own: callers reach it by its name all the same."""
    with edited(directory) as meta:
        meta.signature_def["__debug"].CopyFrom(default_of(meta))


@broken("serving_default.row_order: expected the same answers wherever a row stands, found logits moves by ")
def position_dependent(directory, _):
    """The row's place in the batch is added to it: the first rows agree in every batch, the last do not."""
    import tensorflow as tf

    make(directory, after=lambda o: o | {"logits": o["logits"] + tf.range(tf.shape(o["label"])[0], dtype=1.0)[:, None]})


@broken("serving_default.row_order: expected the same answers wherever a row stands, found label moves by ")
def sorted_rows(directory, _):
    """Answers come in the order of their scores: strangers get each other's."""
    import tensorflow as tf

    make(directory, after=lambda o: {key: tf.gather(v, tf.argsort(o["logits"][:, 0])) for key, v in o.items()})


@broken("serving_default.outputs.label.shape: expected [")
def dropped_rows(directory, _):
    """Rows below a threshold are left out: who asks for seven gets five."""
    import tensorflow as tf

    def confident(outputs):
        keep = tf.reduce_max(outputs["probabilities"], axis=1) > 0.99
        return {key: tf.boolean_mask(value, keep) for key, value in outputs.items()}

    make(directory, after=confident)


@broken(f"{POLICY} op AssignVariableOp (node AssignVariableOp) changes the model while it serves: ")
def batch_norm_in_training(directory, _):
    """BatchNormalization as in training: it goes by the batch, and its averages follow the requests."""
    import tensorflow as tf

    average = tf.Variable(tf.zeros(64))

    def normalize(x):
        mean = tf.reduce_mean(tf.reshape(x, [-1, 64]), axis=0)
        with tf.control_dependencies([average.assign(0.9 * average + 0.1 * mean)]):
            return x - tf.reshape(mean, [1, 8, 8, 1])

    make(directory, before=normalize, state=average)


@broken("serving_default.outputs.probabilities.shape: expected [N, 10], found []")
def total_for_rows(directory, _):
    """One number for the whole batch, where each row should get its own."""
    import tensorflow as tf

    make(directory, after=lambda o: o | {"probabilities": tf.reduce_sum(o["probabilities"])})


@broken(f"{POLICY} op AssignAddVariableOp (node AssignAddVariableOp) changes the model while it serves: ")
def counter(directory, _):
    """It counts its calls, and the count is in the answer."""
    import tensorflow as tf

    count = tf.Variable(0.0)
    make(directory, state=count, after=lambda o: o | {"logits": o["logits"] + count.assign_add(1) * 0})


@broken("serving_default.ops: expected no forbidden op, found StatelessRandomUniform")
def seeded_noise(directory, _):
    """Noise from a fixed seed: the same for the same batch, and another for each place in it."""
    import tensorflow as tf

    def noisy(o):
        return o | {"logits": o["logits"] + tf.random.stateless_uniform(tf.shape(o["logits"]), [1, 2])}

    make(directory, after=noisy)


@broken("serving_default.label: checkpoint→SavedModel: ")
def int_overflow(directory, _):
    """An index computed in int8: 9 · 30 is 14."""
    import tensorflow as tf

    def short(o):
        index = tf.cast(o["label"], tf.int8) * tf.constant(30, tf.int8)
        return o | {"label": tf.cast(tf.abs(index) // tf.constant(30, tf.int8), tf.int64)}

    make(directory, after=short)


@broken("serving_default.logits: checkpoint→SavedModel: ")
def lost_preprocessing(directory, _):
    """The training program subtracted the mean in Python; the export begins behind it."""
    make(directory, before=lambda x: x + 0.5)


@broken("serving_default.logits: checkpoint→SavedModel: ")
def transposed_image(directory, _):
    """Height and width, or the channels, are the other way round."""
    import tensorflow as tf

    make(directory, before=lambda x: tf.transpose(x, [0, 2, 1, 3]))


@broken("serving_default.logits: checkpoint→SavedModel: ", "serving_default.label: checkpoint→SavedModel: ")
def permuted_classes(directory, _):
    """The last layer has its classes in another order."""
    make(directory, given=lambda: tuple(array[..., ::-1].copy() for array in weights()))


# Labels, tf.Examples, assets.


def _labels(directory, content):
    _copy_sound(directory)
    (directory / "assets/labels.txt").write_bytes(content)


@broken("classify.classes.values: expected the golden answers, found 'nine' where 'zero' is right")
def labels_in_another_order(directory, _):
    """The label file is that of another training: every answer has a wrong name."""
    _labels(directory, "\n".join(reversed(NAMES)).encode())


@broken("classify.classes.values: expected the golden answers, found 'UNK' where 'nine' is right")
def labels_too_few(directory, _):
    """The label file is a line short."""
    _labels(directory, "\n".join(NAMES[:-1]).encode())


@broken("classify.outputs.classes.text: expected UTF-8, found b'f\\xfcnf'")
def labels_not_utf8(directory, _):
    """The label file is Latin-1: answers over REST would be no JSON."""
    _labels(directory, "\n".join([*NAMES[:5], "fünf", *NAMES[6:]]).encode("latin-1"))


@broken("classify.batch_size.1: expected answers, found ")
def renamed_feature(directory, _):
    """Its tf.Example has the image under another key."""
    make(directory, feature="image/encoded")


@broken("classify.scores: checkpoint→SavedModel: ")
def renamed_feature_with_default(directory, _):
    """The same, with a default: every request is taken, and a blank image is answered."""
    make(directory, feature="image/encoded", default=0.1)


@broken("assets: expected labels.txt, found missing in assets/: labels.txt")
def missing_asset(directory, _):
    """The file that a table is filled from was not copied."""
    _copy_sound(directory)
    (directory / "assets/labels.txt").unlink()


@broken("assets: expected ../../labels.txt, found names outside assets/: ../../labels.txt")
def asset_elsewhere(directory, _):
    """An asset's name leads out of the SavedModel."""
    with edited(directory) as meta:
        meta.asset_file_def[0].filename = "../../labels.txt"


@broken(
    f"{AT_LOAD} initialiser: InitializeTableFromTextFileV2 (node text_file_init/InitializeTableFromTextFileV2) reads"
)
def absolute_asset_path(directory, _):
    """A table is filled from a path of the machine that exported it, and nobody said that it is an asset."""
    with edited(directory) as meta:
        node = node_of(meta, meta.asset_file_def[0].tensor_info.name)
        node.op = "Const"
        node.attr.pop("shape", None)
        value = node.attr["value"].tensor
        value.dtype = STRING
        value.tensor_shape.SetInParent()
        value.string_val.append(b"/home/somebody/labels.txt")
        del meta.asset_file_def[:]


# What loads here and not there.


@broken("v1.loader: expected loads, found ")
def missing_index(directory, _):
    """The index of the weights was not copied."""
    (_variables(directory).parent / "variables.index").unlink()


@broken("v1.loader: expected loads, found ")
def missing_shard(directory, _):
    """The weights are said to be in two files, and one is there."""
    path = _variables(directory)
    path.rename(path.with_name("variables.data-00000-of-00002"))


@broken("tf.saved_model.load: expected loads, found ValueError: Received incompatible tensor with shape (12,)")
def weights_of_another_model(directory, _):
    """The weights of a model with other sizes were copied beside the graph."""
    other = directory.with_name("other")
    make(other, given=lambda: (np.zeros((64, 12), np.float32), np.zeros(12, np.float32)))
    _copy_sound(directory)
    shutil.rmtree(directory / "variables")
    shutil.move(other / "variables", directory / "variables")
    shutil.rmtree(other)


@broken("saved_model: expected a SavedModel with tags {serve}, found ")
def truncated_graph(directory, _):
    """The copy ended too early."""
    _copy_sound(directory)
    path = directory / "saved_model.pb"
    path.write_bytes(path.read_bytes()[:-100])


@broken("v1.loader: expected loads, found ")
def newer_tensorflow(directory, _):
    """Made by a TensorFlow whose graphs this one does not read."""
    with edited(directory) as meta:
        meta.graph_def.versions.min_consumer = 1_000_000


@broken("functions: expected all that are called, found not in the library: __inference_signature_wrapper_predict_")
def missing_function(directory, _):
    """The library lacks a function that the graph calls, as after a tool that does not know it."""
    with edited(directory) as meta:
        library = meta.graph_def.library.function
        called = node_of(meta, default_of(meta).outputs["logits"].name).attr["f"].func.name
        kept = [function for function in library if function.signature.name != called]
        del library[:]
        library.extend(kept)


SOUND = (
    "graph: expected names of their own for all nodes, and an end, found saved_model.pb: damaged, or made to do harm:"
)


@broken(f"{SOUND} 2 of the nodes are called StatefulPartitionedCall_1")
def node_twice(directory, _):
    """Two nodes of one name: one would be judged, and the other one run."""
    with edited(directory) as meta:
        meta.graph_def.node.add().CopyFrom(node_of(meta, default_of(meta).outputs["logits"].name))


@broken(f"{SOUND} function __inference_signature_wrapper_predict_")
def calls_itself(directory, _):
    """A function that calls itself: small in the file, and without end in memory."""
    with edited(directory) as meta:
        called = node_of(meta, default_of(meta).outputs["logits"].name).attr["f"].func.name
        wrapper = next(f for f in meta.graph_def.library.function if f.signature.name == called)
        next(node for node in wrapper.node_def if "f" in node.attr).attr["f"].func.name = called


@broken("serving_default.inputs.image.tensor: expected a tensor of the graph, found no node image_1")
def lost_input(directory, _):
    """The signature names a placeholder that the graph has no more."""
    with edited(directory) as meta:
        default_of(meta).inputs["image"].name = "image_1:0"


@broken("serving_default.outputs.logits.tensor: expected a tensor of the graph, found no node dense_1/BiasAdd")
def lost_output(directory, _):
    """The signature names a tensor that the graph has no more."""
    with edited(directory) as meta:
        default_of(meta).outputs["logits"].name = "dense_1/BiasAdd:0"


@broken("serving_default.outputs.logits.computed: expected computed from an input, found ")
def frozen_answer(directory, _):
    """An answer was folded into the graph: it is the same whatever is sent."""
    with edited(directory) as meta:
        constant = meta.graph_def.node.add(name="folded", op="Const")
        constant.attr["dtype"].type = FLOAT
        tensor = constant.attr["value"].tensor
        tensor.dtype = FLOAT
        for size in (1, 10):
            tensor.tensor_shape.dim.add(size=size)
        tensor.float_val.append(0.1)
        default_of(meta).outputs["logits"].name = "folded:0"


@broken("serving_default.placeholders: expected none beside the inputs, found needs keep_prob, which no caller sends")
def unfed_placeholder(directory, _):
    """A rate of dropout that only the training feeds."""
    with edited(directory) as meta:
        keep = meta.graph_def.node.add(name="keep_prob", op="Placeholder")
        keep.attr["dtype"].type = FLOAT
        keep.attr["shape"].shape.SetInParent()
        node = put_behind(meta, "serving_default", "logits", "Mul")
        node.attr["T"].type = FLOAT
        node.input.append("keep_prob")


@broken("serving_default.inputs.mask.used: expected an output that depends on it, found none")
def unused_input(directory, promised):
    """An input that callers must send, and nothing looks at: a feature was lost on the way."""
    promised["signatures"]["serving_default"]["inputs"]["mask"] = {"shape": ["N"], "range": [0, 1]}
    make(directory, more={"mask": "float32"}, after=lambda o, _: o)


@broken("serving_default.outputs.logits.tensor: expected one dense tensor, found a sparse or composite one")
def sparse_output(directory, _):
    """An output in parts: no request to a server gets it."""
    with edited(directory) as meta:
        logits = default_of(meta).outputs["logits"]
        name = logits.name
        logits.ClearField("name")
        logits.coo_sparse.values_tensor_name = name
        logits.coo_sparse.indices_tensor_name = name
        logits.coo_sparse.dense_shape_tensor_name = name


@broken("serving_default.batch_size.1: expected answers, found InvalidArgumentError: No OpKernel was registered")
def kernel_of_a_gpu(directory, _):
    """An op that only a GPU has a kernel for."""
    import tensorflow as tf

    def sized(x, w, b):
        size = tf.raw_ops.CudnnRNNParamsSize(num_layers=1, num_units=1, input_size=1, T=tf.float32, S=tf.int32)
        return tf.matmul(x, w) + b + 0 * tf.cast(size, tf.float32)

    make(directory, logits=sized)


@broken("serving_default.batch_size.1: expected answers, found ResourceExhaustedError: OOM when allocating tensor")
def too_much_memory(directory, _):
    """It takes more memory than there is, for any request."""
    import tensorflow as tf

    def wasteful(o):
        return o | {"logits": o["logits"] + tf.reduce_sum(tf.fill([tf.shape(o["logits"])[1] * 2**20, 2**24], 0.0))}

    make(directory, after=wasteful)


@broken("running the model took more than 2 s and was stopped: a graph that never ends? ", limit_s=2)
def never_ends(directory, _):
    """A loop whose condition always holds."""
    import tensorflow as tf

    make(directory, before=lambda x: tf.while_loop(lambda _: True, lambda y: (tf.sin(y),), (x,))[0])


@broken("running the model crashed TensorFlow (SIGABRT): ", limit_s=100)
def crashes(directory, promised):
    """An op that ends the process, as a kernel with a bug does."""
    import tensorflow as tf

    promised["allow_ops"] = {"Abort": "as if its kernel had a bug"}

    def fatal(x):
        with tf.control_dependencies([tf.raw_ops.Abort(error_msg="bug")]):
            return tf.identity(x)

    make(directory, before=fatal)


# What reaches outside the model.


def _behind_logits(directory, op, **attributes):
    with edited(directory) as meta:
        node = put_behind(meta, "serving_default", "logits", op)
        for key, value in attributes.items():
            node.attr[key].CopyFrom(value)


@broken(f"{POLICY} op ReadFile (node while/body/read) reads files of the machine that serves; ")
def file_read_deep_inside(directory, _):
    """A file is read in the branch of a loop of a function: three libraries down."""
    import tensorflow as tf

    @tf.function(autograph=False)
    def deep(x):
        read = tf.io.read_file("/etc/hostname", name="while/body/read")
        return x + tf.cast(tf.strings.length(read), tf.float32)

    def looped(x):
        step = lambda i, y: (i + 1, tf.cond(i > 100, lambda: deep(y), lambda: y))  # noqa: E731
        return tf.while_loop(lambda i, _: i < 2, step, (0, x))[1]

    make(directory, before=looped)


@broken(f"{POLICY} op WriteFile (node WriteFile) writes files of the machine that serves; ")
def file_written(directory, _):
    """Every request is kept in a file."""
    import tensorflow as tf

    def kept(x):
        with tf.control_dependencies([tf.io.write_file("/tmp/request", tf.io.serialize_tensor(x))]):
            return tf.identity(x)

    make(directory, before=kept)


@broken(f"{POLICY} op PrintV2 (node PrintV2) prints on the server's output; ")
def print_left_in(directory, _):
    """A line of debugging for every request."""
    import tensorflow as tf

    def told(x):
        with tf.control_dependencies([tf.print(tf.shape(x))]):
            return tf.identity(x)

    make(directory, before=told)


@broken(f"{POLICY} device /job:worker (node behind_logits) is where it runs, in another process; ")
def placed_elsewhere(directory, _):
    """A node is placed on a worker of the cluster that trained it."""
    with edited(directory) as meta:
        node = put_behind(meta, "serving_default", "logits", "Identity")
        node.attr["T"].type = FLOAT
        node.device = "/job:worker/task:0"


@broken(f"{POLICY} op RpcCall (node behind_logits) talks to other processes; ")
def remote_call(directory, _):
    """It asks another service while it serves."""
    _behind_logits(directory, "RpcCall")


@broken(f"{POLICY} op Addons>GroupNorm (node behind_logits) is no op of this TensorFlow; ")
def custom_op(directory, _):
    """An op of a library that the server has not."""
    _behind_logits(directory, "Addons>GroupNorm")


@broken(f"{AT_LOAD} graph: constant bomb expands to 4.16e+03 GiB; keep large tables as variables")
def bomb(directory, _):
    """Forty bytes that become four terabytes while the graph is loaded."""
    with edited(directory) as meta:
        constant = meta.graph_def.node.add(name="bomb", op="Const")
        constant.attr["dtype"].type = FLOAT
        tensor = constant.attr["value"].tensor
        tensor.dtype = FLOAT
        for _ in range(2):
            tensor.tensor_shape.dim.add(size=2**20 + 2**13)
        tensor.float_val.append(0)
