"""The checks against models in numpy: what a check sees are arrays, wherever they come from."""

import numpy as np
import pytest

from slipway.checks.behaviour import check_behaviour, check_golden
from slipway.contract import Contract
from slipway.errors import SourceError
from slipway.golden import Golden

CONTRACT = {
    "format": 1,
    "signatures": {
        "serving_default": {
            "method": "predict",
            "inputs": {"x": {"shape": ["N", 2], "range": [1, 2]}},
            "outputs": {
                "share": {"shape": ["N", 2], "range": [0, 1], "row_sum": 1},
                "top": {"dtype": "int64", "shape": ["N"], "from": "argmax(share)"},
            },
        }
    },
    "golden": {"label": "top", "min_accuracy": 0.75},
    "probe": {"batch_sizes": [1, 2, 5]},
}
X = np.array([[1, 2], [2, 1], [1.5, 1.2], [1.1, 1.9]], np.float32)


def sound(x):
    share = (x / x.sum(axis=1, keepdims=True)).astype(np.float32)
    return {"share": share, "top": share.argmax(axis=1)}


def runs(model):
    return lambda _, inputs: model(inputs["x"])


def golden(**changes):
    return Golden(**({"inputs": {"x": X}, "outputs": sound(X), "labels": sound(X)["top"]} | changes))


def failed(model, contract=CONTRACT):
    checks = check_behaviour(Contract.model_validate(contract), "serving_default", golden(), runs(model))
    return {
        check.subject.removeprefix("serving_default."): (check.expected, check.found)
        for check in checks
        if not check.ok
    }


def with_share(change):
    """The sound model, its shares changed by a function of the shares and the rows."""
    return lambda x: sound(x) | {"share": np.asarray(change(sound(x)["share"], x), np.float32)}


def test_a_sound_model_passes_every_check():
    checks = check_behaviour(Contract.model_validate(CONTRACT), "serving_default", golden(), runs(sound))

    assert all(check.ok for check in checks)
    subjects = {check.subject.removeprefix("serving_default.") for check in checks}
    assert subjects >= {
        "batch_size.1",
        "batch_size.5",
        "outputs.share.shape",
        "outputs.share.finite",
        "outputs.share.range",
        "outputs.share.row_sum",
        "outputs.top.dtype",
        "batch_invariance",
        "repeatable",
    }


def test_a_batch_size_that_fails_is_told_with_the_models_words():
    def model(x):
        if len(x) > 2:
            raise SourceError("InvalidArgumentError: no more than 2 rows")
        return sound(x)

    assert failed(model)["batch_size.5"] == ("answers", "InvalidArgumentError: no more than 2 rows")


def test_a_model_that_never_answers_is_told_once_for_each_size():
    def model(x):
        raise SourceError("broken")

    assert set(failed(model)) == {"batch_size.1", "batch_size.2", "batch_size.5"}


def test_another_shape_is_found():
    model = with_share(lambda share, _: share[:, :1])

    assert failed(model)["outputs.share.shape"] == ("[1, 2]", "[1, 1]")


def test_an_output_without_rows_is_found():
    model = with_share(lambda share, _: share[:1])

    assert failed(model)["outputs.share.shape"] == ("[2, 2]", "[1, 2]")


def test_another_dtype_is_found():
    assert failed(lambda x: sound(x) | {"top": sound(x)["top"].astype(np.int32)})["outputs.top.dtype"] == (
        "DT_INT64",
        "DT_INT32",
    )


def test_values_that_are_not_finite_at_the_edges_of_the_range_are_found():
    """Every pixel black, every feature at its least: rows that golden data rarely have."""
    model = with_share(lambda share, x: np.where((x == 1).all(axis=1, keepdims=True), np.nan, share))

    assert failed(model)["outputs.share.finite"] == ("finite values", "2 NaN or infinite")


def test_values_out_of_range_are_found():
    found = failed(with_share(lambda share, _: share * 4 - 1.5))

    assert found == {"outputs.share.range": ("0 … 1", "-0.166667 … 1.16667")}


def test_rows_that_do_not_add_up_are_found():
    assert failed(with_share(lambda share, _: share / 2))["outputs.share.row_sum"] == ("1", "0.5 … 0.5")


def test_rows_that_see_each_other_are_found():
    """Statistics of the batch at inference: the answer would depend on strangers."""
    found = failed(with_share(lambda share, x: share + x.mean() * 0.01 - 0.01))

    assert "share moves by" in found["batch_invariance"][1]


def test_chance_is_found():
    generator = np.random.default_rng(0)
    found = failed(with_share(lambda share, _: share + generator.uniform(0, 1e-2, share.shape)))

    assert "a Dropout or another random op is live" in found["repeatable"][1]


def test_sizes_that_vary_are_those_of_the_rows():
    contract = {
        "format": 1,
        "signatures": {
            "serving_default": {
                "method": "predict",
                "inputs": {"x": {"shape": ["N", "T"]}},
                "outputs": {"y": {"shape": ["N", "T"]}},
            }
        },
        "probe": {"dims": {"T": 7}, "batch_sizes": [2]},
    }
    asked = Golden({"x": np.zeros((2, 3), np.float32)}, {"y": np.zeros((2, 3), np.float32)}, None)

    checks = check_behaviour(
        Contract.model_validate(contract), "serving_default", asked, lambda _, inputs: {"y": inputs["x"]}
    )

    assert all(check.ok for check in checks)
    assert next(check for check in checks if check.subject.endswith("y.shape")).found == "[2, 3]"


def test_strings_that_are_no_text_are_found_unless_their_name_says_so():
    """REST answers are JSON; TensorFlow Serving takes a name's `_bytes` for base64."""
    contract = {
        "format": 1,
        "signatures": {
            "serving_default": {
                "method": "predict",
                "inputs": {"x": {"shape": ["N"]}},
                "outputs": {"y": {"dtype": "string", "shape": ["N"]}, "y_bytes": {"dtype": "string", "shape": ["N"]}},
            }
        },
    }

    def run(_, inputs):
        values = np.array([b"f\xfcnf"] * len(inputs["x"]), object)
        return {"y": values, "y_bytes": values}

    asked = Golden({"x": np.zeros(2, np.float32)}, {}, None)
    checks = check_behaviour(Contract.model_validate(contract), "serving_default", asked, run)

    (odd,) = [check for check in checks if not check.ok]
    assert odd.subject == "serving_default.outputs.y.text"
    assert odd.found == "b'f\\xfcnf'; a name that ends in _bytes would say that these are bytes"


# --- golden ----------------------------------------------------------------------------------------


def judged(model, answered, contract=CONTRACT):
    return check_golden(Contract.model_validate(contract), ["serving_default"], answered, runs(model))


def test_golden_answers_are_compared_output_by_output():
    checks, parity, measured = judged(sound, golden())

    assert [(p.output, p.ok, p.rows) for p in parity] == [("share", True, 4), ("top", True, 4)]
    assert measured == 1
    assert all(check.ok for check in checks)


def test_a_drift_beyond_the_tolerance_is_found():
    _, parity, _ = judged(with_share(lambda share, _: share + 1e-3), golden())

    assert [(p.output, p.ok) for p in parity] == [("share", False), ("top", True)]
    assert parity[0].max_abs == pytest.approx(1e-3, rel=1e-3)


def test_answers_that_are_drawn_are_held_to_their_form_and_to_their_labels():
    by_chance = CONTRACT | {"deterministic": False}
    drawn = with_share(lambda share, _: share[:, ::-1])

    checks, parity, measured = judged(drawn, golden(), by_chance)
    assert [(p.output, p.ok, p.why_not) for p in parity] == [
        (o, True, "deterministic: false") for o in ("share", "top")
    ]
    assert parity[0].max_abs > 0.1
    assert all(check.ok for check in checks)
    assert measured == 1

    _, parity, _ = judged(with_share(lambda share, _: share * np.nan), golden(), by_chance)
    assert [p.ok for p in parity] == [False, True]


def test_rows_that_see_each_other_are_asked_as_the_checkpoint_answered_them():
    """Golden answers to two rows at once are those of two rows at once."""
    asked = []

    def model(x):
        asked.append(len(x))
        return {"share": x - x.mean(axis=0), "top": sound(x)["top"]}

    together = np.concatenate([X[:3] - X[:3].mean(axis=0), np.zeros((1, 2), np.float32)])
    _, parity, _ = judged(
        model, golden(outputs=sound(X) | {"share": together}), CONTRACT | {"row_independent": False, "max_rows": 3}
    )

    assert asked == [3, 1]
    assert all(p.ok for p in parity)


def test_too_little_accuracy_is_found():
    labels = np.array([1, 1, 1, 1])

    checks, _, measured = judged(sound, golden(labels=labels))

    assert measured == 0.5
    assert [check.line() for check in checks if not check.ok] == [
        "golden.accuracy: expected at least 0.75, found 0.5000"
    ]


def test_accuracy_without_labels_is_not_taken_for_granted():
    checks, _, measured = judged(sound, golden(labels=None))

    assert measured is None
    assert [check.line() for check in checks if not check.ok] == [
        "golden.accuracy: expected at least 0.75, found no labels in the golden data"
    ]


def test_a_model_that_fails_on_golden_rows_is_told():
    def model(x):
        raise SourceError("broken")

    checks, parity, _ = judged(model, golden())

    assert parity == []
    assert checks[0].line() == "serving_default.golden: expected answers to golden rows, found broken"


def test_signatures_with_examples_are_held_against_the_same_answers():
    contract = CONTRACT | {
        "signatures": CONTRACT["signatures"]
        | {"classify": {"method": "classify", "scores": "share", "classes": ["left", "right"]}}
    }

    def run(name, inputs):
        if name == "serving_default":
            return sound(inputs["x"])
        labels = np.array([[b"left", b"right"]] * len(inputs["inputs"]), object)
        return {"classes": labels, "scores": sound(X)["share"][::-1]}

    _, parity, _ = check_golden(Contract.model_validate(contract), list(contract["signatures"]), golden(), run)

    assert [(p.signature, p.output, p.ok) for p in parity if p.signature == "classify"] == [
        ("classify", "classes", True),
        ("classify", "scores", False),
    ]
