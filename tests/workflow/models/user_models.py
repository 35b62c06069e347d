"""
Models as users have them: builders for sources, and, run as a script, the files that Keras and TensorFlow write of them.

    python user_models.py DIRECTORY
"""

import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

layers = keras.layers


def flowers():
    """One input, one output without a name that anybody chose; weights that are not trained (BatchNormalization)."""
    return keras.Sequential([
        keras.Input((4,)), layers.Dense(8, activation="relu"), layers.BatchNormalization(), layers.Dropout(0.5), layers.Dense(3)
    ])  # fmt: skip


def pair():
    """Two inputs in a dict, two named outputs."""
    user, item = keras.Input((2,), name="user"), keras.Input((3,), name="item")
    joined = layers.Concatenate()([user, item])
    rating, click = layers.Dense(1, name="rating")(joined), layers.Dense(1, name="click")(joined)
    return keras.Model({"user": user, "item": item}, {"rating": rating, "click": click})


def listed():
    """Two inputs in a list, two outputs in a list, which differ in what they make of them."""
    a, b = keras.Input((2,), name="a"), keras.Input((3,), name="b")
    left, right = layers.Dense(1)(a), layers.Dense(1)(b)
    return keras.Model([a, b], [layers.Add(name="sum")([left, right]), layers.Multiply(name="product")([left, right])])


@keras.saving.register_keras_serializable("user")
class Subclassed(keras.Model):
    """A model that says nothing of its inputs until it is called."""

    def __init__(self, **config):
        super().__init__(**config)
        self.dense = layers.Dense(3)

    def call(self, inputs):
        return {"scores": self.dense(inputs), "size": keras.ops.sum(inputs, axis=-1)}


def subclassed():
    model = Subclassed()
    model(np.zeros((1, 4), np.float32))
    return model


class Live(layers.Layer):
    """Drops at inference too: somebody wrote a Dropout of their own and forgot."""

    def __init__(self):
        super().__init__()
        self.seed = keras.random.SeedGenerator(1)

    def call(self, inputs):
        return keras.random.dropout(inputs, 0.5, seed=self.seed)


def live():
    inputs = keras.Input((4,))
    return keras.Model(inputs, Live()(layers.Dense(4)(inputs)))


def words():
    """Strings of any number, by a lookup table, which is no weight."""
    text = keras.Input((None,), dtype="string", name="text")
    numbers = layers.StringLookup(vocabulary=["red", "green", "blue"], name="lookup")(text)
    return keras.Model(text, layers.GlobalAveragePooling1D()(layers.Embedding(4, 5)(numbers)))


class Line(tf.Module):
    """scale · x + offset, summed over T: a tf.Module with two inputs and a size that varies."""

    def __init__(self):
        super().__init__()
        self.scale = tf.Variable(2.0)
        self.table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer([0, 1], [0.0, 100.0]), -1.0)

    def __call__(self, x, kind):
        total = tf.reduce_sum(self.scale * x, axis=1)
        return {"total": total + self.table.lookup(kind), "squares": x**2}


def line():
    return Line()


class Broken(Line):
    """Takes one input x [N, 2], which a variable scales; what happens then is the subclass's fault."""

    def __call__(self, x):
        return {"y": self.bend(self.scale * x)}


class AcrossRows(Broken):
    def bend(self, x):
        return x - tf.reduce_mean(x, axis=0)


class Random(Broken):
    def bend(self, x):
        return x + tf.random.uniform(tf.shape(x))


class NotFinite(Broken):
    def bend(self, x):
        return x / tf.reduce_min(x, axis=1, keepdims=True)


class Told(Broken):
    """Prints each request; the file that it reads deep inside is read where the sum is negative."""

    def bend(self, x):
        def read():
            return x + tf.cast(tf.strings.length(tf.io.read_file("/etc/hostname")), tf.float32)

        with tf.control_dependencies([tf.print(tf.shape(x))]):
            return tf.cond(tf.reduce_sum(x) < 0, read, lambda: tf.identity(x))


class FewRows(Broken):
    def bend(self, x):
        tf.debugging.assert_less(tf.shape(x)[0], 8, message="no more than 7 rows")
        return x


class Sound(Broken):
    def bend(self, x):
        return x


class OtherBits(Broken):
    """Half precision on the way: right for people, wrong by 1e-3."""

    def bend(self, x):
        return tf.cast(tf.cast(x, tf.float16), tf.float32)


def write(directory):
    keras.utils.set_random_seed(1)
    model = flowers()
    model.compile("adam", "mse")
    rng = np.random.default_rng(0)
    rows = rng.uniform(-1, 1, (40, 4)).astype(np.float32)
    model.fit(rows, rng.uniform(size=(40, 3)), verbose=0)
    model.save(directory / "flowers.keras")
    model.save_weights(directory / "flowers.weights.h5")
    tf.train.Checkpoint(model=model, optimizer=model.optimizer).write(str(directory / "flowers.ckpt"))
    np.savez(directory / "flowers.npz", x=rows, labels=model.predict(rows, verbose=0).argmax(-1))
    pair().save(directory / "pair.keras")
    listed().save(directory / "listed.keras")
    subclassed().save_weights(directory / "subclassed.weights.h5")
    live().save_weights(directory / "live.weights.h5")
    words().save(directory / "words.keras")
    tf.train.Checkpoint(model=Line()).write(str(directory / "line.ckpt"))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
