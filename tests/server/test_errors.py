import gc
import re
import weakref
from concurrent.futures import Future

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


def test_what_was_told_holds_nothing_of_the_request():
    """Not even until the next garbage collection, which a few large requests would not bring about."""

    class Tensor:
        """Can be referred to weakly, unlike bytes."""

    def fail():
        tensor = Tensor()
        future = Future()
        try:
            {}[tensor]
        except KeyError as error:
            future.set_exception(NotFound("no such thing"))
            raise future.exception() from error

    gc.disable()
    try:
        try:
            fail()
        except NotFound as error:
            tensor = weakref.ref(error.__cause__.args[0])
            fault = told(error)

        assert tensor() is None
        assert fault.message == "no such thing"
    finally:
        gc.enable()
