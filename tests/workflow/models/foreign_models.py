"""Files as others wrote them: TensorFlow 1, Keras 2 (by tf_keras), Keras 3 with code in them. All take x [N, 4]."""

import os
from pathlib import Path


def write(directory):
    """Write one of each below *directory*, which must be there."""
    here = Path.cwd()
    os.chdir(directory)
    try:
        _tensorflow_1()
        _keras()
    finally:
        os.chdir(here)


def graph():
    """Build the network of the TF1 checkpoint in TensorFlow 1's default graph."""
    import tensorflow as tf

    tf1 = tf.compat.v1
    x = tf1.placeholder(tf.float32, [None, 4], "x")
    keep = tf1.placeholder(tf.float32, [], "keep")
    w = tf1.get_variable("w", [4, 3], initializer=tf1.random_normal_initializer(seed=1))
    b = tf1.get_variable("b", [3], initializer=tf1.random_normal_initializer(seed=2))
    tf1.train.get_or_create_global_step()
    tf.nn.softmax(tf.matmul(x * keep, w) + b, name="probs")


def dense():
    """Build the model whose weights `k2w.h5` and `k2.weights.h5` hold."""
    import tf_keras

    first = tf_keras.layers.Dense(5, activation="relu", name="first")
    return tf_keras.Sequential([tf_keras.layers.Input((4,)), first, tf_keras.layers.Dense(3, name="last")])


def named():
    """Build one with another layer in front of the same two: weights go by name."""
    import tf_keras

    layers = [tf_keras.layers.Input((4,)), tf_keras.layers.Activation("linear", name="new"), *dense().layers]
    return tf_keras.Sequential(layers)


def _tensorflow_1():
    import tensorflow as tf

    tf1 = tf.compat.v1
    with tf.Graph().as_default() as built, tf1.Session() as session:
        graph()
        session.run(tf1.global_variables_initializer())
        tf1.train.Saver().save(session, "tf1/model.ckpt", global_step=157585)
        frozen = tf1.graph_util.convert_variables_to_constants(session, built.as_graph_def(), ["probs"])
        tensors = {name: built.get_tensor_by_name(f"{name}:0") for name in ("x", "keep", "probs")}
        for place in ("sm1", "estimator/1700000000"):
            builder = tf1.saved_model.Builder(place)
            inputs = {name: tf1.saved_model.build_tensor_info(tensors[name]) for name in ("x", "keep")}
            outputs = {"probs": tf1.saved_model.build_tensor_info(tensors["probs"])}
            signature = tf1.saved_model.build_signature_def(inputs, outputs, "tensorflow/serving/predict")
            names = ["serving_default"] if place == "sm1" else ["serving_default", "predict"]
            builder.add_meta_graph_and_variables(session, ["serve"], dict.fromkeys(names, signature))
            builder.save()
        Path("live.pb").write_bytes(built.as_graph_def().SerializeToString())
    Path("frozen.pb").write_bytes(frozen.SerializeToString(deterministic=True))
    Path("frozen.pbtxt").write_text(str(frozen))


def _keras():
    import keras
    import numpy as np
    import tensorflow as tf
    import tf_keras

    tf_keras.utils.set_random_seed(3)
    model = dense()
    model.save("k2.h5")
    model.save_weights("k2w.h5")
    model.save_weights("k2.weights.h5")
    layers = [tf_keras.layers.Input((4,)), tf_keras.layers.Reshape((2, 2)), tf_keras.layers.LSTM(3)]
    recurrent = tf_keras.Sequential(layers)
    recurrent.save("recurrent.h5")
    recurrent.save("recurrent.keras")
    x = tf_keras.Input((4,), name="x")
    tf_keras.Model(x, tf.nn.relu(x) * 2.0 + 1.0).save("ops.h5")
    tf_keras.Sequential([tf_keras.layers.Input((4,)), tf_keras.layers.Lambda(lambda z: z * 2)]).save("lambda2.h5")
    lambda3 = keras.Sequential([keras.Input((4,)), keras.layers.Lambda(lambda z: z * 2)])
    lambda3.save("lambda3.keras")
    lambda3.save("lambda3.h5")
    three = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    three.save("k3.keras")
    three.save("k3.h5")
    three.save_weights("k3.weights.h5")
    tf.train.Checkpoint(model=three).save("objects/net.ckpt")
    tf.saved_model.save(tf.Module(), "sm2/mine/1")
    np.savez("golden.npz", x=np.linspace(-1, 1, 24, dtype=np.float32).reshape(6, 4))
