import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor

import numpy as np
import pytest

from slipway_server.batching.task import Answer, Task, Work
from slipway_wire.status import InvalidArgument

WAIT_S = 90.0
ANSWER = Answer({"y": np.ones(1)}, 0.0, 0.0)


def task(*, withdraw=lambda _: True):
    return Task(Work("m", "k", dict, {"x": np.ones(1)}), 1, 0.0, withdraw)


def test_an_answer_reaches_whoever_waits_and_whoever_asks_later():
    one, told = task(), []
    one.add_done_callback(told.append)
    assert not one.done()

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(one.result, WAIT_S)
        one.begin()
        assert one.running()
        one.finish(ANSWER)
        assert waiting.result(WAIT_S) is ANSWER
    one.add_done_callback(told.append)

    assert one.done()
    assert one.result(0) is ANSWER
    assert one.exception(0) is None
    assert told == [one, one]
    assert not one.cancel()
    assert not one.cancelled()


def test_an_error_is_raised():
    one = task()
    one.finish(InvalidArgument("no"))

    with pytest.raises(InvalidArgument, match="no"):
        one.result()
    assert one.exception().message == "no"


def test_whoever_waits_too_long_is_told():
    with pytest.raises(TimeoutError):
        task().result(0.001)


def test_what_waits_can_be_cancelled_and_says_so_once():
    withdrawn, told = [], []
    one = task(withdraw=lambda task: withdrawn.append(task) or True)
    one.add_done_callback(told.append)

    assert one.cancel()
    assert one.cancel()

    assert withdrawn == told == [one]
    assert one.cancelled()
    assert one.done()
    with pytest.raises(CancelledError):
        one.result(0)


def test_what_runs_cannot_be_cancelled_but_knows_that_nobody_waits():
    """Its callbacks give the servable back, so they must not run before the model has."""
    told = []
    one = task(withdraw=lambda _: False)
    one.add_done_callback(told.append)
    one.begin()

    assert not one.cancel()

    assert one.is_abandoned
    assert told == []
    one.finish(ANSWER)
    assert told == [one]


def test_a_callback_that_fails_is_logged_and_keeps_nobody_from_being_told(caplog):
    one, told = task(), []
    one.add_done_callback(lambda _: 1 / 0)
    one.add_done_callback(told.append)

    one.finish(ANSWER)

    assert told == [one]
    assert "ZeroDivisionError" in caplog.text
    assert "<Task of m: 1 rows, done>" in caplog.text


def test_every_callback_is_called_once_whoever_comes_first():
    """One thread finishes while another adds."""
    for _ in range(300):
        one, told, together = task(), [], threading.Barrier(2)

        def add(one=one, told=told, together=together):
            together.wait(WAIT_S)
            for number in range(3):
                one.add_done_callback(lambda _, number=number: told.append(number))

        thread = threading.Thread(target=add)
        thread.start()
        together.wait(WAIT_S)
        one.finish(ANSWER)
        thread.join(WAIT_S)

        assert sorted(told) == [0, 1, 2]
