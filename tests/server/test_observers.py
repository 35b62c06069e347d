import logging

import pytest

from slipway_server.metrics import Metrics
from slipway_server.observers import Observers
from slipway_server.settings import parse

WAIT_S = 90.0


@pytest.fixture
def observing(fakes):
    """`observing(*flags)` gives serving with what the flags ask for, and its metrics."""
    started = []

    def start(*flags):
        metrics = Metrics()
        serving, _ = fakes.make_serving({("m", 1): fakes.HalfPlusTwo()}, metrics=metrics)
        started.append(Observers(parse(flags).settings, metrics))
        started[-1].watch(serving)
        return started[-1], serving, metrics

    yield start
    for observers in started:
        observers.stop(WAIT_S)


def test_by_default_nobody_looks_on(observing):
    observers, serving, _ = observing()

    assert serving.observers == ()
    assert observers.callers().of(None, None) is None


@pytest.mark.parametrize("flags", [["--make_request_ids"], ["--access_log=errors"]])
def test_whoever_logs_requests_gives_them_ids(observing, flags):
    observers, _, _ = observing(*flags)

    assert observers.callers().of(None, None).request_id


def test_lines_of_the_log_are_counted(observing):
    observers, _, metrics = observing()
    logging.getLogger("slipway_server.somewhere").error("oh")
    assert metrics.sum_of(metrics.log_messages, level="ERROR") == 1
    observers.stop(WAIT_S)
    logging.getLogger("slipway_server.somewhere").error("oh")

    assert metrics.sum_of(metrics.log_messages, level="ERROR") == 1
