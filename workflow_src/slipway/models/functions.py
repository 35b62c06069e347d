"""What expressions of a contract do, in the graph: `slipway.answers.FUNCTIONS` in TensorFlow."""

from typing import Any

import tensorflow as tf

from slipway.answers import UNKNOWN, Functions, Place
from slipway.models.tables import Tables


def functions(tables: Tables) -> Functions[tf.Tensor]:
    """Give the functions; those that turn numbers into names look them up in *tables*."""

    def named(place: Place[tf.Tensor], ids: tf.Tensor) -> tf.Tensor:
        if table := tables.names(place.output.classes):
            return table.lookup(tf.cast(ids, tf.int64))
        names = [*place.output.class_names, UNKNOWN]
        place_of_unknown = tf.constant(len(names) - 1, ids.dtype)
        return tf.gather(names, tf.where((ids >= 0) & (ids < place_of_unknown), ids, place_of_unknown))

    return {
        "softmax": lambda _, x: tf.nn.softmax(x),
        "sigmoid": lambda _, x: tf.math.sigmoid(x),
        "argmax": lambda place, x: tf.argmax(x, axis=-1, output_type=place.integer),
        "top_k_scores": lambda _, x, k: tf.math.top_k(x, k).values,
        "top_k_ids": lambda place, x, k: tf.cast(tf.math.top_k(x, k).indices, place.integer),
        "top_k_classes": lambda place, x, k: named(place, tf.math.top_k(x, k).indices),
        "lookup": named,
        "viterbi": _viterbi,
        "lengths": lambda place, x, padding: tf.reduce_sum(tf.cast(tf.not_equal(x, padding), place.integer), axis=-1),
        "tile": _tile,
        "flatten": lambda _, x: tf.reshape(x, [tf.shape(x)[0], tf.reduce_prod(tf.shape(x)[1:])]),
        "binary": _binary,
    }


def _tile(place: Place[tf.Tensor], x: tf.Tensor) -> tf.Tensor:
    return tf.tile(x[tf.newaxis], tf.concat([tf.shape(place.rows)[:1], tf.ones([tf.rank(x)], tf.int32)], axis=0))


def _binary(_: Place[tf.Tensor], p: tf.Tensor) -> tf.Tensor:
    flat = tf.reshape(p, [-1])
    return tf.stack([1 - flat, flat], axis=-1)


def _viterbi(
    place: Place[tf.Tensor], logits: tf.Tensor, transitions: tf.Tensor, lengths: tf.Tensor | None = None
) -> tf.Tensor:
    """See `slipway.answers.viterbi`; step by step the same sums, so that ties fall alike."""
    shape = tf.shape(logits)
    rows, steps, tags = shape[0], shape[1], shape[2]
    inner = transitions[..., :tags, :tags]
    start = tf.where(tf.shape(transitions)[-1] > tags, transitions[..., -1, :tags], tf.zeros_like(inner[..., 0, :]))
    length = tf.fill([rows], steps) if lengths is None else tf.cast(lengths, tf.int32)
    by_step = tf.transpose(logits, [1, 0, 2])

    def forward(step: tf.Tensor, score: tf.Tensor, back: tf.TensorArray) -> tuple[Any, ...]:
        moves = score[:, :, tf.newaxis] + inner
        moved = tf.where(tf.equal(step, 0), tf.broadcast_to(start, tf.shape(score)), tf.reduce_max(moves, axis=1))
        runs = (step < length)[:, tf.newaxis]
        came_from = tf.where(runs, tf.argmax(moves, axis=1, output_type=tf.int32), tf.range(tags))
        return step + 1, tf.where(runs, moved + by_step[step], score), back.write(step, came_from)

    def backward(step: tf.Tensor, last: tf.Tensor, found: tf.TensorArray) -> tuple[Any, ...]:
        found = found.write(step, tf.where(step < length, last, 0))
        return step - 1, tf.gather(back.read(step), last, batch_dims=1), found

    start_score = tf.zeros([rows, tags], logits.dtype)
    back = tf.TensorArray(tf.int32, steps, clear_after_read=False, element_shape=[None, None])
    _, score, back = tf.while_loop(lambda step, *_: step < steps, forward, [0, start_score, back])
    found = tf.TensorArray(tf.int32, steps, element_shape=[None])
    last = tf.argmax(score, axis=-1, output_type=tf.int32)
    _, _, found = tf.while_loop(lambda step, *_: step >= 0, backward, [steps - 1, last, found])
    stacked = tf.reshape(found.stack(), [steps, rows])
    return tf.cast(tf.transpose(stacked), place.integer)
