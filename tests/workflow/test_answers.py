import itertools

import numpy as np
import pytest

from slipway.answers import derive, pick, viterbi
from slipway.contract import PredictSignature
from slipway.errors import SettingsError

RAW = np.array([[1.0, 3.0], [2.0, 0.0]], np.float32)


def signature(**outputs):
    return PredictSignature.model_validate({"method": "predict", "inputs": {"x": {"shape": ["N"]}}, "outputs": outputs})


def test_the_only_output_goes_by_any_name():
    assert pick({"dense_3": 7}, "logits") == 7


def test_several_outputs_go_by_their_own_names():
    assert pick({"a": 1, "b": 2}, "b") == 2
    with pytest.raises(SettingsError, match="the model has no output c; it has: a, b"):
        pick({"a": 1, "b": 2}, "c")


def test_outputs_are_made_from_each_other_and_from_the_models_own():
    made = derive(
        signature(
            label={"shape": ["N"], "dtype": "int32", "from": "argmax(share)"},
            share={"shape": ["N", 2], "from": "softmax(logits)"},
            on={"shape": ["N", 2], "from": "sigmoid(logits)"},
            logits={"shape": ["N", 2]},
        ),
        {"output": RAW},
    )

    assert list(made) == ["label", "share", "on", "logits"]
    assert made["logits"] is RAW
    assert made["label"].tolist() == [1, 0]
    assert made["label"].dtype == np.int32
    np.testing.assert_allclose(made["share"], np.exp(RAW) / np.exp(RAW).sum(axis=-1, keepdims=True), rtol=1e-6)
    np.testing.assert_allclose(made["on"], 1 / (1 + np.exp(-RAW)), rtol=1e-6)
    assert made["share"].dtype == made["on"].dtype == np.float32


def test_an_output_may_be_called_as_another_of_the_model_is():
    """A plain name is always the model's: contract and model may use the same names crosswise."""
    made = derive(
        signature(a={"shape": ["N"], "from": "b"}, b={"shape": ["N"], "from": "a"}),
        {"a": np.zeros(1), "b": np.ones(1)},
    )

    assert (made["a"].item(), made["b"].item()) == (1, 0)


def test_large_logits_do_not_overflow():
    made = derive(signature(p={"shape": ["N", 2], "from": "softmax(x)"}), {"x": np.array([[1e4, 0]], np.float32)})

    assert made["p"].tolist() == [[1, 0]]


def test_the_best_come_first_and_of_equals_the_one_before():
    made = derive(
        signature(
            scores={"shape": ["N", 2], "from": "top_k_scores(x, 2)"},
            ids={"shape": ["N", 2], "dtype": "int32", "from": "top_k_ids(x, 2)"},
            names={"shape": ["N", 2], "dtype": "string", "from": "top_k_classes(x, 2)", "classes": ["a", "b"]},
        ),
        {"y": np.array([[1, 3, 3], [5, 1, 2]], np.float32)},
    )

    assert made["scores"].tolist() == [[3, 3], [5, 2]]
    assert made["ids"].tolist() == [[1, 2], [0, 2]]
    assert made["names"].tolist() == [[b"b", b"UNK"], [b"a", b"UNK"]]


def test_a_name_in_a_call_is_an_output_then_one_of_the_model_then_an_input():
    made = derive(
        signature(
            own={"shape": ["N"], "from": "tile(b)"},
            of_model={"shape": ["N"], "from": "lengths(a)", "dtype": "int64"},
            of_input={"shape": ["N"], "from": "lengths(ids)", "dtype": "int64"},
        ),
        {"a": np.ones((2, 3)), "b": np.ones(4)},
        {"a": np.zeros((2, 9)), "ids": np.array([[1, 0], [2, 2]])},
    )

    assert made["own"].shape == (2, 4)
    assert made["of_model"].tolist() == [3, 3]
    assert made["of_input"].tolist() == [1, 2]


def likeliest(logits, transitions, start):
    """Try every sequence of tags."""
    steps, tags = logits.shape

    def score(path):
        moves = sum(transitions[a, b] for a, b in itertools.pairwise(path))
        return start[path[0]] + moves + sum(logits[step, tag] for step, tag in enumerate(path))

    return list(max(itertools.product(range(tags), repeat=steps), key=score))


@pytest.mark.parametrize("has_start", [False, True])
def test_viterbi_finds_the_likeliest_of_all_sequences(has_start):
    generator = np.random.default_rng(3)
    for _ in range(40):
        tags, lengths = 3, generator.integers(1, 5, size=2)
        logits = generator.normal(size=(2, 4, tags))
        transitions = generator.normal(size=(tags + has_start, tags + has_start))
        start = transitions[-1, :tags] if has_start else np.zeros(tags)

        found = viterbi(logits, transitions, lengths)

        for row, length in enumerate(lengths):
            expected = likeliest(logits[row, :length], transitions, start)
            assert found[row].tolist() == expected + [0] * (4 - length)


def chinese_ner(logits, transitions, lengths):
    """The decoder of BiLSTM-CRF and IDCNN taggers of 2017, at the client, as their repositories have it."""
    small, tags = -1000.0, logits.shape[-1]
    start = np.asarray([[small] * tags + [0]])
    paths = []
    for score, length in zip(logits, lengths, strict=True):
        padded = np.concatenate([score[:length], small * np.ones([length, 1])], axis=1)
        observed = np.concatenate([start, padded], axis=0)
        trellis, back = np.zeros_like(observed), np.zeros_like(observed, dtype=np.int32)
        trellis[0] = observed[0]
        for step in range(1, len(observed)):
            moves = np.expand_dims(trellis[step - 1], 1) + transitions
            trellis[step] = observed[step] + np.max(moves, 0)
            back[step] = np.argmax(moves, 0)
        path = [int(np.argmax(trellis[-1]))]
        for pointers in reversed(back[1:]):
            path.append(int(pointers[path[-1]]))
        paths.append(path[::-1][1:])
    return paths


def test_viterbi_answers_as_the_clients_of_old_taggers_do():
    """Their transitions have a start tag at the end, [C + 1, C + 1]."""
    generator = np.random.default_rng(4)
    logits, transitions = generator.normal(size=(20, 9, 13)), generator.normal(size=(14, 14))
    lengths = generator.integers(1, 10, size=20)

    found = viterbi(logits, transitions, lengths)

    expected = chinese_ner(logits, transitions, lengths)
    assert [row[:length].tolist() for row, length in zip(found, lengths, strict=True)] == expected
