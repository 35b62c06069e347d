import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from slipway_server.batching.scheduler import BatchScheduler, DirectScheduler, Work
from slipway_server.config_files import BatchingPolicy
from slipway_server.metrics import Metrics
from slipway_wire.status import DeadlineExceeded, InvalidArgument, ResourceExhausted, Unavailable

WAIT_S = 20.0


class Model:
    """Doubles x; notes how many rows each run had; waits while its gate is closed; refuses negative numbers."""

    def __init__(self):
        self.rows = []
        self.gate = threading.Event()
        self.gate.set()
        self.started = threading.Semaphore(0)

    def __call__(self, inputs):
        self.started.release()
        assert self.gate.wait(WAIT_S)
        self.rows.append(len(inputs["x"]))
        if (inputs["x"] < 0).any():
            raise InvalidArgument("negative")
        return {"y": inputs["x"] * 2}


def work(model, *values, key="k", deadline=float("inf"), inner=()):
    x = np.array(values, np.float32).reshape(-1, *inner)
    return Work("m", key, model, {"x": x}, deadline)


@pytest.fixture
def scheduler_of():
    made = []

    def make(**parameters):
        scheduler = BatchScheduler(BatchingPolicy(**{"num_batch_threads": 1, **parameters}), Metrics())
        scheduler.start()
        made.append(scheduler)
        return scheduler

    yield make
    for scheduler in made:
        scheduler.stop()


@pytest.fixture
def model():
    return Model()


@pytest.fixture
def busy(model):
    """Occupy the only thread with a first task, so that what follows queues up; `busy(scheduler)` gives its future."""

    def occupy(scheduler):
        model.gate.clear()
        future = scheduler.submit(work(model, 0.0))
        assert model.started.acquire(timeout=WAIT_S)
        return future

    yield occupy
    model.gate.set()


def test_what_waits_while_the_thread_is_busy_runs_together(scheduler_of, model, busy):
    scheduler = scheduler_of(max_batch_size=8)
    first = busy(scheduler)
    futures = [scheduler.submit(work(model, float(n), n + 0.5)) for n in range(3)]
    model.gate.set()

    answers = [future.result(WAIT_S).outputs["y"].tolist() for future in futures]

    assert first.result(WAIT_S).outputs["y"].tolist() == [0.0]
    assert answers == [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]
    assert model.rows == [1, 6]


def test_under_concurrency_everybody_gets_their_own_rows(scheduler_of, model):
    scheduler = scheduler_of(max_batch_size=16, num_batch_threads=3, max_enqueued_batches=1000)

    def ask(number):
        rows = 1 + number % 4
        values = [number + row / 8 for row in range(rows)]
        return scheduler.submit(work(model, *values)).result(WAIT_S).outputs["y"].tolist() == [2 * v for v in values]

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(ask, range(600)))
    assert max(model.rows) <= 16


def test_a_batch_is_padded_to_an_allowed_size(scheduler_of, model, busy):
    scheduler = scheduler_of(max_batch_size=8, allowed_batch_sizes=(1, 4, 8))
    busy(scheduler)
    futures = [scheduler.submit(work(model, float(n))) for n in range(3)]
    model.gate.set()

    assert [future.result(WAIT_S).outputs["y"].tolist() for future in futures] == [[0.0], [2.0], [4.0]]
    assert model.rows == [1, 4]


def test_metrics_tell_the_rows_that_were_asked_for_and_the_padding_apart(model):
    metrics = Metrics()
    policy = BatchingPolicy(max_batch_size=4, allowed_batch_sizes=(4,), num_batch_threads=1)
    scheduler = BatchScheduler(policy, metrics)
    scheduler.start()
    scheduler.submit(work(model, 1.0, 2.0, 3.0)).result(WAIT_S)
    scheduler.stop()

    assert metrics.batches.of("m", 3, "free").value == 1
    assert metrics.batch_padding_rows.of("m").value == 1


def test_another_signature_another_shape_or_another_dtype_is_another_batch(scheduler_of, model, busy):
    scheduler = scheduler_of(max_batch_size=100)
    busy(scheduler)
    futures = [
        scheduler.submit(work(model, 1.0)),
        scheduler.submit(work(model, 2.0, key="other")),
        scheduler.submit(work(model, 3.0, 4.0, inner=(2,))),
        scheduler.submit(Work("m", "k", model, {"x": np.array([5])})),
    ]
    model.gate.set()

    assert [future.result(WAIT_S).outputs["y"].tolist() for future in futures] == [[2.0], [4.0], [[6.0, 8.0]], [10]]
    assert model.rows == [1, 1, 1, 1, 1]


def test_a_task_that_fails_does_not_fail_its_batch_mates(scheduler_of, model, busy):
    """TensorFlow fails a whole batch; who is to blame shows when each runs by itself."""
    scheduler = scheduler_of(max_batch_size=8)
    busy(scheduler)
    good, bad, also_good = (scheduler.submit(work(model, value)) for value in (1.0, -1.0, 2.0))
    model.gate.set()

    assert good.result(WAIT_S).outputs["y"].tolist() == [2.0]
    assert also_good.result(WAIT_S).outputs["y"].tolist() == [4.0]
    with pytest.raises(InvalidArgument, match="negative"):
        bad.result(WAIT_S)


def test_a_failing_callback_does_not_fail_its_batch_mates(scheduler_of, model, busy):
    scheduler = scheduler_of(max_batch_size=8)
    busy(scheduler)
    first, second = (scheduler.submit(work(model, value)) for value in (1.0, 2.0))
    first.add_done_callback(lambda _: 1 / 0)
    model.gate.set()

    assert second.result(WAIT_S).outputs["y"].tolist() == [4.0]
    assert scheduler.submit(work(model, 3.0)).result(WAIT_S).outputs["y"].tolist() == [6.0]


def test_a_cancelled_task_is_not_computed(scheduler_of, model, busy):
    scheduler = scheduler_of(max_batch_size=8)
    busy(scheduler)
    gone, stays = scheduler.submit(work(model, 1.0, 1.0)), scheduler.submit(work(model, 2.0))
    assert gone.cancel()
    model.gate.set()

    assert stays.result(WAIT_S).outputs["y"].tolist() == [4.0]
    assert model.rows == [1, 1]


def test_a_task_whose_deadline_passes_in_the_queue_is_told_so_and_not_computed(scheduler_of, model, busy):
    scheduler = scheduler_of(max_batch_size=8)
    busy(scheduler)
    late = scheduler.submit(work(model, 1.0, deadline=time.monotonic()))
    in_time = scheduler.submit(work(model, 2.0, deadline=time.monotonic() + WAIT_S))
    model.gate.set()

    with pytest.raises(ResourceExhausted, match=r"^Run\(\) timeout exceeded while waiting in batching queue$"):
        late.result(WAIT_S)
    assert in_time.result(WAIT_S).outputs["y"].tolist() == [4.0]
    assert model.rows == [1, 1]


def test_a_full_queue_refuses_and_recovers(scheduler_of, model, busy):
    scheduler = scheduler_of(max_batch_size=1, max_enqueued_batches=1)
    busy(scheduler)
    waits = scheduler.submit(work(model, 1.0))
    with pytest.raises(Unavailable, match="queue to which this task was submitted is full"):
        scheduler.submit(work(model, 2.0))
    model.gate.set()

    assert waits.result(WAIT_S).outputs["y"].tolist() == [2.0]
    assert scheduler.submit(work(model, 3.0)).result(WAIT_S).outputs["y"].tolist() == [6.0]


def test_a_queue_that_waits_is_watched_over_while_another_runs(scheduler_of, model):
    """The thread that waited for the timeout of one queue may be the one that takes from another."""
    scheduler = scheduler_of(max_batch_size=2, batch_timeout_s=0.05, num_batch_threads=2)
    waits = scheduler.submit(work(model, 1.0))
    slow = Model()
    slow.gate.clear()
    scheduler.submit(work(slow, 1.0, 2.0, key="slow"))

    assert waits.result(WAIT_S).outputs["y"].tolist() == [2.0]
    slow.gate.set()


def test_stopping_answers_what_was_taken_in_and_refuses_the_rest(model):
    scheduler = BatchScheduler(BatchingPolicy(batch_timeout_s=3600.0, num_batch_threads=1), Metrics())
    waits = scheduler.submit(work(model, 1.0))
    scheduler.start()
    scheduler.stop()

    assert waits.result(WAIT_S).outputs["y"].tolist() == [2.0]
    with pytest.raises(Unavailable):
        scheduler.submit(work(model, 1.0))


def test_without_batching_every_request_runs_by_itself(model):
    scheduler = DirectScheduler(2, Metrics())
    futures = [scheduler.submit(work(model, float(n))) for n in range(3)]
    scalar = scheduler.submit(Work("m", "k", lambda inputs: inputs, {"x": np.array(1.0)}))

    assert [future.result(WAIT_S).outputs["y"].tolist() for future in futures] == [[0.0], [2.0], [4.0]]
    assert scalar.result(WAIT_S).outputs["x"] == 1.0
    assert model.rows == [1, 1, 1]
    with pytest.raises(DeadlineExceeded):
        scheduler.submit(work(model, 1.0, deadline=time.monotonic())).result(WAIT_S)
    scheduler.stop()
