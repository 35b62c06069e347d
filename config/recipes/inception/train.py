"""
Train a small Inception in TensorFlow 1 style, and leave its checkpoint: variables and their moving averages, no graph.

The pictures are crops of the two photographs that ship with scikit-learn; the network tells which quarter of which
photograph a crop is from. Golden rows are crops that the training has not seen.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import sklearn.datasets
import tensorflow as tf
from network import CLASSES, SIZE, inception_v3

tf1 = tf.compat.v1
PHOTOGRAPHS = Path(sklearn.datasets.__file__).parent / "images"
CROP = 150  # of quarters of 213 by 320 pixels
BATCH = 24


def main() -> None:
    """Train, and write checkpoint and golden rows to `--out`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--options", type=json.loads, default={})
    arguments = parser.parse_args()
    train(arguments.out, arguments.options.get("seed", 0), arguments.options.get("steps", 30))


def train(out: Path, seed: int, steps: int) -> None:
    """Train for *steps* steps of 24 crops each."""
    random = np.random.default_rng(seed)
    held_out, labels = crops(random, 48)
    with tf1.Graph().as_default(), tf1.Session() as session:
        tf1.set_random_seed(seed)
        pixels = tf1.placeholder(tf.uint8, [None, SIZE, SIZE, 3])
        truth = tf1.placeholder(tf.int32, [None])
        logits = inception_v3(scaled(pixels), training=True)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(truth, logits))
        step_number = tf1.train.get_or_create_global_step()
        step = tf1.train.AdamOptimizer(5e-3).minimize(loss, global_step=step_number)
        session.run(tf1.global_variables_initializer())
        averages = tf1.train.ExponentialMovingAverage(0.9, step_number)
        with tf1.control_dependencies([step, *tf1.get_collection(tf1.GraphKeys.UPDATE_OPS)]):
            step = averages.apply(tf1.trainable_variables())
        # Each average starts at the value that its weight has by now.
        session.run(tf1.variables_initializer([averages.average(weight) for weight in tf1.trainable_variables()]))
        for number in range(1, steps + 1):
            pictures, labels_of_batch = crops(random, BATCH)
            _, now = session.run([step, loss], {pixels: pictures, truth: labels_of_batch})
            if number % 10 == 0:
                print(f"step {number}: loss {now:.3f}")  # noqa: T201 - the log of the training
        tf1.train.Saver().save(session, str(out / "model.ckpt"), step_number, write_meta_graph=False, write_state=False)
    answer(out, out / f"model.ckpt-{steps}", held_out, labels)


def answer(out: Path, prefix: Path, pictures: np.ndarray, labels: np.ndarray) -> None:
    """Keep golden rows with the answers of the network at inference, some of them as JPEG files, too."""
    with tf1.Graph().as_default(), tf1.Session() as session:
        images = tf1.placeholder(tf.float32, [None, SIZE, SIZE, 3])
        logits = inception_v3(images, training=False)
        averages = tf1.train.ExponentialMovingAverage(0.9)
        tf1.train.Saver(averages.variables_to_restore()).restore(session, str(prefix))
        files = [session.run(tf.io.encode_jpeg(picture, quality=90)) for picture in pictures[:4]]
        decoded = np.stack([session.run(tf.io.decode_jpeg(file)) for file in files])
        fetched = [logits, "InceptionV3/Logits/PreLogits:0"]
        found, features = session.run(fetched, {images: session.run(scaled(tf.constant(pictures)))})
        of_files = session.run(logits, {images: session.run(scaled(tf.constant(decoded)))})
        fed = session.run(scaled(tf.constant(pictures)))
    print(f"held out: {(found.argmax(1) == labels).mean():.1%} right")  # noqa: T201
    np.savez(
        out / "golden.npz",
        images=fed,
        labels=labels,
        jpegs=np.array(files),
        **{
            "answers/logits": found,
            "answers/prelogits": features.reshape(len(fed), -1),
            "answers/answered_jpegs": of_files,
        },
    )


def crops(random: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut *count* crops: pixels, uint8 [count, 64, 64, 3], and the quarter of the photograph, int64 [count] of 0..7."""
    chosen = random.integers(CLASSES, size=count)
    found = []
    for quarter in chosen:
        photograph = _photographs()[quarter // 4]
        height, width = photograph.shape[0] // 2, photograph.shape[1] // 2
        top = quarter % 4 // 2 * height + random.integers(height - CROP)
        left = quarter % 2 * width + random.integers(width - CROP)
        # Every second pixel: cheaper than an interpolation, and no two libraries differ about it.
        found.append(photograph[top : top + CROP : 2, left : left + CROP : 2][:SIZE, :SIZE])
    return np.stack(found), chosen.astype(np.int64)


_decoded: list[np.ndarray] = []


def _photographs() -> list[np.ndarray]:
    if not _decoded:
        with tf1.Graph().as_default(), tf1.Session() as session:
            files = [(PHOTOGRAPHS / name).read_bytes() for name in ("china.jpg", "flower.jpg")]
            _decoded.extend(session.run(tf.io.decode_jpeg(file)) for file in files)
    return _decoded


def scaled(pixels: tf.Tensor) -> tf.Tensor:
    """Bring 0..255 to -1..1, as Inception has it."""
    return tf.cast(pixels, tf.float32) / 127.5 - 1


if __name__ == "__main__":
    main()
