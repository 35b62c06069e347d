"""
Train a classifier of 28 by 28 pixels in Keras 3, and leave it as a `.keras` file.

The digits are those that ship with scikit-learn, of 8 by 8 pixels, drawn larger and at a place that chance chooses, as
MNIST has them in the middle. The 1,000 golden rows are of writers that the training has not seen.
"""

import argparse
import json
from pathlib import Path

import keras
import numpy as np
from sklearn import datasets

TRAIN_SHARE = 0.8  # in the order of the file, which is by writer
SIZE, DRAWN = 28, 24


def main() -> None:
    """Train, and write model and golden rows to `--out`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--options", type=json.loads, default={})
    arguments = parser.parse_args()
    seed, epochs = arguments.options.get("seed", 0), arguments.options.get("epochs", 6)

    keras.utils.set_random_seed(seed)
    random = np.random.default_rng(seed)
    digits = datasets.load_digits()
    cut = int(TRAIN_SHARE * len(digits.images))
    images, labels = drawn(random, digits.images[:cut], digits.target[:cut], 8000)
    held_out, truth = drawn(random, digits.images[cut:], digits.target[cut:], 1000)

    model = build()
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(images, labels, batch_size=64, epochs=epochs, verbose=2)
    model.save(arguments.out / "mnist.keras")
    answers = model.predict(held_out, batch_size=250, verbose=0)
    print(f"held out: {(answers.argmax(1) == truth).mean():.1%} right")  # noqa: T201 - the log of the training
    np.savez(arguments.out / "golden.npz", images=held_out, labels=truth, **{"answers/logits": answers})


def build() -> keras.Model:
    """Build the network: float32 [rows, 28, 28, 1] in 0..1 -> logits [rows, 10]."""
    layers = keras.layers
    images = keras.Input((SIZE, SIZE, 1), name="images")
    hidden = layers.Conv2D(12, 5, strides=2, padding="same", activation="relu")(images)
    hidden = layers.Conv2D(24, 3, strides=2, padding="same", activation="relu")(hidden)
    hidden = layers.Dropout(0.25)(layers.Flatten()(hidden))
    return keras.Model(images, layers.Dense(10, name="logits")(layers.Dense(64, activation="relu")(hidden)))


def drawn(
    random: np.random.Generator, small: np.ndarray, labels: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw *count* digits three times as large, each at a place of its own: float32 [count, 28, 28, 1], int64 [count]."""
    chosen = random.integers(len(small), size=count)
    # 256 grey values, as a picture has them.
    large = np.round(small[chosen] / 16 * 255).repeat(3, 1).repeat(3, 2) / 255
    images = np.zeros((count, SIZE, SIZE, 1), np.float32)
    for image, digit, (top, left) in zip(
        images, large, random.integers(SIZE - DRAWN + 1, size=(count, 2)), strict=True
    ):
        image[top : top + DRAWN, left : left + DRAWN, 0] = digit
    return images, labels[chosen].astype(np.int64)


if __name__ == "__main__":
    main()
