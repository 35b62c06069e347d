import numpy as np
import pytest

from slipway_wire import dtypes, messages, signatures
from slipway_wire.signatures import CLASSIFY, PREDICT, REGRESS, Signature, TensorSpec
from slipway_wire.status import DataLoss, FailedPrecondition, InvalidArgument, NotFound

# Model -> signature -> (method, inputs, outputs), as TensorFlow's saved_model_cli shows them.
MODELS = {
    "matrix_half_plus_two/1": {
        "serving_default": (PREDICT, ["x: float [?, 3, 3]"], ["y: float [?, 3, 3]"]),
    },
    "saved_model_counter/00000123": {
        "get_counter": (PREDICT, [], ["output: float_ref []"]),
        "incr_counter": (PREDICT, [], ["output: float_ref []"]),
        "incr_counter_by": (PREDICT, ["delta: float […]"], ["output: float_ref []"]),
        "reset_counter": (PREDICT, [], ["output: float_ref []"]),
    },
    "saved_model_half_plus_three/00000123": {
        "serving_default": (PREDICT, ["x: float []"], ["y: float []"]),
        "tensorflow/serving/regress": (REGRESS, ["inputs: float []"], ["outputs: float []"]),
    },
    "saved_model_half_plus_two_cpu/00000123": {
        "classify_x_to_y": (CLASSIFY, ["inputs: string […]"], ["scores: float [?, 1]"]),
        "regress_x2_to_y3": (REGRESS, ["inputs: float [?, 1]"], ["outputs: float [?, 1]"]),
        "regress_x_to_y": (REGRESS, ["inputs: string […]"], ["outputs: float [?, 1]"]),
        "regress_x_to_y2": (REGRESS, ["inputs: string […]"], ["outputs: float [?, 1]"]),
        "serving_default": (PREDICT, ["x: float [?, 1]"], ["y: float [?, 1]"]),
    },
    "saved_model_half_plus_two_2_versions/00000124": {
        "classify_x2_to_y3": (CLASSIFY, ["inputs: float [?, 1]"], ["scores: float [?, 1]"]),
        "classify_x_to_y": (CLASSIFY, ["inputs: string […]"], ["scores: float [?, 1]"]),
        "regress_x2_to_y3": (REGRESS, ["inputs: float [?, 1]"], ["outputs: float [?, 1]"]),
        "regress_x_to_y": (REGRESS, ["inputs: string […]"], ["outputs: float [?, 1]"]),
        "regress_x_to_y2": (REGRESS, ["inputs: string […]"], ["outputs: float [?, 1]"]),
        "serving_default": (PREDICT, ["x: float [?, 1]"], ["y: float [?, 1]"]),
    },
    "saved_model_half_plus_two_tf2_cpu/00000123": {
        "__saved_model_init_op": ("", [], ["__saved_model_init_op: invalid […]"]),
        "classify_x2_to_y3": (PREDICT, ["inputs: float [1]"], ["scores: float [1]"]),
        "classify_x_to_y": (PREDICT, ["inputs: string [?]"], ["scores: float [?, 1]"]),
        "regress_x2_to_y3": (PREDICT, ["inputs: float [1]"], ["outputs: float [1]"]),
        "regress_x_to_y": (PREDICT, ["inputs: string [?]"], ["outputs: float [?, 1]"]),
        "regress_x_to_y2": (PREDICT, ["inputs: string [?]"], ["outputs: float [?, 1]"]),
        "serving_default": (PREDICT, ["x: float [1]"], ["y: float [1]"]),
    },
}
MODELS["saved_model_half_plus_two_2_versions/00000123"] = MODELS["saved_model_half_plus_two_2_versions/00000124"]


@pytest.mark.parametrize("model", MODELS)
def test_signatures_are_read_without_tensorflow(model, testdata):
    found = signatures.read_signatures(testdata / model)

    assert {
        name: (one.method, [str(s) for s in one.inputs.values()], [str(s) for s in one.outputs.values()])
        for name, one in found.items()
    } == MODELS[model]
    assert list(found) == sorted(found)


def test_every_test_model_is_in_the_table(testdata):
    found = {path.parent.relative_to(testdata).as_posix() for path in testdata.rglob("saved_model.pb")}

    assert found == MODELS.keys()


def test_defaults_are_read(testdata):
    found = signatures.read_signatures(testdata / "saved_model_half_plus_two_tf2_cpu" / "00000123")

    assert found["serving_default"].defaults["x"].tolist() == [0.0]
    assert found["serving_default"].inputs["x"].graph_name == "serving_default_x:0"


def test_a_directory_without_a_model_says_what_was_looked_for(tmp_path):
    with pytest.raises(NotFound, match=r"saved_model.pb: not there"):
        signatures.read_signatures(tmp_path)
    with pytest.raises(NotFound, match=r"saved_model.pb: not there"):
        signatures.read_signatures(tmp_path / "missing")


@pytest.mark.parametrize("damaged", [b"", b"not a saved model", b"\x08\x01"])
def test_a_damaged_model_is_told_apart_from_a_missing_one(tmp_path, damaged):
    (tmp_path / "saved_model.pb").write_bytes(damaged)

    with pytest.raises(DataLoss, match=r"saved_model.pb: "):
        signatures.read_signatures(tmp_path)


def test_a_truncated_model_is_data_loss(tmp_path, testdata):
    whole = (testdata / "saved_model_half_plus_two_cpu" / "00000123" / "saved_model.pb").read_bytes()
    (tmp_path / "saved_model.pb").write_bytes(whole[: len(whole) // 2])

    with pytest.raises(DataLoss):
        signatures.read_signatures(tmp_path)


def test_missing_tags_are_told_with_those_there_are(testdata):
    with pytest.raises(NotFound, match=r"tags {gpu,serve} in the SavedModel; it has {serve}"):
        signatures.read_signatures(testdata / "matrix_half_plus_two" / "1", {"serve", "gpu"})


def test_sparse_and_composite_tensors_have_no_name_in_the_graph():
    definition = messages.SignatureDef()
    definition.inputs["s"].coo_sparse.values_tensor_name = "values:0"
    definition.inputs["s"].dtype = 1

    assert signatures.from_proto("s", definition).inputs["s"].graph_name == ""


def spec(name):
    return TensorSpec(name, dtypes.FLOAT, (None,), f"{name}:0")


@pytest.fixture
def plain():
    return Signature("s", PREDICT, {"a": spec("a"), "b": spec("b")}, {"y": spec("y"), "z": spec("z")})


@pytest.fixture
def forgiving(plain):
    return Signature("s", PREDICT, plain.inputs, plain.outputs, {"b": np.float32([7])})


ONE = np.float32([1])


def test_inputs_come_back_in_the_signatures_order(plain):
    assert list(signatures.check_inputs(plain, {"b": ONE, "a": ONE})) == ["a", "b"]


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (
            "a",
            "input size does not match signature: 1!=2 len({a}) != len({a,b}). Sent extra: {}. Missing but required: {b}.",
        ),
        (
            "abc",
            "input size does not match signature: 3!=2 len({a,b,c}) != len({a,b}). Sent extra: {c}. Missing but required: {}.",
        ),
        (
            "ac",
            (
                "Signature input alias: b(feed name: b:0) not found in request and no default value provided. "
                "Inputs expected to be in the request {a,c}, or default input alias set: "
            ),
        ),
    ],
)
def test_inputs_that_do_not_fit_are_told_in_tf_servings_words(plain, sent, message):
    with pytest.raises(InvalidArgument) as caught:
        signatures.check_inputs(plain, dict.fromkeys(sent, ONE))

    assert caught.value.message == message


def test_defaults_stand_in_for_inputs_that_were_not_sent(forgiving):
    inputs = signatures.check_inputs(forgiving, {"a": ONE})

    assert inputs["b"].tolist() == [7.0]


def test_what_was_sent_goes_before_the_default(forgiving):
    assert signatures.check_inputs(forgiving, {"a": ONE, "b": ONE})["b"] is ONE


def test_a_default_does_not_hide_a_wrong_name(forgiving):
    with pytest.raises(
        InvalidArgument, match=r"^Inputs contains invalid name. Used request inputs: a, request input: a,c$"
    ):
        signatures.check_inputs(forgiving, {"a": ONE, "c": ONE})


def test_an_input_without_default_is_still_required(forgiving):
    with pytest.raises(InvalidArgument, match=r"^Signature input alias: a\(feed name: a:0\) not found in request"):
        signatures.check_inputs(forgiving, {"b": ONE})


def test_a_missing_signature_is_a_failed_precondition(plain):
    assert signatures.find_signature({"s": plain}, "s") is plain
    with pytest.raises(FailedPrecondition, match=r'^Serving signature key "t" not found\.$'):
        signatures.find_signature({"s": plain}, "t")


@pytest.mark.parametrize(("wanted", "expected"), [((), ("y", "z")), (("z",), ("z",)), (("z", "y"), ("y", "z"))])
def test_the_output_filter_chooses(plain, wanted, expected):
    assert signatures.check_output_filter(plain, wanted) == expected


def test_an_unknown_or_repeated_output_is_refused(plain):
    with pytest.raises(InvalidArgument) as unknown:
        signatures.check_output_filter(plain, ["q"])
    with pytest.raises(InvalidArgument) as repeated:
        signatures.check_output_filter(plain, ["y", "y"])

    assert unknown.value.message == (
        "output tensor alias not found in signature: q Outputs expected to be in the set {y,z}."
    )
    assert repeated.value.message == "duplicate output tensor alias: y"
