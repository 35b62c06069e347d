"""The client that is given away, against our own reading of the same messages; test_content.py calls a server with it."""

import base64
import subprocess
import sys
import zlib

import numpy as np
import pytest
from google.protobuf import descriptor_pb2
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from slipway.api import grpc_client
from slipway_wire import dtypes, messages, tensors

DTYPES = ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?"]
NEEDED = {
    "tensorflow": "TensorShapeProto TensorProto BytesList FloatList Int64List Feature Features Example",
    "tensorflow.serving": "ModelSpec PredictRequest PredictResponse ExampleList Input Class Classifications "
    "ClassificationResult ClassificationRequest ClassificationResponse Regression RegressionResult "
    "RegressionRequest RegressionResponse",
}


def any_array():
    shapes = arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
    numbers = st.sampled_from(DTYPES).flatmap(lambda dtype: arrays.arrays(dtype, shapes))
    return numbers | arrays.arrays(object, shapes, elements=st.binary(max_size=6))


def needed_descriptors():
    """Cut our descriptors down to what a caller needs; element types are numbers, so that their names may stay away."""
    files = descriptor_pb2.FileDescriptorSet()
    for package, names in NEEDED.items():
        whole = descriptor_pb2.FileDescriptorProto()
        messages.POOL.FindMessageTypeByName(f"{package}.{names.split()[0]}").file.CopyToProto(whole)
        file = files.file.add(name=whole.name, package=package, syntax="proto3")
        if package != "tensorflow":
            file.dependency.extend(["google/protobuf/wrappers.proto", "tensorflow.proto"])
        file.message_type.extend(m for m in whole.message_type if m.name in names.split())
        for message in file.message_type:
            if message.name == "TensorProto":
                message.field[0].type = message.field[0].TYPE_INT32
                message.field[0].ClearField("type_name")
            if message.name == "Input":
                del message.field[1:]
    return files


def test_its_messages_are_ours():
    packed = zlib.decompress(base64.b64decode(grpc_client._DESCRIPTORS))
    wanted = needed_descriptors()

    assert descriptor_pb2.FileDescriptorSet.FromString(packed) == wanted, base64.b64encode(
        zlib.compress(wanted.SerializeToString(deterministic=True), 9)
    )


def test_it_knows_every_number_and_field_as_we_do():
    for number, (dtype, field) in grpc_client._TYPES.items():
        known = dtypes.from_number(number)
        assert (known.numpy, known.field) == (np.dtype(dtype), field)


@given(any_array())
def test_what_it_sends_we_read(array):
    sent = grpc_client.to_tensor(array).SerializeToString()

    assert_same(tensors.from_bytes(sent), array)


@given(any_array(), st.booleans())
def test_what_we_send_it_reads(array, as_content):
    sent = tensors.to_proto(array, as_content=as_content).SerializeToString()

    assert_same(grpc_client.to_array(grpc_client.TensorProto.FromString(sent)), array)


def assert_same(found, wanted):
    assert found.shape == wanted.shape
    assert found.dtype == wanted.dtype
    assert found.tolist() == wanted.tolist() if wanted.dtype == object else found.tobytes() == wanted.tobytes()


def test_one_value_fills_a_tensor():
    proto = grpc_client.TensorProto(dtype=1, float_val=[2.5])
    proto.tensor_shape.dim.add().size = 3

    assert grpc_client.to_array(proto).tolist() == [2.5] * 3


def test_strings_may_be_text_and_keep_their_zero_bytes():
    assert list(grpc_client.to_tensor(["ü", b"\0\0"]).string_val) == ["ü".encode(), b"\0\0"]


def test_an_example_holds_three_kinds_of_features():
    made = grpc_client.example(
        {"f": np.float32([[0.5], [1.5]]), "i": 3, "b": True, "s": "text", "l": [b"a", b"b\0"]}
    ).SerializeToString()
    features = messages.Example.FromString(made).features.feature

    assert list(features["f"].float_list.value) == [0.5, 1.5]
    assert list(features["i"].int64_list.value) == [3]
    assert list(features["b"].int64_list.value) == [1]
    assert list(features["s"].bytes_list.value) == [b"text"]
    assert list(features["l"].bytes_list.value) == [b"a", b"b\0"]


def test_it_needs_nothing_of_ours_and_no_tensorflow():
    """It goes into other people's projects."""
    code = (
        "import sys, runpy; runpy.run_path(sys.argv[1]); "
        "bad = [m for m in sys.modules if m.split('.')[0] in ('tensorflow', 'slipway', 'slipway_wire')]; assert not bad"
    )
    subprocess.run([sys.executable, "-I", "-c", code, grpc_client.__file__], check=True, timeout=300)


def test_a_deadline_and_nobody_there_are_errors_of_grpc():
    import grpc

    with grpc_client.Client("127.0.0.1:1", "m", timeout_s=5) as client, pytest.raises(grpc.RpcError) as refused:
        client.predict({"x": np.float32([1])})

    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
