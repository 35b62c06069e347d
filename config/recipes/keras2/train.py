"""
Train a recurrent network in Keras 2, and leave it as an `.h5` file that Keras 3 cannot read: its LSTM knows `time_major`.

It reads a handwritten digit (those that ship with scikit-learn) row by row, from top to bottom. Golden rows are of
writers that the training has not seen.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import tf_keras
from sklearn import datasets

TRAIN_SHARE = 0.8  # in the order of the file, which is by writer


def main() -> None:
    """Train, and write model and golden rows to `--out`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--options", type=json.loads, default={})
    arguments = parser.parse_args()
    seed, epochs = arguments.options.get("seed", 0), arguments.options.get("epochs", 10)

    tf_keras.utils.set_random_seed(seed)
    digits = datasets.load_digits()
    rows, labels = (digits.images / 16).astype(np.float32), digits.target.astype(np.int64)
    cut = int(TRAIN_SHARE * len(rows))

    layers = tf_keras.layers
    model = tf_keras.Sequential(
        [
            layers.LSTM(32, input_shape=(8, 8), name="reader"),
            layers.BatchNormalization(name="norm"),
            layers.Dropout(0.2),
            layers.Dense(10, name="logits"),
        ]
    )
    model.compile(tf_keras.optimizers.Adam(5e-3), tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(rows[:cut], labels[:cut], batch_size=32, epochs=epochs, verbose=2)
    model.save(arguments.out / "rows.h5", include_optimizer=False)
    answers = model.predict(rows[cut:], verbose=0)
    print(f"held out: {(answers.argmax(1) == labels[cut:]).mean():.1%} right")  # noqa: T201 - the log of the training
    np.savez(arguments.out / "golden.npz", rows=rows[cut:], labels=labels[cut:], **{"answers/logits": answers})


if __name__ == "__main__":
    main()
