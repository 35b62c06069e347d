import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tests.workflow.test_png import decode

from slipway import forms, rows
from slipway.contract import Contract
from slipway_wire import messages

CONTRACT = Contract.model_validate({
    "format": 1,
    "signatures": {
        "serving_default": {
            "method": "predict",
            "inputs": {
                "image": {"shape": ["N", 2, 2, 3], "range": [-1, 1]},
                "id": {"shape": ["N", 2], "dtype": "int64", "range": [0, 2]},
            },
            "outputs": {"y": {"shape": ["N"]}},
        },
        "wire": {
            "method": "predict",
            "inputs": {
                "bytes": {"dtype": "string", "shape": ["N"], "to": "image", "image": {"order": "bgr"}},
                "word": {
                    "dtype": "string", "shape": ["N", 2], "to": "id", "vocabulary": {"words": ["a", "?0", "c"], "oov": 7},
                },
            },
        },
        "regress": {"method": "regress", "value": "y", "features": {"image": {"feature": "p", "image": {}}}},
    },
})  # fmt: skip
IMAGES = arrays.arrays(np.float32, (2, 2, 2, 3), elements=st.floats(-2, 2, width=32))


@settings(max_examples=50)
@given(IMAGES)
def test_what_a_picture_carries_it_carries_again(images):
    """Else golden rows would never be what arrives."""
    inputs = {"image": images, "id": np.array([[0, 1], [2, 0]])}

    once = forms.carried(CONTRACT, "wire", inputs)

    np.testing.assert_array_equal(forms.carried(CONTRACT, "wire", once)["image"], once["image"])
    np.testing.assert_allclose(once["image"], np.clip(images, -1, 1), atol=1 / 255 + 1e-6)


def test_pictures_have_the_order_of_colours_that_files_have():
    """The model wants blue first."""
    image = np.full((1, 2, 2, 3), [-1, 0.2, 1], np.float32)

    sent = forms.encode(CONTRACT, "wire", {"image": image, "id": np.array([[0, 1]])})

    assert decode(sent["bytes"][0])[0, 0].tolist() == [255, 153, 0]


def test_a_number_without_a_word_gets_a_word_that_is_in_no_vocabulary():
    inputs = {"image": np.zeros((2, 2, 2, 3), np.float32), "id": np.array([[0, 2], [-1, 3]])}

    assert forms.encode(CONTRACT, "wire", inputs)["word"].tolist() == [[b"a", b"c"], [b"?1", b"?1"]]
    assert forms.carried(CONTRACT, "wire", inputs)["id"].tolist() == [[0, 2], [7, 7]]


def test_only_what_pictures_round_is_rounded_for_all():
    """A number that no word stands for says nothing of the words' signature, but the row serves the others."""
    inputs = {"image": np.full((1, 2, 2, 3), 0.1, np.float32), "id": np.array([[5, 6]])}

    found = forms.carried_by_all(CONTRACT, inputs)

    assert found["id"].tolist() == [[5, 6]]
    assert found["image"].max() != inputs["image"].max()


def test_examples_hold_pictures():
    inputs = {"image": np.zeros((1, 2, 2, 3), np.float32), "id": np.array([[5, 6]])}

    (packed,) = forms.encode(CONTRACT, "regress", inputs)["inputs"]

    features = messages.Example.FromString(packed).features.feature
    assert sorted(features) == ["id", "p"]
    assert decode(features["p"].bytes_list.value[0]).shape == (2, 2, 3)
    assert list(features["id"].int64_list.value) == [5, 6]


RECOMMENDER = Contract.model_validate({
    "format": 1,
    "signatures": {
        "serving_default": {
            "method": "predict",
            "inputs": {"examples": {"dtype": "string", "shape": ["N"], "example": {
                "age": {"shape": [2], "range": [10, 20], "default": 15},
                "job": {"dtype": "string", "values": ["cook", "smith"]},
                "seen": {"dtype": "int64", "count": [1, 4], "range": [100, 200]},
            }}},
            "outputs": {"p": {"shape": ["N", 1]}},
        },
        "click": {"method": "regress", "value": "p"},
    },
})  # fmt: skip


def parsed(packed):
    features = messages.Example.FromString(packed).features.feature
    return {name: list(getattr(f, f.WhichOneof("kind")).value) for name, f in features.items()}


def test_examples_that_a_model_parses_are_drawn_as_it_has_them():
    drawn = rows.draw(RECOMMENDER, RECOMMENDER.default, 200)["examples"]

    found = [parsed(one) for one in drawn]
    assert {len(one["seen"]) for one in found} == {1, 2, 3, 4}
    assert {word for one in found for word in one["job"]} == {b"cook", b"smith"}
    ages = [one["age"] for one in found if "age" in one]
    assert 0.6 < len(ages) / 200 < 0.9, "some Examples lack what has a default"
    assert all(len(age) == 2 and 10 <= min(age) <= max(age) <= 20 for age in ages)
    assert forms.encode(RECOMMENDER, "click", {"examples": drawn})["inputs"] is drawn


def test_the_edges_of_examples():
    least, greatest = map(parsed, rows.edges(RECOMMENDER, RECOMMENDER.default)["examples"])

    assert least == {"age": [10, 10], "job": [b"cook"], "seen": [100]}
    assert greatest == {"age": [20, 20], "job": [b"smith"], "seen": [200] * 4}
