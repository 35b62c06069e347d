import grpc
import pytest

from slipway_wire.status import Code, InvalidArgument, Unavailable, Unknown, WireError, error_of


@pytest.mark.parametrize("code", Code)
def test_codes_have_grpcs_names_and_numbers(code):
    assert grpc.StatusCode[code.name].value[0] == code


def test_every_code_but_ok_has_its_error():
    carried = {type(error_of(code, "")) for code in Code if code is not Code.OK}

    assert carried == set(WireError.__subclasses__())
    assert all(error_of(code, "").code == code for code in Code if code is not Code.OK)


@pytest.mark.parametrize(
    ("http", "codes"),
    {
        200: "OK",
        400: "INVALID_ARGUMENT FAILED_PRECONDITION OUT_OF_RANGE",
        401: "UNAUTHENTICATED",
        403: "PERMISSION_DENIED",
        404: "NOT_FOUND",
        409: "ALREADY_EXISTS ABORTED",
        429: "RESOURCE_EXHAUSTED",
        499: "CANCELLED",
        500: "UNKNOWN INTERNAL DATA_LOSS",
        501: "UNIMPLEMENTED",
        503: "UNAVAILABLE",
        504: "DEADLINE_EXCEEDED",
    }.items(),
)
def test_http_status_is_tf_servings(http, codes):
    assert {code.name for code in Code if code.http_status == http} == set(codes.split())


def test_an_error_keeps_its_message():
    error = error_of(3, "no")

    assert isinstance(error, InvalidArgument)
    assert (error.message, str(error)) == ("no", "no")


@pytest.mark.parametrize("number", [0, 17, -1, 99])
def test_a_number_that_is_no_error_becomes_unknown(number):
    assert type(error_of(number, "what?")) is Unknown


def test_an_error_says_when_to_try_again_if_it_knows():
    assert Unavailable("full", retry_after_s=3).retry_after_s == 3
    assert error_of(14, "full").retry_after_s is None
