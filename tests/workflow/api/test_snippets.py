"""What programs look like; test_content.py runs them."""

import numpy as np

from slipway.api.calls import Call
from slipway.api.snippets import Addresses, large_inputs, snippets


def texts(call):
    return {snippet.title: snippet.text for snippet in snippets(call, Addresses("rest:1", "grpc:2"))}


def call(inputs, method="predict", signature="serving_default"):
    return Call("m", signature, method, inputs, None)


def test_they_send_where_they_are_told():
    written = texts(call({"x": np.float32([0.5])}))

    assert written["curl"] == "curl --data '{\"instances\":[0.5]}' http://rest:1/v1/models/m:predict\n"
    assert 'url = "http://rest:1/v1/models/m:predict"' in written["Python, REST"]
    assert 'Client("grpc:2", "m")' in written["Python, gRPC"]
    assert '"x": np.array([0.5], np.float32),' in written["Python, gRPC"]


def test_a_signature_is_named_unless_it_is_the_default():
    written = texts(call({"x": np.float32([0.5])}, signature="other"))

    assert '"signature_name":"other"' in written["curl"]
    assert 'client.predict(inputs, signature="other")' in written["Python, gRPC"]
    assert "signature" not in texts(call({"x": np.float32([0.5])}))["Python, gRPC"]


def test_floats_have_the_digits_that_people_wrote():
    assert "[0.1, 0.3]" in texts(call({"x": np.float32([0.1, 0.3])}))["Python, gRPC"]


def test_text_of_a_shell_is_quoted():
    written = texts(call({"x": np.array([b"it's $HOME"], object)}))

    assert written["curl"].startswith('curl --data \'{"instances":["it\'"\'"\'s $HOME"]}\' http')


def test_what_is_large_lies_beside():
    image = np.array([b"\xff\xd8\xff" + bytes(5000)], object)
    numbers = np.zeros((1, 5000), np.float32)
    given = call({"image": image, "numbers": numbers})
    files = large_inputs(given)
    written = texts(given)

    assert set(files) == {"requests/serving_default.image.jpg", "requests/serving_default.numbers.npy"}
    assert files["requests/serving_default.image.jpg"] == image[0]
    assert written["curl"] == ("curl --data @requests/serving_default.row.json http://rest:1/v1/models/m:predict\n")
    assert all(len(text) < 1000 for text in written.values())
    assert all(name in written["Python, gRPC"] for name in files)


def test_without_json_there_is_grpc():
    assert list(texts(call({"x": np.uint16([1])}))) == ["Python, gRPC"]


def test_every_dtype_is_named_as_numpy_has_it():
    for dtype in (np.bool_, np.int8, np.uint64, np.float16, np.float64):
        array = np.zeros(1, dtype)
        source = texts(call({"x": array}))["Python, gRPC"].partition('"x": ')[2].partition(",\n")[0]
        assert eval(source, {"np": np}).dtype == array.dtype
