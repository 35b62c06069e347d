import numpy as np
import pytest

from slipway import rows
from slipway.contract import Contract
from slipway.errors import SourceError
from slipway.golden import Golden
from slipway_wire import messages

CONTRACT = Contract.model_validate(
    {
        "format": 1,
        "signatures": {
            "serving_default": {
                "method": "predict",
                "inputs": {
                    "image": {"shape": ["N", 2, 2], "range": [-1, 3]},
                    "count": {"shape": ["N"], "dtype": "int32", "range": [5, 7]},
                    "flag": {"shape": ["N"], "dtype": "bool"},
                    "word": {"shape": ["N"], "dtype": "string", "values": ["yes", "no"]},
                },
                "outputs": {"score": {"shape": ["N", 1]}},
            },
            "rate": {"method": "regress", "value": "score", "features": {"image": "image/raw"}},
            "steps": {
                "method": "predict",
                "inputs": {"a": {"shape": ["N", "T"]}, "b": {"shape": ["N", "T", 2]}},
                "outputs": {"c": {"shape": ["N"]}},
            },
        },
        "probe": {"dims": {"T": 3}, "seed": 4},
    }
)
DEFAULT = CONTRACT.default
NOTHING_GOLDEN = Golden({"other": np.zeros(1)}, {"y": np.zeros(1)}, None)


def test_drawn_rows_keep_the_contract():
    drawn = rows.draw(CONTRACT, DEFAULT, 50)

    assert rows.misfits(DEFAULT.inputs, drawn) == []
    assert drawn["image"].min() >= -1
    assert drawn["image"].max() <= 3
    assert set(drawn["count"]) == {5, 6, 7}
    assert set(drawn["flag"]) == {False, True}
    assert set(drawn["word"]) == {b"yes", b"no"}


def test_drawn_rows_do_not_depend_on_how_many_are_asked_for():
    few, many = rows.draw(CONTRACT, DEFAULT, 3), rows.draw(CONTRACT, DEFAULT, 9)

    assert all(np.array_equal(few[name], many[name][:3]) for name in few)


def test_the_seed_and_the_name_decide_what_is_drawn():
    other = CONTRACT.model_copy(update={"probe": CONTRACT.probe.model_copy(update={"seed": 5})})

    assert not np.array_equal(rows.draw(CONTRACT, DEFAULT, 3)["image"], rows.draw(other, DEFAULT, 3)["image"])


def test_edges_are_all_least_and_all_greatest():
    edges = rows.edges(CONTRACT, DEFAULT)

    assert edges["image"].reshape(2, -1).tolist() == [[-1] * 4, [3] * 4]
    assert edges["count"].tolist() == [5, 7]


def test_golden_rows_are_used_by_signatures_that_take_them():
    image = np.arange(8, dtype=np.float32).reshape(2, 2, 2)
    given = rows.draw(CONTRACT, DEFAULT, 2) | {"image": image}

    asked = rows.rows_for(CONTRACT, "serving_default", 3, Golden(given, {"y": np.zeros(2)}, None))

    assert np.array_equal(asked["image"], image[[0, 1, 0]])


def test_where_no_golden_rows_fit_rows_are_drawn():
    asked = rows.rows_for(CONTRACT, "steps", 2, NOTHING_GOLDEN)

    assert asked["b"].shape == (2, 3, 2)


def test_examples_carry_every_input_flattened_under_its_feature():
    inputs = rows.draw(CONTRACT, DEFAULT, 2)

    asked = rows.rows_for(CONTRACT, "rate", 2, Golden(inputs, {"y": np.zeros(2)}, None))

    feature = messages.Example.FromString(asked["inputs"][1]).features.feature
    assert sorted(feature) == ["count", "flag", "image/raw", "word"]
    assert list(feature["image/raw"].float_list.value) == inputs["image"][1].ravel().tolist()
    assert list(feature["count"].int64_list.value) == [inputs["count"][1]]
    assert list(feature["flag"].int64_list.value) == [int(inputs["flag"][1])]
    assert list(feature["word"].bytes_list.value) == [inputs["word"][1]]


def test_misfits_name_the_size_that_contradicts():
    steps = CONTRACT.signatures["steps"].inputs

    found = rows.misfits(steps, {"a": np.zeros((4, 3), np.float32), "b": np.zeros((4, 5, 2), np.float64)})

    assert found == ["b: expected float32, found float64", "b: expected shape [N, T, 2], N = 4, T = 3, found [4, 5, 2]"]


def test_arrays_of_a_file_are_brought_into_the_contracts_dtypes():
    given = {"a": np.zeros((1, 3), np.float64), "b": np.zeros((1, 3, 2), np.int64), "labels": np.zeros(1)}

    fitted = rows.fit("rows.npz", CONTRACT.signatures["steps"].inputs, given)

    assert {name: array.dtype.name for name, array in fitted.items()} == {"a": "float32", "b": "float32"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"b": None}, "rows.npz: no array b; found: a. Name arrays as the inputs of the contract."),
        ({"a": np.zeros((1, 3), complex)}, "rows.npz: a: expected float32, found complex128"),
        ({"a": np.array([[b"x"] * 3], object)}, "rows.npz: a: expected float32, found object"),
        ({"a": np.zeros((2, 3))}, "rows.npz: b: expected shape [N, T, 2], N = 2, T = 3, found [1, 3, 2]"),
        ({"a": np.zeros((0, 3)), "b": np.zeros((0, 3, 2))}, "rows.npz: has no rows."),
    ],
)
def test_arrays_that_cannot_be_meant_are_refused(changes, expected):
    given = {"a": np.zeros((1, 3)), "b": np.zeros((1, 3, 2))} | changes
    given = {name: array for name, array in given.items() if array is not None}

    with pytest.raises(SourceError) as caught:
        rows.fit("rows.npz", CONTRACT.signatures["steps"].inputs, given)

    assert str(caught.value) == expected
