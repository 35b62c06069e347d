"""Every form of a model's inputs on one set of weights, exported and run as TensorFlow Serving runs it."""

import numpy as np
import pytest

from slipway import forms, rows
from slipway.answers import derive, derive_others, expected
from slipway.contract import Contract
from slipway.golden import Golden
from slipway_wire import messages, signatures

PADDED = {"ids": {"pad": 0}}
BYTES = {"dtype": "string", "shape": ["N"]}
CONTRACT = {
    "format": 1,
    "signatures": {
        "serving_default": {"method": "classify", "features": PADDED, "scores": "scores", "classes": {"file": "labels.txt"}, "top_k": 2},
        "all_classes": {"method": "classify", "features": PADDED, "scores": "scores", "classes": {"file": "labels.txt"}},
        "named_here": {"method": "classify", "features": PADDED, "scores": "scores", "classes": ["a", "b", "c"], "top_k": 1},
        "tensors": {
            "method": "predict",
            "inputs": {
                "image": {"shape": ["N", 4, 6, 3], "range": [-1, 1]},
                "ids": {"shape": ["N", "T"], "dtype": "int32", "range": [0, 3]},
            },
            "outputs": {
                "scores": {"shape": ["N", 3], "from": "softmax(logits)"},
                "classes": {**BYTES, "shape": ["N", 2], "from": "top_k_classes(scores, 2)", "classes": ["a", "b", "c"]},
                "steps": {"dtype": "int32", "shape": ["N"], "from": "lengths(ids)"},
            },
        },
        "predict": {"alias": "tensors"},
        "bytes_and_words": {
            "method": "predict",
            "inputs": {
                "image_bytes": {**BYTES, "to": "image", "image": {"order": "bgr"}},
                "words": {
                    **BYTES,
                    "shape": ["N", "T"],
                    "to": "ids",
                    "vocabulary": {"file": "words.txt", "oov": 3},
                },
            },
        },
        "parsed": {
            "method": "predict",
            "inputs": {"examples": {**BYTES, "features": {"image": "image/raw", "ids": {"feature": "i", "pad": 0}}}},
            "outputs": {"tiled": {"shape": ["N", 2, 2], "from": "tile(matrix)"}, "scores": {"shape": ["N", 3], "from": "softmax(logits)"}},
        },
        "matrix": {"method": "predict", "batched": False, "outputs": {"matrix": {"shape": [2, 2]}}},
        "value": {
            "method": "regress",
            "value": "steps",
            "features": {
                "image": {"feature": "photo", "image": {}},
                "ids": {"feature": "w", "pad": "x", "vocabulary": {"words": ["x", "y", "z"], "oov": 3}},
            },
        },
    },
    "golden": {"signature": "tensors", "rows": 6},
    "probe": {"dims": {"T": 5}},
}  # fmt: skip


def export(words, directory):
    """Write the SavedModel, make golden data, and answer to rows in every form; runs where TensorFlow is."""
    from pathlib import Path

    import tensorflow as tf

    from slipway.models import saved_model
    from slipway.models.session import ServingSession
    from slipway.models.sources import ModuleModel

    class Network(tf.Module):
        def __init__(self):
            super().__init__()
            values = np.random.default_rng(1).normal(size=(72, 3)).astype(np.float32)
            self.weights = tf.Variable(values, name="weights")
            self.matrix = tf.Variable([[1.0, 2.0], [3.0, 4.0]], name="matrix")

        def __call__(self, image, ids):
            flat = tf.reshape(image, [-1, 72]) @ self.weights
            total = tf.reduce_sum(tf.cast(ids, tf.float32), axis=1, keepdims=True)
            return {"logits": flat + total * tf.constant([[1.0, -1.0, 0.5]]), "matrix": tf.identity(self.matrix)}

    contract = Contract.model_validate(CONTRACT, context={"directory": Path(words)})
    model = ModuleModel(Network())
    drawn = rows.draw(contract, contract.default, contract.golden.rows)
    inputs = forms.carried_by_all(contract, drawn)
    raw = model.answer(inputs)
    golden = Golden(inputs, derive(contract.default, raw, inputs), None, derive_others(contract, raw, inputs))
    saved_model.write(model, contract, Path(directory))
    asked = {name: rows.rows_for(contract, name, golden.rows, golden) for name in contract.signatures}
    with ServingSession(Path(directory)) as session:
        found = {name: session.run(name, one) for name, one in asked.items()}
        none = {n: session.run(n, {k: a[:0] for k, a in one.items()}) for n, one in asked.items() if n != "matrix"}
    return golden, found, none


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    directory = tmp_path_factory.mktemp("words")
    (directory / "labels.txt").write_text("cat\ndog\nbird\n")
    (directory / "words.txt").write_text("zero\none\ntwo\n")
    return directory


@pytest.fixture(scope="module")
def made(words, fresh, tmp_path_factory):
    directory = tmp_path_factory.mktemp("export") / "1"
    return directory, *fresh.test_function(export, str(words), str(directory))


@pytest.fixture(scope="module")
def contract(words):
    return Contract.model_validate(CONTRACT, context={"directory": words})


@pytest.mark.parametrize("name", CONTRACT["signatures"])
def test_the_same_rows_get_the_same_answers_in_every_form(name, made, contract):
    _, golden, found, _ = made

    promised = expected(contract, name, golden)

    assert promised.keys() == contract.outputs_of(name).keys()
    for output, array in promised.items():
        if array.dtype == object:
            assert found[name][output].tolist() == array.tolist()
        else:
            np.testing.assert_allclose(found[name][output], array, rtol=1e-4, atol=1e-5)


def test_golden_rows_are_those_that_a_picture_can_carry(made, contract):
    _, golden, _, _ = made
    levels = (golden.inputs["image"] + 1) * 127.5

    np.testing.assert_allclose(levels, np.rint(levels), atol=1e-4)
    drawn = rows.draw(contract, contract.default, golden.rows)["image"]
    np.testing.assert_allclose(golden.inputs["image"], drawn, atol=1 / 255 + 1e-6)


@pytest.mark.parametrize("name", [name for name in CONTRACT["signatures"] if name != "matrix"])
def test_an_empty_batch_gets_an_empty_answer(name, made):
    _, _, _, none = made

    assert all(len(array) == 0 for array in none[name].values())


def test_methods_and_shapes_are_those_of_the_contract(made, contract):
    found = signatures.read_signatures(made[0])

    assert found["serving_default"].method == signatures.CLASSIFY
    assert found["value"].method == signatures.REGRESS
    assert found["predict"].method == signatures.PREDICT
    assert found["matrix"].outputs["matrix"].shape == (2, 2)
    assert found["parsed"].outputs["tiled"].shape == (None, 2, 2)


def test_words_are_assets_and_nothing_tells_where_they_came_from(made, words):
    directory = made[0]
    assets = {path.name: path.read_text() for path in (directory / "assets").iterdir()}

    assert assets == {"labels.txt": "cat\ndog\nbird\n", "words.txt": "zero\none\ntwo\n", "vocabulary.txt": "x\ny\nz\n"}
    graph = (directory / "saved_model.pb").read_bytes()
    assert bytes(words) not in graph
    assert b"/tmp" not in graph


def moved(directory, serialized):
    from pathlib import Path

    from slipway.models.session import ServingSession

    with ServingSession(Path(directory)) as session:
        return session.run("value", {"inputs": np.array(serialized, object)})["outputs"].tolist()


def test_an_export_works_wherever_it_is_moved_to(made, contract, fresh, tmp_path):
    """Rows of several lengths are padded to the longest; a word that is not in the vocabulary has its own number."""
    directory, golden, _, _ = made
    photo = forms.encode(contract, "bytes_and_words", golden.inputs)["image_bytes"]
    serialized = []
    for picture, text in zip(photo, [[b"y", b"z", b"?"], [], [b"x", b"y"]], strict=False):
        example = messages.Example()
        example.features.feature["photo"].bytes_list.value.append(picture)
        example.features.feature["w"].bytes_list.value.extend(text)
        serialized.append(example.SerializeToString())

    directory.rename(tmp_path / "elsewhere")
    try:
        assert fresh.test_function(moved, str(tmp_path / "elsewhere"), serialized) == [3, 0, 1]
    finally:
        (tmp_path / "elsewhere").rename(directory)


def test_two_exports_have_the_same_bytes(made, words, fresh, tmp_path):
    other = tmp_path / "a" / "longer" / "path"
    other.parent.mkdir(parents=True)

    fresh.test_function(export, str(words), str(other))

    files = sorted(path.relative_to(other) for path in other.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(made[0]) for path in made[0].rglob("*") if path.is_file())
    assert [str(name) for name in files if (other / name).read_bytes() != (made[0] / name).read_bytes()] == []
