"""TensorFlow's own TFLite interpreter, on TF Serving's test models and on models converted here."""

import contextlib
import struct
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway_server.backends.tflite import MODEL_FILE, TfLiteLoader, TfLiteServable
from slipway_server.load_options import LoadOptions
from slipway_server.servables.loader import Call
from slipway_wire.signatures import PREDICT
from slipway_wire.status import DataLoss, InvalidArgument, NotFound, Unimplemented, WireError

WITHOUT = "saved_model_half_plus_two_tflite"
WITH = "saved_model_half_plus_two_tflite_with_sigdef"


@pytest.fixture(scope="module")
def load(testdata):
    def by_name(name, **options):
        return TfLiteLoader(testdata / name / "00000123", LoadOptions(**options)).load()

    return by_name


@pytest.fixture(scope="module")
def converted():
    """Strings, several dtypes, an op that only TensorFlow has: name -> the bytes of model.tflite."""
    import warnings

    import tensorflow as tf

    class Module(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
        def strings(self, text):
            return {"column": tf.reshape(text, [-1, 1])}

        @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32), tf.TensorSpec([None, 1], tf.int64)])
        def numbers(self, x, k):
            return {"sum": tf.reduce_sum(x, -1, keepdims=True), "twice": k + k, "is_large": x > 0.5}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
        def custom(self, x):
            return {"y": tf.raw_ops.Erfinv(x=x)}

    module = Module()

    def convert(function):
        converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], module)
        converter.allow_custom_ops = True
        return converter.convert()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {name: convert(getattr(module, name)) for name in ("strings", "numbers", "custom")}


@pytest.mark.parametrize(("name", "graph_name"), [(WITHOUT, "x"), (WITH, "tflite_input")])
def test_signatures_come_from_the_metadata_or_from_the_tensors(load, name, graph_name):
    servable = load(name)

    assert list(servable.signatures) == ["serving_default"]
    signature = servable.signatures["serving_default"]
    assert signature.method == PREDICT
    assert [str(spec) for spec in signature.inputs.values()] == ["x: float [1, 1]"]
    assert signature.inputs["x"].graph_name == graph_name
    assert list(signature.outputs) == ["y"]
    assert servable.signature_defs["serving_default"].method_name == PREDICT


@pytest.mark.parametrize("name", [WITHOUT, WITH])
@pytest.mark.parametrize("x", [[1.0, 2.0, 5.0], [[1.0], [2.0]], [[3.0, 4.0]], 5.0])
def test_inputs_are_resized_to_what_was_sent(load, name, x):
    """TF Serving's suite sends [?] to a model that was converted with [1, 1]."""
    sent = np.float32(x)

    y = load(name).run(Call("serving_default", {"x": sent}, ("y",)))["y"]

    np.testing.assert_array_equal(y, sent / 2 + 2)


def test_several_dtypes_and_a_choice_of_outputs(converted):
    servable = TfLiteServable(converted["numbers"], interpreters=1, threads=1)
    signature = servable.signatures["serving_default"]
    inputs = {alias: np.full([4, spec.shape[1]], 1, spec.dtype.numpy) for alias, spec in signature.inputs.items()}

    outputs = servable.run(Call("serving_default", inputs, tuple(signature.outputs)))

    assert sorted((array.dtype.name, array.shape) for array in outputs.values()) == [
        ("bool", (4, 3)),
        ("float32", (4, 1)),
        ("int64", (4, 1)),
    ]
    one = next(iter(outputs))
    assert servable.run(Call("serving_default", inputs, (one,))).keys() == {one}
    joint = [Call("serving_default", inputs, (alias,)) for alias in outputs]
    for call, answer in zip(joint, servable.run_together(joint), strict=True):
        np.testing.assert_array_equal(answer[call.outputs[0]], outputs[call.outputs[0]])


def test_strings_keep_every_byte(converted):
    servable = TfLiteServable(converted["strings"], interpreters=1, threads=1)
    signature = servable.signatures["serving_default"]
    (alias,), (output,) = signature.inputs, signature.outputs
    text = np.array([b"a\x00b\x00", b"\xff", b""], object)

    answer = servable.run(Call("serving_default", {alias: text}, (output,)))[output]

    assert answer.dtype == object
    assert answer.tolist() == [[b"a\x00b\x00"], [b"\xff"], [b""]]


def test_another_dtype_is_refused(load):
    with pytest.raises(InvalidArgument, match=r"^Type mismatch: actual double vs. expect float for input x$"):
        load(WITHOUT).run(Call("serving_default", {"x": np.float64([1.0])}, ("y",)))


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (2, 3, 1), (2, 3, 1, 1, 1), (1,) * 20])
def test_shapes_that_crash_kernels_never_reach_them(converted, shape):
    """More axes than the model was converted for, or nothing at all: kernels trust these, and the process would die."""
    servable = TfLiteServable(converted["numbers"], interpreters=1, threads=1)
    inputs = _ones(servable, shape)

    with pytest.raises(
        InvalidArgument, match=r"has shape .*; the TFLite model takes \[\?, 3\], of any sizes from 1 on"
    ):
        servable.run(Call("serving_default", inputs, tuple(servable.signatures["serving_default"].outputs)))


def test_a_shape_the_graph_refuses_harms_no_other_request(converted):
    servable = TfLiteServable(converted["numbers"], interpreters=1, threads=1)
    outputs = tuple(servable.signatures["serving_default"].outputs)
    good = _ones(servable, (2, 3))
    expected = servable.run(Call("serving_default", good, outputs))

    with pytest.raises(InvalidArgument, match=r"^the TFLite interpreter refused inputs of shape .*: [^\n]*$"):
        servable.run(Call("serving_default", _ones(servable, ()), outputs))

    found = servable.run(Call("serving_default", good, outputs))
    for alias, array in expected.items():
        np.testing.assert_array_equal(found[alias], array)


def _ones(servable, shape):
    """Feed *shape* to the float input, and [2, 1] to the other one."""
    specs = servable.signatures["serving_default"].inputs.values()
    return {spec.name: np.ones(shape if spec.dtype.name == "float" else (2, 1), spec.dtype.numpy) for spec in specs}


def test_there_are_never_more_interpreters_than_allowed_and_each_request_gets_its_answer(load):
    servable = load(WITH, tflite_interpreters=2)
    built, build, wrong = [], servable._build, []

    def counted():
        built.append(1)
        return build()

    servable._build = counted

    def ask(number):
        for step in range(40):
            x = np.full([1 + (number + step) % 4, 1], number * 100 + step, np.float32)
            if not np.array_equal(servable.run(Call("serving_default", {"x": x}, ("y",)))["y"], x / 2 + 2):
                wrong.append((number, step))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not wrong
    # One was built at load.
    assert len(built) <= 1
    assert len(servable._idle) <= 2
    servable.close()
    assert not servable._idle


def test_a_custom_op_is_named(converted, tmp_path):
    (tmp_path / MODEL_FILE).write_bytes(converted["custom"])

    with pytest.raises(
        Unimplemented, match=r"model\.tflite: it needs the custom op Erfinv, .* without --prefer_tflite_model$"
    ):
        TfLiteLoader(tmp_path, LoadOptions()).load()


def test_a_file_that_is_missing_or_no_model_is_told_with_its_path(tmp_path):
    with pytest.raises(NotFound, match=rf"^{tmp_path}/model\.tflite: not there$"):
        TfLiteLoader(tmp_path, LoadOptions()).load()
    for content in (b"", b"TFL3", b"no model at all"):
        (tmp_path / MODEL_FILE).write_bytes(content)
        with pytest.raises(DataLoss, match=rf"^{tmp_path}/model\.tflite: not a TFLite model, or damaged: "):
            TfLiteLoader(tmp_path, LoadOptions()).load()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_damaged_file_is_an_error_and_nothing_else(testdata, data):
    """The interpreter verifies a file before it follows offsets in it; a crash here would be a crash of the server."""
    content = bytearray((testdata / WITH / "00000123" / MODEL_FILE).read_bytes())
    del content[data.draw(st.integers(1, len(content))) :]
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=4)):
        content[place] = data.draw(st.integers(0, 255))

    with contextlib.suppress(WireError):
        TfLiteServable(bytes(content), interpreters=1, threads=1)


def test_a_signature_that_names_no_tensor_is_told(testdata):
    content = (testdata / WITH / "00000123" / MODEL_FILE).read_bytes()
    renamed = content.replace(struct.pack("B", 14) + b"tflite_input:0", struct.pack("B", 14) + b"tflite_inp_t:0")
    assert renamed != content

    with pytest.raises(WireError, match="signature serving_default names the tensor tflite_inp_t:0"):
        TfLiteServable(renamed, interpreters=1, threads=1)
