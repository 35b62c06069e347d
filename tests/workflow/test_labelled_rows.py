import dataclasses

import numpy as np
import pytest
from tests.workflow import served_models as served

from slipway import golden, labelled_rows
from slipway.errors import ServerError, SettingsError, SourceError
from slipway_wire import dtypes, messages, signatures
from slipway_wire.signatures import Signature, TensorSpec


@pytest.fixture
def data(tmp_path):
    golden.write(tmp_path / "golden.npz", served.digits_golden(10))
    return tmp_path / "golden.npz"


def read(path, name="serving_default", output=None):
    return labelled_rows.read(path, served.digits_contract(), name, output)


def specs(**shapes):
    return {name: TensorSpec(name, dtypes.FLOAT, shape, f"{name}:0") for name, shape in shapes.items()}


def test_every_row_is_asked_once_and_in_order(data):
    known = read(data)
    parts = list(known.parts(7, 3))

    assert [len(part["image"]) for part in parts] == [3, 3, 1]
    assert np.array_equal(np.concatenate([part["image"] for part in parts]), known.data.inputs["image"][:7])


def test_classify_gets_the_same_rows_as_examples(data):
    known = read(data, "classify")
    (part,) = known.parts(3, 3)
    second = messages.Example.FromString(part["inputs"][1])

    assert np.array_equal(second.features.feature["image/raw"].float_list.value, known.data.inputs["image"][1])


def test_a_users_own_file_needs_no_folders_in_its_names(tmp_path):
    made = served.digits_golden(4)
    np.savez(tmp_path / "mine.npz", image=made.inputs["image"].astype(np.float64), labels=made.labels)
    known = read(tmp_path / "mine.npz")

    assert known.data.inputs["image"].dtype == np.float32
    assert known.wrong_offline(4) is None


def test_offline_answers_are_counted_like_the_served_ones(data):
    made = served.digits_golden(10)
    wrong = made.outputs["label"] != made.labels

    assert read(data).wrong_offline(10).tolist() == wrong.tolist()
    assert read(data, output="probabilities").wrong_offline(10).tolist() == wrong.tolist()
    assert read(data, "classify").wrong_offline(10).tolist() == wrong.tolist()


@pytest.mark.parametrize(
    ("name", "output", "said"),
    [
        ("other", None, "--signature: no other in the contract; there are: serving_default, classify, regress"),
        ("regress", None, "regress is a regression"),
        ("serving_default", "other", "serving_default has no output other; there are: logits"),
    ],
)
def test_what_chooses_nothing_is_refused(data, name, output, said):
    with pytest.raises(SettingsError, match=said):
        read(data, name, output)


def test_without_golden_label_the_output_must_be_named(data):
    contract = served.digits_contract().model_copy(update={"golden": type(served.digits_contract().golden)()})

    with pytest.raises(SettingsError, match="--output: which output of serving_default"):
        labelled_rows.read(data, contract, "serving_default", None)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"image": np.zeros((3, 64), np.float32)}, "no array labels"),
        ({"image": np.zeros((3, 64), np.float32), "labels": np.zeros(2, int)}, r"labels: expected shape \[3\]"),
        ({"image": np.zeros((3, 8, 8), np.float32), "labels": np.zeros(3, int)}, r"expected shape \[N, 64\]"),
        ({"picture": np.zeros((3, 64), np.float32), "labels": np.zeros(3, int)}, "no array image; found: picture"),
    ],
)
def test_data_that_do_not_fit_are_told_in_one_line(tmp_path, arrays, said):
    np.savez(tmp_path / "mine.npz", **arrays)

    with pytest.raises(SourceError, match=said) as refused:
        read(tmp_path / "mine.npz")
    assert len(str(refused.value).splitlines()) == 1


GOOD = Signature(
    "serving_default",
    signatures.PREDICT,
    specs(image=(None, 64)),
    {"label": TensorSpec("label", dtypes.INT64, (None,), "label:0")},
)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (None, "has no signature serving_default; it has: other"),
        ({"method": signatures.CLASSIFY}, "expected method tensorflow/serving/predict"),
        ({"inputs": specs(picture=(None, 64))}, "no input image; it has: picture"),
        (
            {"inputs": specs(image=(None, 784))},
            r"the contract has input image: float \[N, 64\], the server image: float \[\?, 784\]",
        ),
        ({"inputs": specs(image=(None, 8, 8))}, r"the server image: float \[\?, 8, 8\]"),
        ({"outputs": specs(label=(None,))}, r"output label: int64 \[N\], the server label: float \[\?\]"),
        ({"outputs": {}}, "no output label; it has: none"),
    ],
)
def test_another_model_than_the_contracts_is_told_before_anything_is_sent(data, change, said):
    served_signatures = {"other": GOOD} if change is None else {GOOD.name: dataclasses.replace(GOOD, **change)}

    with pytest.raises(ServerError, match=said):
        read(data).check(served_signatures, "there: model digits")


@pytest.mark.parametrize("shape", [(None, 64), (None, None), None])
def test_a_server_may_leave_shapes_open(data, shape):
    assert read(data).check({GOOD.name: dataclasses.replace(GOOD, inputs=specs(image=shape))}, "there")
