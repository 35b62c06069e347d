"""The built-in model: a small CNN, trained on the handwritten digits that ship with scikit-learn."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from slipway.source_settings import BuiltinSource

Array = npt.NDArray[Any]
WEIGHTS_FILE = "digits.weights.h5"
TRAIN_SHARE = 0.8
_BATCH_ROWS = 64


def build() -> keras.Model:
    """Build the network: images [rows, 8, 8, 1] of float32 in 0..1 -> logits [rows, 10]; 85,066 weights, not trained."""
    layers = keras.layers
    image = keras.Input((8, 8, 1), name="image")
    hidden = layers.Conv2D(32, 3, padding="same", activation="relu")(image)
    hidden = layers.Conv2D(64, 3, padding="same", activation="relu")(hidden)
    hidden = layers.Flatten()(layers.MaxPooling2D()(hidden))
    hidden = layers.Dense(64, activation="relu")(layers.Dropout(0.3)(hidden))
    return keras.Model(image, layers.Dense(10, name="logits")(hidden))


def split() -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """
    Split the 1,797 digits in the order of the file, which is by writer.

    A random split would put the same hands on both sides, and flatter: 99 % instead of 93 %.

    Returns:
        Rows to train on and rows held out, each as images (float32 [rows, 8, 8, 1], 0..1) and labels (int64 [rows]).
    """
    from sklearn import datasets  # noqa: PLC0415 - most stages load this module and need no data

    digits = datasets.load_digits()
    images = (digits.images / 16).astype(np.float32)[..., None]
    labels = digits.target.astype(np.int64)
    cut = int(TRAIN_SHARE * len(images))
    return (images[:cut], labels[:cut]), (images[cut:], labels[cut:])


def train(source: BuiltinSource, directory: Path) -> None:
    """
    Train, and write the weights below *directory*: the same bytes for the same source.

    Call it before anything else of TensorFlow in the process: results depend on the number of threads, which
    is fixed here, and on every random number drawn before.
    """
    compute_reproducibly()
    keras.utils.set_random_seed(source.seed)
    (images, labels), _ = split()
    model = build()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss)
    model.fit(images, labels, batch_size=_BATCH_ROWS, epochs=source.epochs, verbose=2)
    # A fresh model: the trained one would put its optimizer's state into the file.
    fresh = build()
    fresh.set_weights(model.get_weights())
    fresh.save_weights(directory / WEIGHTS_FILE)


def compute_reproducibly(*, draws: bool = False) -> None:
    """
    Let this process give the same bits each time: one thread, no operation whose order of additions varies.

    Args:
        draws: Whether random numbers are drawn on purpose, which TensorFlow would refuse then.
    """
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    if not draws:
        tf.config.experimental.enable_op_determinism()
