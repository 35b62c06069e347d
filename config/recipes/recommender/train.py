"""
Train a DeepFM recommender in TensorFlow 2, and leave it as a `tf.train.Checkpoint`.

The clicks follow a law of the recipe's own: the young click on what is cheap, and at the weekend on what is for the
cities that they know. Golden rows are Examples that the training has not seen, some with features left out.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import tensorflow as tf
from network import FEATURES, GENDERS, WEEKDAYS, DeepFM

CITIES = ("oslo", "rome", "lima", "riga", "porto", "kyoto", "quito", "turin", "accra", "delhi")
SEASIDE = frozenset(CITIES[2:6])
BATCH = 256


def main() -> None:
    """Train, and write checkpoint and golden rows to `--out`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--options", type=json.loads, default={})
    arguments = parser.parse_args()
    train(arguments.out, arguments.options.get("seed", 0), arguments.options.get("steps", 150))


def train(out: Path, seed: int, steps: int) -> None:
    """Train for *steps* steps of 256 Examples each."""
    random = np.random.default_rng(seed)
    examples, clicks = visits(random, 4096)
    held_out, truth = visits(random, 256)
    model = DeepFM(seed)
    weights = list(model.trainable_variables)
    squares = [tf.Variable(tf.fill(weight.shape, 0.1), trainable=False) for weight in weights]

    @tf.function
    def step(batch: tf.Tensor, clicked: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            losses = tf.nn.sigmoid_cross_entropy_with_logits(clicked[:, None], model(batch))
            loss = tf.reduce_mean(losses)
        for weight, square, gradient in zip(weights, squares, tape.gradient(loss, weights), strict=True):
            dense = tf.convert_to_tensor(gradient)
            # Adagrad, as the deep part of wide-and-deep has it (Duchi et al., 2011).
            square.assign_add(tf.square(dense))
            weight.assign_sub(0.1 * dense / tf.sqrt(square))
        return loss

    for number in range(1, steps + 1):
        rows = random.integers(len(examples), size=BATCH)
        loss = step(tf.constant(examples[rows]), tf.constant(clicks[rows], tf.float32))
        if number % 50 == 0:
            print(f"step {number}: loss {float(loss):.3f}")  # noqa: T201 - the log of the training
    tf.train.Checkpoint(model=model).write(str(out / "clicks.ckpt"))
    answers = model(tf.constant(held_out)).numpy()
    right = ((answers[:, 0] > 0) == truth).mean()
    print(f"held out: {right:.1%} right, {max(truth.mean(), 1 - truth.mean()):.1%} by always the same answer")  # noqa: T201
    np.savez(out / "golden.npz", examples=held_out.astype(np.bytes_), labels=truth, **{"answers/logits": answers})


def visits(random: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Make *count* visits: serialized Examples, and whether there was a click, int64 of 0 and 1."""
    made, clicks = np.empty(count, object), np.empty(count, np.int64)
    for row in range(count):
        age, price = random.uniform(0.16, 0.8), random.uniform(0, 1)
        gender, weekday = GENDERS[random.integers(2)], WEEKDAYS[random.integers(7)]
        cities = list(random.choice(CITIES, size=random.integers(0, 4), replace=False))
        likes = 3 * (0.5 - age) + 4 * (0.5 - price) + 2 * (weekday in ("sat", "sun")) * bool(SEASIDE & set(cities))
        clicks[row] = random.uniform() < 1 / (1 + np.exp(-2 * likes))
        given = {"price": price, "weekday": [weekday], "cities": cities}
        given |= {"age": age} if random.uniform() < 0.8 else {}
        given |= {"gender": [gender]} if random.uniform() < 0.9 else {}
        made[row] = serialized(given)
    return made, clicks


def serialized(given: dict[str, float | list[str]]) -> bytes:
    """Write an Example: numbers as floats, words as bytes."""
    example = tf.train.Example()
    for name in FEATURES:
        value = given.get(name)
        if isinstance(value, float):
            example.features.feature[name].float_list.value.append(value)
        elif value:
            example.features.feature[name].bytes_list.value.extend(word.encode() for word in value)
    return example.SerializeToString(deterministic=True)


if __name__ == "__main__":
    main()
