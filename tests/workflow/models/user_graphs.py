"""Graphs as users of TensorFlow 1, of Estimators and of TensorFlow 2 have them on disk; run as a script it writes the files."""

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

import numpy as np
import tensorflow as tf

tf1 = tf.compat.v1
WORDS = ["red", "green", "blue", "mauve"]
TAGS, CHARS = 3, 20


def old_dropout(x, keep):
    """Dropout as TensorFlow wrote it until 1.12."""
    mask = tf.floor(keep + tf1.random_uniform(tf.shape(x), seed=1))
    return tf.divide(x, keep) * mask


def tagger(use_resource=False):
    """An IDCNN in small: partitioned embedding, two kinds of dropout, a branch for training, a CRF's transitions."""
    tf1.disable_control_flow_v2()
    chars = tf1.placeholder(tf.int32, [None, None], "ChatInputs")
    segs = tf1.placeholder(tf.int32, [None, None], "SegInputs")
    targets = tf1.placeholder(tf.int32, [None, None], "Targets")
    keep = tf1.placeholder(tf.float32, [], "Dropout")
    training = tf1.placeholder_with_default(False, [], "is_training")
    with (
        tf1.device("/gpu:0"),
        tf1.variable_scope("", use_resource=use_resource, initializer=tf1.glorot_uniform_initializer(seed=1)),
    ):
        table = tf1.get_variable("char_embedding", [CHARS, 6], partitioner=tf1.fixed_size_partitioner(2))
        other = tf1.get_variable("seg_embedding", [4, 2])
        x = tf.concat([tf1.nn.embedding_lookup(table, chars, "div"), tf1.nn.embedding_lookup(other, segs)], -1)
        x = old_dropout(x, keep)
        filters = tf1.get_variable("filters", [1, 3, 8, 7])
        x = tf.nn.relu(tf.squeeze(tf.nn.conv2d(tf.expand_dims(x, 1), filters, 1, "SAME"), 1))
        x = tf1.cond(training, lambda: x + tf1.random_normal(tf.shape(x)), lambda: tf.identity(x))
        x = tf1.nn.dropout(x, rate=1 - keep)
        with tf1.variable_scope("project"):
            weights = tf1.get_variable("W", [7, TAGS])
            flat = tf.matmul(tf.reshape(x, [-1, 7]), weights)
            logits = tf.reshape(flat, [-1, tf.shape(chars)[1], TAGS], name="logits")
        with tf1.variable_scope("crf_loss"):
            transitions = tf1.get_variable("transitions", [TAGS, TAGS])
    tf.constant("py", name="never_used")
    loss = tf1.losses.sparse_softmax_cross_entropy(targets, logits) + 1e-3 * tf.reduce_sum(transitions**2)
    step = tf1.train.get_or_create_global_step()
    averages = tf1.train.ExponentialMovingAverage(0.5)
    with tf1.control_dependencies([tf1.train.AdamOptimizer(0.05).minimize(loss, global_step=step)]):
        return tf.group(averages.apply(tf1.trainable_variables()), name="train")


def resource_tagger():
    return tagger(use_resource=True)


def rows(count=9, length=5):
    rng = np.random.default_rng(0)
    chars = rng.integers(0, CHARS, (count, length)).astype(np.int32)
    return chars, chars % 4


def train(build, prefix, version=tf1.train.SaverDef.V2, steps=4):
    anywhere = tf1.ConfigProto(allow_soft_placement=True)
    with tf1.Graph().as_default(), tf1.Session(config=anywhere) as session:
        tf1.set_random_seed(1)
        operation = build()
        session.run(tf1.global_variables_initializer())
        chars, segs = rows()
        feeds = {
            "ChatInputs:0": chars,
            "SegInputs:0": segs,
            "Targets:0": chars % TAGS,
            "Dropout:0": 0.5,
            "is_training:0": True,
        }
        for _ in range(steps):
            session.run(operation, feeds)
        saver = tf1.train.Saver(write_version=version, sharded=version == tf1.train.SaverDef.V2)
        saver.save(session, str(prefix), global_step=tf1.train.get_global_step())


def colours():
    """A vocabulary in a file, another in the graph, and a weight for each word."""
    words = tf1.placeholder(tf.string, [None, None], "words")
    from_file = tf.lookup.TextFileInitializer(
        "/data/of/somebody/vocab.txt",
        tf.string,
        tf.lookup.TextFileIndex.WHOLE_LINE,
        tf.int64,
        tf.lookup.TextFileIndex.LINE_NUMBER,
    )
    ids = tf.lookup.StaticHashTable(from_file, len(WORDS)).lookup(words)
    pairs = tf.lookup.KeyValueTensorInitializer(["red", "blue"], tf.constant([1.0, -1.0]))
    signs = tf.lookup.StaticHashTable(pairs, 0.0, name="signs").lookup(words)
    weights = tf1.get_variable(
        "weights", [len(WORDS) + 1], initializer=tf1.random_normal_initializer(seed=2), use_resource=False
    )
    tf.multiply(tf.gather(weights, ids), signs, name="score")


def save_colours(directory):
    with tf1.Graph().as_default(), tf1.Session() as session:
        colours()
        session.run(tf1.global_variables_initializer())
        tf1.train.Saver().save(session, str(directory / "colours.ckpt"), write_state=False)


def freeze(directory):
    with tf1.Graph().as_default(), tf1.Session() as session:
        image = tf1.placeholder(tf.float32, [None, 4], "image")
        keep = tf1.placeholder(tf.float32, [], "keep_prob")
        weights = tf1.get_variable("w", [4, 3], initializer=tf1.random_normal_initializer(seed=3), use_resource=False)
        tf.nn.softmax(tf.matmul(old_dropout(image, keep), weights), name="head/softmax_tensor")
        session.run(tf1.global_variables_initializer())
        frozen = tf1.graph_util.convert_variables_to_constants(
            session, session.graph.as_graph_def(), ["head/softmax_tensor"]
        )
    (directory / "frozen.pb").write_bytes(frozen.SerializeToString(deterministic=True))


def estimator(directory):
    """What `Estimator.export_saved_model` wrote: tf.Examples in, four signatures, a vocabulary among the assets."""
    (directory / "vocab.txt").write_text("".join(f"{word}\n" for word in WORDS))
    method = tf1.saved_model.signature_constants
    info = tf1.saved_model.utils.build_tensor_info
    builder = tf1.saved_model.Builder(str(directory / "estimator"))
    for tags in (["serve"], ["serve", "other"]):
        with tf1.Graph().as_default(), tf1.Session() as session:
            examples = tf1.placeholder(tf.string, [None], "input_example_tensor")
            spec = {
                "age": tf.io.FixedLenFeature([1], tf.float32, [0.0]),
                "colour": tf.io.FixedLenFeature([1], tf.string, [""]),
            }
            parsed = tf1.io.parse_example(examples, spec)
            path = str(directory / "vocab.txt")
            tf1.add_to_collection(tf1.GraphKeys.ASSET_FILEPATHS, name := tf.constant(path, name="vocab_file"))
            table = tf.lookup.StaticHashTable(
                tf.lookup.TextFileInitializer(
                    name, tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
                ),
                len(WORDS),
            )
            with tf1.variable_scope("linear", use_resource=True):
                deep = tf1.get_variable(
                    "colour", [len(WORDS) + 1, 1], initializer=tf1.random_normal_initializer(seed=4)
                )
                wide = tf1.get_variable("age", [1, 1], initializer=tf1.random_normal_initializer(seed=5))
            logit = tf.matmul(parsed["age"], wide) + tf.gather(deep, table.lookup(parsed["colour"])[:, 0])
            scores = tf.concat([1 - tf.sigmoid(logit), tf.sigmoid(logit)], 1, name="scores")
            classes = tf.tile(tf.constant([["0", "1"]]), [tf.shape(logit)[0], 1])
            classify = tf1.saved_model.build_signature_def(
                {"inputs": info(examples)},
                {"classes": info(classes), "scores": info(scores)},
                method.CLASSIFY_METHOD_NAME,
            )
            regress = tf1.saved_model.build_signature_def(
                {"inputs": info(examples)}, {"outputs": info(tf.squeeze(logit, 1))}, method.REGRESS_METHOD_NAME
            )
            predict = tf1.saved_model.build_signature_def(
                {"examples": info(examples)},
                {"logits": info(logit), "probabilities": info(scores)},
                method.PREDICT_METHOD_NAME,
            )
            signatures = {
                "serving_default": classify,
                "classification": classify,
                "regression": regress,
                "predict": predict,
            }
            session.run(tf1.global_variables_initializer())
            start = tf1.tables_initializer()
            more = {"assets_collection": tf1.get_collection(tf1.GraphKeys.ASSET_FILEPATHS), "main_op": start}
            if tags == ["serve"]:
                builder.add_meta_graph_and_variables(session, tags, signatures, strip_default_attrs=True, **more)
            else:
                builder.add_meta_graph(tags, signatures, **more)
    builder.save()
    examples = [example(age, word) for age, word in ((0.5, "red"), (1.0, "blue"), (-2.0, "unknown"), (3.0, "mauve"))]
    np.savez(directory / "examples.npz", inputs=np.array(examples, object).astype("S"))


def example(age, word):
    features = {
        "age": tf.train.Feature(float_list=tf.train.FloatList(value=[age])),
        "colour": tf.train.Feature(bytes_list=tf.train.BytesList(value=[word.encode()])),
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString(deterministic=True)


def unconnected(directory):
    """The example of a well-known tutorial: two placeholders, and nothing between them."""
    with tf1.Graph().as_default(), tf1.Session() as session:
        x, y = tf1.placeholder(tf.float32, [None], "x"), tf1.placeholder(tf.float32, [None], "y")
        tf1.saved_model.simple_save(session, str(directory / "unconnected"), {"x": x}, {"y": y})


class Ratings(tf.Module):
    """A model of TensorFlow 2 with a vocabulary, an optimizer that nobody serves, and a rate that only training sets."""

    def __init__(self, vocabulary):
        super().__init__()
        text = tf.lookup.TextFileInitializer(
            vocabulary, tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
        )
        self.table = tf.lookup.StaticHashTable(text, len(WORDS))
        generator = tf.random.Generator.from_seed(6)
        self.weights = tf.Variable(generator.normal([len(WORDS) + 1, 3]), name="weights")
        self.bias = tf.Variable([0.5, 0.25, 0.125], name="bias")
        self.momentum = tf.Variable(tf.zeros([1000]), name="momentum")

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "word"), tf.TensorSpec([], tf.float32, "rate")])
    def rate(self, word, rate):
        found = tf.gather(self.weights, self.table.lookup(word)) * (1 - rate) + self.bias
        return {"rating": found, "best": tf.argmax(found, -1)}


def ratings(directory):
    (directory / "vocab.txt").write_text("".join(f"{word}\n" for word in WORDS))
    os.chdir(directory)
    module = Ratings("vocab.txt")
    tf.saved_model.save(module, "ratings", signatures={"serving_default": module.rate, "again": module.rate})


def write(directory):
    (directory / "ck").mkdir()
    train(tagger, directory / "ck/ner.ckpt")
    train(resource_tagger, directory / "res.ckpt")
    train(tagger, directory / "old.ckpt", tf1.train.SaverDef.V1)
    freeze(directory)
    save_colours(directory)
    unconnected(directory)
    estimator(directory)
    ratings(directory)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
