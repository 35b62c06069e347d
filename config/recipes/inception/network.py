"""
An Inception-v3 network in TensorFlow 1 style, at a tenth of its width.

Factorised and parallel convolutions, batch normalisation without scale, pooling in the place of dense layers: the
blocks of Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", 2016, under the names that
TF-Slim's checkpoints have. `build` is what the recipe names as `builder`: the graph for inference.
"""

import tensorflow as tf

tf1 = tf.compat.v1

SIZE = 64  # height and width of the pictures, pixels
CLASSES = 8
DECAY = 0.9  # of the moving statistics of batch normalisation


def build() -> None:
    """Build the graph for inference: `images`, float32 [N, 64, 64, 3] in -1..1, to `InceptionV3/Logits/Logits`."""
    images = tf1.placeholder(tf.float32, [None, SIZE, SIZE, 3], "images")
    inception_v3(images, training=False)


def inception_v3(images: tf.Tensor, *, training: bool) -> tf.Tensor:
    """Give logits, [N, 8]; `InceptionV3/Logits/PreLogits` are the features in front of them, [N, 1, 1, 64]."""
    with tf1.variable_scope("InceptionV3"):
        net = convolution(images, 8, (3, 3), "Conv2d_1a_3x3", training=training, stride=2)
        net = convolution(net, 12, (3, 3), "Conv2d_2b_3x3", training=training)
        net = tf.nn.max_pool2d(net, 3, 2, "SAME", name="MaxPool_3a_3x3")
        net = block_a(net, "Mixed_5b", training=training)
        net = reduction(net, "Mixed_6a", training=training)
        net = block_b(net, "Mixed_6b", training=training)
        with tf1.variable_scope("Logits"):
            pooled = tf.reduce_mean(net, axis=(1, 2), keepdims=True, name="PreLogits")
            if training:
                pooled = tf1.nn.dropout(pooled, rate=0.2)
            kernel = variable("Conv2d_1c_1x1/weights", [1, 1, pooled.shape[-1], CLASSES])
            bias = variable("Conv2d_1c_1x1/biases", [CLASSES], start=tf1.zeros_initializer())
            return tf.squeeze(tf.nn.bias_add(tf.nn.conv2d(pooled, kernel, 1, "SAME"), bias), (1, 2), name="Logits")


def block_a(net: tf.Tensor, name: str, *, training: bool) -> tf.Tensor:
    """Add figure 5 of the paper: 1×1, 5×5 (behind a bottleneck), two 3×3, and a pool, side by side."""
    with tf1.variable_scope(name):
        one = convolution(net, 8, (1, 1), "Branch_0/Conv2d_0a_1x1", training=training)
        five = convolution(net, 6, (1, 1), "Branch_1/Conv2d_0a_1x1", training=training)
        five = convolution(five, 8, (5, 5), "Branch_1/Conv2d_0b_5x5", training=training)
        three = convolution(net, 8, (1, 1), "Branch_2/Conv2d_0a_1x1", training=training)
        three = convolution(three, 10, (3, 3), "Branch_2/Conv2d_0b_3x3", training=training)
        three = convolution(three, 10, (3, 3), "Branch_2/Conv2d_0c_3x3", training=training)
        pool = tf.nn.avg_pool2d(net, 3, 1, "SAME")
        pool = convolution(pool, 6, (1, 1), "Branch_3/Conv2d_0b_1x1", training=training)
        return tf.concat([one, five, three, pool], 3)


def reduction(net: tf.Tensor, name: str, *, training: bool) -> tf.Tensor:
    """Add figure 10: half the size, without a bottleneck of features."""
    with tf1.variable_scope(name):
        one = convolution(net, 20, (3, 3), "Branch_0/Conv2d_1a_1x1", training=training, stride=2)
        two = convolution(net, 8, (1, 1), "Branch_1/Conv2d_0a_1x1", training=training)
        two = convolution(two, 12, (3, 3), "Branch_1/Conv2d_1a_1x1", training=training, stride=2)
        return tf.concat([one, two, tf.nn.max_pool2d(net, 3, 2, "SAME")], 3)


def block_b(net: tf.Tensor, name: str, *, training: bool) -> tf.Tensor:
    """Add figure 6: 7×7 convolutions as 1×7 and 7×1."""
    with tf1.variable_scope(name):
        one = convolution(net, 16, (1, 1), "Branch_0/Conv2d_0a_1x1", training=training)
        seven = convolution(net, 12, (1, 1), "Branch_1/Conv2d_0a_1x1", training=training)
        seven = convolution(seven, 12, (1, 7), "Branch_1/Conv2d_0b_1x7", training=training)
        seven = convolution(seven, 16, (7, 1), "Branch_1/Conv2d_0c_7x1", training=training)
        twice = convolution(net, 12, (1, 1), "Branch_2/Conv2d_0a_1x1", training=training)
        for letter, size in zip("bcde", ((7, 1), (1, 7), (7, 1), (1, 7)), strict=True):
            twice = convolution(twice, 12, size, f"Branch_2/Conv2d_0{letter}", training=training)
        pool = tf.nn.avg_pool2d(net, 3, 1, "SAME")
        pool = convolution(pool, 20, (1, 1), "Branch_3/Conv2d_0b_1x1", training=training)
        return tf.concat([one, seven, twice, pool], 3)


def convolution(
    net: tf.Tensor, width: int, size: tuple[int, int], name: str, *, training: bool, stride: int = 1
) -> tf.Tensor:
    """Add a convolution, batch normalisation and a ReLU."""
    with tf1.variable_scope(name):
        kernel = variable("weights", [*size, net.shape[-1], width])
        net = tf.nn.conv2d(net, kernel, stride, "SAME")
        shift = variable("BatchNorm/beta", [width], start=tf1.zeros_initializer())
        mean = variable("BatchNorm/moving_mean", [width], start=tf1.zeros_initializer(), trainable=False)
        variance = variable("BatchNorm/moving_variance", [width], start=tf1.ones_initializer(), trainable=False)
        now = mean, variance
        if training:
            now = tf.nn.moments(net, (0, 1, 2))
            for old, new in zip((mean, variance), now, strict=True):
                moved = tf1.assign_sub(old, (old - new) * (1 - DECAY))
                tf1.add_to_collection(tf1.GraphKeys.UPDATE_OPS, moved)
        return tf.nn.relu(tf.nn.batch_normalization(net, *now, offset=shift, scale=None, variance_epsilon=1e-3))


def variable(
    name: str, shape: list[int], *, start: tf1.keras.initializers.Initializer | None = None, trainable: bool = True
) -> tf.Tensor:
    """Make a reference variable, as code of 2017 has it."""
    start = start or tf1.variance_scaling_initializer(2.0, seed=1)
    return tf1.get_variable(name, shape, initializer=start, trainable=trainable, use_resource=False)
