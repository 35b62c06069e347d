import re

from slipway_server.errors import told
from slipway_wire.status import Code, NotFound


def test_an_error_with_a_code_is_passed_on():
    error = NotFound("no such model")

    assert told(error) is error


def test_anything_else_is_told_by_an_id_and_logged_with_its_traceback(caplog):
    """A caller must not read our paths and values; we must find what happened."""
    try:
        _ = {}["secret"]
    except KeyError as error:
        fault = told(error)

    assert fault.code is Code.INTERNAL
    (number,) = re.fullmatch(r"internal error \(id ([0-9a-f]{8})\)", fault.message).groups()
    assert number in caplog.text
    assert "KeyError: 'secret'" in caplog.text
