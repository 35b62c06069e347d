"""
Train a regression in TensorFlow 1 style and freeze it: one `.pb` with its weights as constants, as TF1 tools wrote them.

How far diabetes has gone after a year (25..346), from ten measurements of a patient: the 442 patients that ship with
scikit-learn (Efron et al., "Least Angle Regression", 2004). The dropout's placeholder is left in the graph, as it was.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import tensorflow as tf
from sklearn import datasets

tf1 = tf.compat.v1


def main() -> None:
    """Train, and write graph and golden rows to `--out`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--options", type=json.loads, default={})
    arguments = parser.parse_args()
    seed, steps = arguments.options.get("seed", 0), arguments.options.get("steps", 200)

    measured, gone = datasets.load_diabetes(return_X_y=True, scaled=False)
    order = np.random.default_rng(seed).permutation(len(measured))
    measured, gone = measured[order].astype(np.float32), gone[order].astype(np.float32)
    learnt = slice(0, 354)
    mean, spread = measured[learnt].mean(axis=0), measured[learnt].std(axis=0)

    with tf1.Graph().as_default() as graph, tf1.Session(graph=graph) as session:
        tf1.set_random_seed(seed)
        patients = tf1.placeholder(tf.float32, [None, 10], "measurements")
        truth = tf1.placeholder(tf.float32, [None], "truth")
        keep = tf1.placeholder_with_default(1.0, [], "keep_prob")
        hidden = (patients - tf.constant(mean)) / tf.constant(spread)
        for number, width in enumerate((32, 16)):
            hidden = tf.nn.relu(dense(hidden, width, f"hidden_{number}"))
            hidden = tf1.nn.dropout(hidden, rate=1 - keep)
        with tf1.variable_scope("head"):
            progression = tf.add(tf.squeeze(dense(hidden, 1, "out"), 1) * 77, 152, name="progression")
        loss = tf.reduce_mean(tf.square(progression - truth))
        step = tf1.train.AdamOptimizer(3e-3).minimize(loss)
        session.run(tf1.global_variables_initializer())
        for number in range(1, steps + 1):
            rows = np.random.default_rng([seed, number]).integers(354, size=64)
            _, now = session.run([step, loss], {patients: measured[rows], truth: gone[rows], keep: 0.9})
            if number % 100 == 0:
                print(f"step {number}: off by {now**0.5:.0f} (root mean square)")  # noqa: T201 - the log of the training
        frozen = tf1.graph_util.convert_variables_to_constants(session, graph.as_graph_def(), ["head/progression"])
        (arguments.out / "diabetes.pb").write_bytes(frozen.SerializeToString(deterministic=True))
        held_out = measured[354:]
        answers = session.run("head/progression:0", {"measurements:0": held_out})
        print(f"held out: off by {np.sqrt(np.mean((answers - gone[354:]) ** 2)):.0f}")  # noqa: T201
        np.savez(arguments.out / "golden.npz", measurements=held_out, **{"answers/progression": answers})


def dense(inputs: tf.Tensor, width: int, name: str) -> tf.Tensor:
    """Add a layer whose weights are reference variables, as code of 2017 has them."""
    with tf1.variable_scope(name):
        start = tf1.glorot_uniform_initializer(seed=1)
        kernel = tf1.get_variable("kernel", [inputs.shape[1], width], initializer=start, use_resource=False)
        bias = tf1.get_variable("bias", [width], initializer=tf1.zeros_initializer(), use_resource=False)
        return tf1.nn.xw_plus_b(inputs, kernel, bias)


if __name__ == "__main__":
    main()
