"""What goes wrong with a model in production, told by its answers, its labels and its signatures: a builder for each."""

import shutil

import numpy as np
from tests.workflow.checks.broken_registry import AT_LOAD, POLICY, broken
from tests.workflow.checks.sound_models import (
    NAMES,
    STRING,
    copy_sound,
    default_of,
    edited,
    make,
    node_of,
    variables_of,
    weights,
)

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


@broken("v1.loader: expected loads, found ")
def truncated_variables(directory, _):
    """The file of the weights ends too early."""
    path = variables_of(directory)
    path.write_bytes(path.read_bytes()[:1000])


@broken("v1.loader: expected loads, found ")
def bit_flip(directory, _):
    """One bit of the weights is another."""
    path = variables_of(directory)
    data = bytearray(path.read_bytes())
    data[1500] ^= 0x40
    path.write_bytes(data)


@broken("v1.loader: expected loads, found ")
def no_variables(directory, _):
    """There are no weights."""
    shutil.rmtree(variables_of(directory).parent)


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
    copy_sound(directory)
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
    copy_sound(directory)
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
