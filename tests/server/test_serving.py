import math
import threading
from concurrent.futures import CancelledError

import numpy as np
import pytest

from slipway_server.batching.scheduler import BatchScheduler
from slipway_server.config_files import BatchingPolicy
from slipway_server.metrics import Metrics
from slipway_server.servables.loader import Call
from slipway_wire.model_spec import ModelSpec
from slipway_wire.status import Code, DeadlineExceeded, InvalidArgument, NotFound, Unavailable

WAIT_S = 90.0


def half_of(*values):
    def decode(signatures):
        assert "serving_default" in signatures
        return Call("serving_default", {"x": np.float32(values)}, ("y",))

    return decode


def outputs(serving, spec, *values, protocol="grpc"):
    with serving.exchange(protocol, "Predict") as exchange:
        answer = exchange.start(spec, half_of(*values)).result(WAIT_S)
        return exchange.spec, exchange.answered(answer)["y"].tolist()


@pytest.fixture
def two(fakes):
    servables = {("m", 1): fakes.HalfPlusTwo(), ("m", 2): fakes.HalfPlusTwo()}
    # Version 2 is loaded first; both are wanted, so both serve.
    return fakes.make_serving(servables, labels={"m": {"stable": 1, "gone": 9}})


def test_the_version_asked_for_answers_and_is_named(two):
    serving, _ = two

    assert outputs(serving, ModelSpec("m"), 1.0) == (ModelSpec("m", 2, None, "serving_default"), [2.5])
    assert outputs(serving, ModelSpec("m", 1), 1.0)[0].version == 1
    assert outputs(serving, ModelSpec("m", label="stable"), 1.0)[0].version == 1


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        (ModelSpec("nope"), NotFound, r"Servable not found for request: Latest\(nope\)"),
        (ModelSpec("m", 7), NotFound, r"Servable not found for request: Specific\(m, 7\)"),
        (ModelSpec("m", label="gone"), NotFound, r"Servable not found for request: Specific\(m, 9\)"),
        (ModelSpec("m", label="nope"), InvalidArgument, "Unrecognized servable version label: nope"),
        (ModelSpec("nope", label="stable"), InvalidArgument, "Unrecognized servable version label: stable"),
    ],
)
def test_what_nothing_serves_is_told_in_tf_servings_words(two, spec, error, message):
    with pytest.raises(error, match=message):
        outputs(two[0], spec, 1.0)


def test_statuses_and_metadata(two):
    serving, _ = two

    assert [status.version for status in serving.statuses("m")] == [2, 1]
    assert [status.version for status in serving.statuses("m", 1)] == [1]
    with pytest.raises(NotFound, match="Could not find any versions of model nope"):
        serving.statuses("nope")
    with pytest.raises(NotFound, match="Could not find version 7 of model m"):
        serving.statuses("m", 7)
    served, definitions = serving.metadata(ModelSpec("m"))
    assert served == ModelSpec("m", 2)
    assert set(definitions) == {"serving_default"}


def test_a_version_stays_until_its_answers_are_there(fakes):
    servable = fakes.HalfPlusTwo()
    serving, manager = fakes.make_serving({("m", 1): servable})
    servable.gate.clear()
    with serving.exchange("grpc", "Predict") as exchange:
        future = exchange.start(ModelSpec("m"), half_of(1.0))
        assert servable.started.acquire(timeout=WAIT_S)
        manager.aspire("m", {})
        assert manager.statuses("m")[0].state == "UNLOADING"
        assert not servable.is_closed
        servable.gate.set()
        assert exchange.answered(future.result(WAIT_S))["y"].tolist() == [2.5]

    fakes.wait_for(lambda: manager.statuses("m")[0].state == "END", "the version to be freed")
    assert servable.is_closed


def test_a_request_that_does_not_fit_leaves_no_lease_behind(fakes):
    serving, manager = fakes.make_serving({("m", 1): fakes.HalfPlusTwo()})

    def decode(signatures):
        raise InvalidArgument("does not fit")

    with pytest.raises(InvalidArgument), serving.exchange("rest", "Predict") as exchange:
        exchange.start(ModelSpec("m"), decode)

    manager.aspire("m", {})
    assert manager.statuses("m")[0].state == "END"


def test_readiness_follows_models_and_draining(fakes):
    serving, manager = fakes.make_serving({("m", 1): fakes.HalfPlusTwo(), ("n", 1): fakes.HalfPlusTwo()})
    assert serving.is_ready()
    manager.aspire("n", {})
    assert not serving.is_ready()

    ready, _ = fakes.make_serving({("m", 1): fakes.HalfPlusTwo()})
    ready.drain(0.0)
    assert ready.is_draining
    assert not ready.is_ready()


def test_draining_refuses_what_is_new_and_waits_for_what_has_begun(fakes):
    servable = fakes.HalfPlusTwo()
    serving, _ = fakes.make_serving({("m", 1): servable})
    servable.gate.clear()
    answers, drained = [], []
    asking = threading.Thread(target=lambda: answers.append(outputs(serving, ModelSpec("m"), 1.0)[1]))
    asking.start()
    assert servable.started.acquire(timeout=WAIT_S)
    assert serving.drain(0.0) is False

    with pytest.raises(Unavailable, match="shutting down"):
        outputs(serving, ModelSpec("m"), 1.0)
    draining = threading.Thread(target=lambda: drained.append(serving.drain(WAIT_S)))
    draining.start()
    servable.gate.set()
    draining.join(WAIT_S)
    asking.join(WAIT_S)

    assert drained == [True]
    assert answers == [[2.5]]


def test_a_request_whose_time_is_over_while_the_model_runs(fakes):
    servable = fakes.HalfPlusTwo()
    serving, _ = fakes.make_serving({("m", 1): servable})
    servable.gate.clear()
    with serving.exchange("rest", "Predict") as exchange:
        future = exchange.start(ModelSpec("m"), half_of(1.0))
        assert servable.started.acquire(timeout=WAIT_S)

        assert isinstance(exchange.expire(future), DeadlineExceeded)
    servable.gate.set()


def test_requests_are_timed_and_counted(fakes):
    metrics = Metrics()
    serving, _ = fakes.make_serving({("m", 1): fakes.HalfPlusTwo()}, metrics=metrics)
    outputs(serving, ModelSpec("m"), 1.0)
    outputs(serving, ModelSpec("m"), 1.0, protocol="rest")
    with pytest.raises(NotFound):
        outputs(serving, ModelSpec("made up"), 1.0)
    with pytest.raises(InvalidArgument):
        outputs(serving, ModelSpec("m"), float("nan"))
    with pytest.raises(CancelledError), serving.exchange("grpc", "Predict"):
        raise CancelledError
    with pytest.raises(ZeroDivisionError), serving.exchange("grpc", "Predict"):
        raise ZeroDivisionError

    def count(**labels):
        return metrics.sum_of(metrics.requests, **labels)

    served = {"model": "m", "version": "1", "signature": "serving_default", "method": "Predict"}
    assert count(**served, protocol="grpc", status="OK") == 1
    assert count(**served, protocol="rest", status="OK") == 1
    assert count(**served, protocol="grpc", status="INVALID_ARGUMENT") == 1
    # A caller must not be able to make new series by inventing names.
    assert count(model="", version="", protocol="grpc", status="NOT_FOUND") == 1
    assert count(model="", version="", protocol="grpc", status="INTERNAL") == 2
    for protocol, requests in (("grpc", 1), ("rest", 1)):
        for stage in ("queue", "compute", "encode"):
            assert metrics.sum_of(metrics.stages_s, model="m", protocol=protocol, stage=stage) == requests
    assert metrics.sum_of(metrics.stages_s, model="m", protocol="grpc", stage="parse") == 2
    assert metrics.sum_of(metrics.request_count, model_name="m", status=Code.OK.name) == 2
    assert metrics.sum_of(metrics.request_latency, model_name="m", API="Predict", entrypoint="GRPC") == 1
    assert metrics.sum_of(metrics.request_latency, model_name="m", API="predict", entrypoint="REST") == 1
    assert metrics.sum_of(metrics.runtime_latency, model_name="m", API="Predict", runtime="TF1") == 2
    assert metrics.sum_of(metrics.in_flight) == 0


def test_an_observer_that_fails_costs_no_answer(two, caplog):
    serving, _ = two

    def fail(_exchange):
        raise ZeroDivisionError

    serving.observers = (fail,)
    assert outputs(serving, ModelSpec("m"), 1.0)[1] == [2.5]
    assert serving.drain(0.0), "the request is counted out"
    assert "an observer failed" in caplog.text


def test_several_requests_are_counted_in_and_out_at_once(two):
    serving, _ = two
    serving.enter(3)
    assert serving.metrics.sum_of(serving.metrics.in_flight) == 3
    assert not serving.drain(0.0)
    serving.leave()
    assert not serving.drain(0.0)
    serving.leave(2)
    assert serving.drain(0.0)

    with pytest.raises(Unavailable, match="shutting down"):
        serving.enter(2)
    assert serving.metrics.sum_of(serving.metrics.in_flight) == 0


def test_who_was_let_in_may_begin_anew_while_the_server_drains(two):
    """What it has taken in it answers, also at a second try."""
    serving, _ = two
    serving.enter()
    serving.drain(0.0)
    with serving.readmitting(), serving.exchange("grpc", "Predict") as exchange:
        serving.leave()
        answer = exchange.start(ModelSpec("m"), half_of(1.0)).result(WAIT_S)
        assert exchange.answered(answer)["y"].tolist() == [2.5]

    assert serving.drain(0.0)
    with pytest.raises(Unavailable, match="shutting down"):
        serving.enter()
    with pytest.raises(ZeroDivisionError), serving.readmitting():
        raise ZeroDivisionError
    with pytest.raises(Unavailable, match="shutting down"):
        serving.enter()


def test_the_scheduler_is_told_how_many_rows_each_of_several_requests_has(fakes):
    metrics = Metrics()
    policy = BatchingPolicy(max_batch_size=6, num_batch_threads=1)
    scheduler = BatchScheduler(policy, metrics)
    scheduler.start()
    serving, _ = fakes.make_serving({("m", 1): fakes.HalfPlusTwo()}, scheduler=scheduler, metrics=metrics)

    with serving.lend(ModelSpec("m")) as handle:
        future = serving.submit(handle, half_of(1.0, 2.0, 3.0)({"serving_default"}), math.inf, [1, 2])
        assert future.result(WAIT_S).outputs["y"].tolist() == [2.5, 3.0, 3.5]
    scheduler.stop()

    assert sum(metrics.input_batch_size.of().counts) == 2
    assert (serving.may_join, serving.largest_batch(None)) == (True, 6)
