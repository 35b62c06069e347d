import contextlib

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from hypothesis import given
from hypothesis import strategies as st

from slipway_wire import messages, reflection
from slipway_wire.status import Code, InvalidArgument

SERVED = ["b.Service", "a.Service"]


def ask(**what):
    request = messages.ServerReflectionRequest(host="h", **what)
    response = messages.ServerReflectionResponse.FromString(reflection.answer(request.SerializeToString(), SERVED))
    assert response.original_request == request
    assert response.valid_host == "h"
    return response


def files(response):
    return [
        descriptor_pb2.FileDescriptorProto.FromString(one)
        for one in response.file_descriptor_response.file_descriptor_proto
    ]


def test_services_are_listed_in_order():
    assert [one.name for one in ask(list_services="").list_services_response.service] == sorted(SERVED)


@pytest.mark.parametrize(
    "symbol",
    [
        "tensorflow.serving.PredictionService",
        "tensorflow.serving.PredictionService.Predict",
        "tensorflow.serving.PredictRequest",
        "tensorflow.serving.ModelVersionStatus.State",
    ],
)
def test_a_symbol_comes_with_all_that_is_needed_to_use_it(symbol):
    """The file asked for is the first, and a pool takes them from the last to the first."""
    found = files(ask(file_containing_symbol=symbol))

    assert found[0].package == "tensorflow.serving"
    pool = descriptor_pool.DescriptorPool()
    for file in reversed(found):
        pool.AddSerializedFile(file.SerializeToString())
    assert pool.FindMessageTypeByName("tensorflow.serving.PredictRequest").fields_by_name["inputs"]


def test_a_file_is_found_by_its_name():
    (found,) = files(ask(file_by_filename="grpc_health.proto"))

    assert found.package == "grpc.health.v1"


def test_nothing_has_extensions():
    response = ask(all_extension_numbers_of_type="tensorflow.TensorProto").all_extension_numbers_response

    assert response.base_type_name == "tensorflow.TensorProto"
    assert not response.extension_number


@pytest.mark.parametrize(
    ("what", "code"),
    [
        ({"file_by_filename": "nope.proto"}, Code.NOT_FOUND),
        ({"file_containing_symbol": "nope"}, Code.NOT_FOUND),
        ({"file_containing_symbol": ""}, Code.NOT_FOUND),
        ({"file_containing_symbol": "tensorflow.serving.PredictionService.Nope"}, Code.NOT_FOUND),
        ({"file_containing_extension": {"containing_type": "nope", "extension_number": 1}}, Code.NOT_FOUND),
        (
            {"file_containing_extension": {"containing_type": "tensorflow.TensorProto", "extension_number": 1}},
            Code.NOT_FOUND,
        ),
        ({"all_extension_numbers_of_type": "nope"}, Code.NOT_FOUND),
        ({}, Code.INVALID_ARGUMENT),
    ],
)
def test_what_is_not_there_is_told_in_the_answer(what, code):
    assert ask(**what).error_response.error_code == code


@given(st.binary(max_size=100))
def test_any_bytes_give_an_answer_or_are_refused(data):
    with contextlib.suppress(InvalidArgument):
        messages.ServerReflectionResponse.FromString(reflection.answer(data, SERVED))
