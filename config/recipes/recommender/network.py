"""
DeepFM (Guo et al., 2017) as the model of an ad server: serialized tf.Examples in, the log-odds of a click out.

First-order weights, pairwise products of embeddings and a deep part on the same embeddings; words by a vocabulary or by
hash, any number of visited cities, and numbers that may be absent: what a wide-and-deep Estimator would parse by its
feature columns, and what a TF2 user writes down with `tf.io.parse_example`.
"""

import tensorflow as tf

FEATURES = {
    "age": tf.io.FixedLenFeature([1], tf.float32, default_value=[0.35]),  # centuries
    "cities": tf.io.VarLenFeature(tf.string),  # visited, any number
    "gender": tf.io.FixedLenFeature([1], tf.string, default_value=[""]),
    "price": tf.io.FixedLenFeature([1], tf.float32),
    "weekday": tf.io.FixedLenFeature([1], tf.string),
}
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
GENDERS = ("f", "m")
BUCKETS, WIDTH, HIDDEN = 100, 6, 24


class DeepFM(tf.Module):
    """Called with serialized tf.Examples, string [rows], gives log-odds of a click, float32 [rows, 1]."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(name="deep_fm")
        self._generator = tf.random.Generator.from_seed(seed)
        self.genders, self.weekdays = table(GENDERS), table(WEEKDAYS)
        sizes = {"cities": BUCKETS, "gender": len(GENDERS) + 1, "weekday": len(WEEKDAYS) + 1, "age": 1, "price": 1}
        self.first = {name: self.weights([size, 1], f"first_{name}") for name, size in sizes.items()}
        self.second = {name: self.weights([size, WIDTH], f"second_{name}") for name, size in sizes.items()}
        self.deep = [
            (self.weights([before, after], f"deep_{n}"), self.weights([after], f"bias_{n}", spread=0.0))
            for n, (before, after) in enumerate([(len(sizes) * WIDTH, HIDDEN), (HIDDEN, 1)])
        ]
        # Only the start of the weights needs it: no state of a random generator goes into the checkpoint.
        del self._generator

    def weights(self, shape: list[int], name: str, spread: float = 0.1) -> tf.Variable:
        """Make weights that start as *spread* says."""
        return tf.Variable(self._generator.normal(shape, stddev=spread), name=name)

    def __call__(self, examples: tf.Tensor) -> tf.Tensor:
        """Parse and score *examples*."""
        found = tf.io.parse_example(examples, FEATURES)
        rows = tf.shape(examples, tf.int64)[0]
        cities = tf.RaggedTensor.from_value_rowids(
            tf.strings.to_hash_bucket_fast(found["cities"].values, BUCKETS),
            found["cities"].indices[:, 0],
            nrows=rows,
        )
        gender, weekday = self.genders.lookup(found["gender"]), self.weekdays.lookup(found["weekday"])

        def each(weights: dict[str, tf.Variable]) -> tf.Tensor:
            """Give one vector a feature, [rows, 5, width]; of cities the mean, zero where there are none."""
            visited = tf.ragged.map_flat_values(lambda ids: tf.gather(weights["cities"], ids), cities)
            count = tf.cast(cities.row_lengths(), tf.float32)[:, None]
            parts = [
                found["age"] * weights["age"],
                tf.math.divide_no_nan(tf.reduce_sum(visited, axis=1), count),
                tf.gather(weights["gender"], gender[:, 0]),
                found["price"] * weights["price"],
                tf.gather(weights["weekday"], weekday[:, 0]),
            ]
            return tf.stack(parts, axis=1)

        vectors = each(self.second)
        of_sums, sums_of = tf.square(tf.reduce_sum(vectors, 1)), tf.reduce_sum(tf.square(vectors), 1)
        pairs = 0.5 * tf.reduce_sum(of_sums - sums_of, axis=1, keepdims=True)
        hidden = tf.reshape(vectors, [-1, len(FEATURES) * WIDTH])
        (kernel, bias), (last_kernel, last_bias) = self.deep
        hidden = tf.nn.relu(tf.matmul(hidden, kernel) + bias)
        return tf.reduce_sum(each(self.first), axis=1) + pairs + tf.matmul(hidden, last_kernel) + last_bias


def table(words: tuple[str, ...]) -> tf.lookup.StaticVocabularyTable:
    """Number *words*; every other word gets the number behind them."""
    numbers = tf.range(len(words), dtype=tf.int64)
    return tf.lookup.StaticVocabularyTable(tf.lookup.KeyValueTensorInitializer(list(words), numbers), 1)


def build() -> DeepFM:
    """Build the model without its training, as the recipe's `builder`."""
    return DeepFM()
