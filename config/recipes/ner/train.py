"""
Train a named-entity recogniser in TensorFlow 1 style, and leave it as such code left it: a checkpoint with its `.meta`.

Characters of a sentence and their places in words -> scores of tags, by iterated dilated convolutions (Strubell et al.,
"Fast and Accurate Entity Recognition with Iterated Dilated Convolutions", 2017), under a linear-chain conditional
random field. The graph is the training graph, Adam and all, with a placeholder `Dropout` that callers had to feed.
Sentences are made from templates: names and places that the golden sentences use are in none of the training's.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import tensorflow as tf

tf1 = tf.compat.v1
HERE = Path(__file__).parent

TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
CHARACTERS = (HERE / "characters.txt").read_text(encoding="utf-8").splitlines()  # the first stands for padding
FIRST = ("anna", "boris", "clara", "dmitri", "elena", "felix", "greta", "hugo", "irene", "jakob", "karin", "leo")
LAST = ("berg", "castro", "dubois", "eriksen", "fischer", "gomez", "hansen", "ivanov", "jansen", "keller", "lind")
PLACES = ("oslo", "rome", "new york", "berlin", "san marino", "lima", "cape town", "madrid", "riga", "porto")
TEMPLATES = (
    "{p} lives in {l}",
    "{p} met {p} in {l}",
    "we went from {l} to {l} with {p}",
    "in {l} it rains",
    "mr {p} has left {l}",
    "the train to {l} is late",
    "nobody has seen {p}",
    "it is late",
)
LEARNT, WIDTH, EMBEDDED, PLACE_EMBEDDED = 0.8, 48, 32, 8
DILATIONS, ROUNDS = (1, 1, 2), 4


def main() -> None:
    """Train, and write checkpoint and golden rows to `--out`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--options", type=json.loads, default={})
    arguments = parser.parse_args()
    seed, steps = arguments.options.get("seed", 0), arguments.options.get("steps", 100)
    train(arguments.out, seed, steps)


def train(out: Path, seed: int, steps: int) -> None:
    """Train for *steps* steps of 16 sentences each."""
    random = np.random.default_rng(seed)
    learnt, held_out = sentences(random, 512, new=False), sentences(random, 32, new=True)
    with tf1.Graph().as_default() as graph, tf1.Session(graph=graph) as session:
        tf1.set_random_seed(seed)
        places = network()
        session.run(tf1.global_variables_initializer())
        for step in range(1, steps + 1):
            chars, segments, tags = padded([learnt[i] for i in random.integers(len(learnt), size=16)])
            feed = {"ChatInputs:0": chars, "SegInputs:0": segments, "Targets:0": tags, "Dropout:0": 0.7}
            _, loss = session.run([places["step"], places["loss"]], feed)
            if step % 20 == 0:
                print(f"step {step}: loss {loss:.3f} a sentence")  # noqa: T201 - the log of the training
        prefix = out / f"ner.ckpt-{steps}"
        tf1.train.Saver().save(session, str(prefix), write_meta_graph=False, write_state=False)
        meta = tf1.train.export_meta_graph(graph=graph, saver_def=tf1.train.Saver().as_saver_def())
        # Equal graphs, equal bytes.
        prefix.with_name(f"{prefix.name}.meta").write_bytes(meta.SerializeToString(deterministic=True))

        chars, segments, tags = padded(held_out)
        fed = {"ChatInputs:0": chars, "SegInputs:0": segments, "Dropout:0": 1.0}
        logits, transitions = session.run(["project/logits/Reshape:0", "crf_loss/transitions:0"], fed)
        np.savez(
            out / "golden.npz",
            char_inputs=chars,
            seg_inputs=segments,
            **{"answers/logits": logits, "answers/transitions": transitions, "answers/targets": tags},
        )


def network() -> dict[str, tf.Tensor]:
    """Build the training graph in the default graph; give the training step and the loss."""
    chars = tf1.placeholder(tf.int32, [None, None], "ChatInputs")
    segments = tf1.placeholder(tf.int32, [None, None], "SegInputs")
    targets = tf1.placeholder(tf.int32, [None, None], "Targets")
    keep = tf1.placeholder(tf.float32, [], "Dropout")
    lengths = tf.reduce_sum(tf.sign(chars), axis=1)

    with tf1.variable_scope("char_embedding"):
        table = variable("char_embedding", [len(CHARACTERS), EMBEDDED])
        places = variable("seg_embedding/seg_embedding", [4, PLACE_EMBEDDED])
        hidden = tf.concat([tf.nn.embedding_lookup(table, chars), tf.nn.embedding_lookup(places, segments)], -1)
    hidden = tf1.nn.dropout(hidden, keep_prob=keep)

    mask = tf.cast(tf.sign(chars), tf.float32)[:, None, :, None]  # padding stays zero: a row does not depend on it
    hidden = hidden[:, None]
    with tf1.variable_scope("idcnn"):
        kernel = variable("init_filter", [1, 3, EMBEDDED + PLACE_EMBEDDED, WIDTH])
        hidden = tf.nn.conv2d(hidden * mask, kernel, 1, "SAME", name="init_layer")
        found = []
        for _ in range(ROUNDS):
            for layer, dilation in enumerate(DILATIONS):
                with tf1.variable_scope(f"atrous-conv-layer-{layer}", reuse=tf1.AUTO_REUSE):
                    kernel = variable("filterW", [1, 3, WIDTH, WIDTH])
                    bias = variable("filterB", [WIDTH], zero=True)
                    convolved = tf.nn.atrous_conv2d(hidden * mask, kernel, dilation, "SAME")
                    hidden = tf.nn.relu(tf.nn.bias_add(convolved, bias))
            found.append(hidden)
    hidden = tf1.nn.dropout(tf.squeeze(tf.concat(found, 3), 1), keep_prob=keep)

    with tf1.variable_scope("project"), tf1.variable_scope("logits"):
        flat = tf.reshape(hidden, [-1, ROUNDS * WIDTH], name="flat")
        scores = tf1.nn.xw_plus_b(
            flat, variable("W", [ROUNDS * WIDTH, len(TAGS)]), variable("b", [len(TAGS)], zero=True)
        )
        logits = tf.reshape(scores, [-1, tf.shape(chars)[1], len(TAGS)], name="Reshape")  # project/logits/Reshape:0
    with tf1.variable_scope("crf_loss"):
        transitions = variable("transitions", [len(TAGS), len(TAGS)])
        loss = tf.reduce_mean(negative_log_likelihood(logits, targets, lengths, transitions))
    step = tf1.train.AdamOptimizer(3e-3).minimize(loss, global_step=tf1.train.get_or_create_global_step())
    return {"step": step, "loss": loss}


def variable(name: str, shape: list[int], *, zero: bool = False) -> tf.Tensor:
    """Make a reference variable, as code of 2017 has it."""
    start = tf1.zeros_initializer() if zero else tf1.glorot_uniform_initializer(seed=1)
    return tf1.get_variable(name, shape, initializer=start, use_resource=False)


def negative_log_likelihood(
    logits: tf.Tensor, targets: tf.Tensor, lengths: tf.Tensor, transitions: tf.Tensor
) -> tf.Tensor:
    """
    Give -log p(tags | sentence) of each sentence under a linear chain, [sentences].

    Source: Lafferty et al., "Conditional Random Fields", 2001; the forward recursion in log space.
    """
    mask = tf.sequence_mask(lengths, tf.shape(logits)[1], tf.float32)
    chosen = tf.one_hot(targets, len(TAGS))
    emitted = tf.reduce_sum(logits * chosen, axis=2)
    moved = tf.einsum("bti,ij,btj->bt", chosen[:, :-1], transitions, chosen[:, 1:])
    score = tf.reduce_sum(emitted * mask, axis=1) + tf.reduce_sum(moved * mask[:, 1:], axis=1)

    def forward(before: tf.Tensor, now: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        emission, real = now
        after = tf.reduce_logsumexp(before[:, :, None] + transitions[None], axis=1) + emission
        return tf.where(real[:, None] > 0, after, before)

    by_time = (tf.transpose(logits, [1, 0, 2])[1:], tf.transpose(mask)[1:])
    ends = tf.scan(forward, by_time, logits[:, 0])
    return tf.reduce_logsumexp(ends[-1], axis=1) - score


# --- sentences -------------------------------------------------------------------------------------

Sentence = list[tuple[str, int, int]]  # character, place in its word, tag


def sentences(random: np.random.Generator, count: int, *, new: bool) -> list[Sentence]:
    """Make sentences; *new* ones with the names and places that the others never have."""

    def some(words: tuple[str, ...]) -> str:
        cut = round(LEARNT * len(words))
        pool = words[cut:] if new else words[:cut]
        return pool[random.integers(len(pool))]

    made = []
    for _ in range(count):
        template = TEMPLATES[random.integers(len(TEMPLATES))]
        sentence: Sentence = []
        for word in template.split():
            sentence += spelled(" ", 0) if sentence else []
            if word == "{p}":
                sentence += spelled(f"{some(FIRST)} {some(LAST)}", TAGS.index("B-PER"))
            elif word == "{l}":
                sentence += spelled(some(PLACES), TAGS.index("B-LOC"))
            else:
                sentence += spelled(word, 0)
        made.append(sentence)
    return made


def spelled(words: str, tag: int) -> Sentence:
    """Give characters with their places, 0 alone, 1 first, 2 inside, 3 last; and tags, *tag* first and the next inside."""
    found: Sentence = []
    for word in words.split(" ") if words != " " else []:
        if found:
            found.append((" ", 0, tag + 1 if tag else 0))
        for place, character in enumerate(word):
            segment = 0 if len(word) == 1 else 1 if place == 0 else 3 if place == len(word) - 1 else 2
            found.append((character, segment, (tag + 1 if found else tag) if tag else 0))
    return found or [(" ", 0, 0)]


def padded(chosen: list[Sentence]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give characters, places in words and tags, each int32 [sentences, longest], with zeros behind the shorter ones."""
    shape = (len(chosen), max(map(len, chosen)))
    chars, segments, tags = (np.zeros(shape, np.int32) for _ in range(3))
    for row, sentence in enumerate(chosen):
        chars[row, : len(sentence)] = [
            CHARACTERS.index("<space>" if character == " " else character) for character, _, _ in sentence
        ]
        segments[row, : len(sentence)] = [segment for _, segment, _ in sentence]
        tags[row, : len(sentence)] = [tag for _, _, tag in sentence]
    return chars, segments, tags


if __name__ == "__main__":
    main()
