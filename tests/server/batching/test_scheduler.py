import gc
import sys
import threading
import time
import weakref
from collections import Counter
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from slipway_server.batching import brief, pace
from slipway_server.batching import scheduler as scheduling
from slipway_server.batching.scheduler import BatchScheduler, DirectScheduler, PerModelScheduler, Work
from slipway_server.config_files import BatchingPolicy
from slipway_server.metrics import Metrics
from slipway_wire.status import DeadlineExceeded, Internal, InvalidArgument, ResourceExhausted, Unavailable

WAIT_S = 90.0


class Model:
    """Doubles x; notes how many rows each run had; waits while its gate is closed; refuses negative numbers."""

    def __init__(self):
        self.rows, self.threads = [], []
        self.gate = threading.Event()
        self.gate.set()
        self.started = threading.Semaphore(0)

    def __call__(self, inputs):
        self.started.release()
        assert self.gate.wait(WAIT_S)
        self.rows.append(len(inputs["x"]))
        self.threads.append(threading.get_ident())
        if (inputs["x"] < 0).any():
            raise InvalidArgument("negative")
        return {"y": inputs["x"] * 2}


def hold(model):
    """Let the next run of *model* wait; see its `started`."""
    model.gate.clear()
    while model.started.acquire(blocking=False):
        pass


def work(model, *values, key="k", deadline=float("inf"), inner=()):
    x = np.array(values, np.float32).reshape(-1, *inner)
    return Work("m", key, model, {"x": x}, deadline)


def together(model, *sizes):
    """Requests with so many rows each, which came together."""
    return replace(work(model, *[0.0] * sum(sizes)), sizes=sizes)


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


def test_waiting_for_a_batch_is_told_apart_from_waiting_for_a_thread(scheduler_of, model, busy):
    """The batch is full at once, and then its thread is busy: that is no fault of the batch timeout."""
    scheduler = scheduler_of(max_batch_size=2, batch_timeout_s=60.0)
    model.gate.clear()
    running = [scheduler.submit(work(model, float(n))) for n in range(2)]
    assert model.started.acquire(timeout=WAIT_S)
    first, second = (scheduler.submit(work(model, float(n))) for n in range(2))
    between_s = second.since - first.since
    model.gate.set()

    answers = [future.result(WAIT_S) for future in (first, second)]

    assert [answer.batch_wait_s for answer in answers] == [pytest.approx(between_s), 0.0]
    assert all(answer.queue_s > 0 for answer in answers)
    assert all(future.result(WAIT_S).queue_s >= 0 for future in running)


def test_requests_that_came_together_are_counted_as_themselves(model):
    """As many have waited, each of its own size; in the queue, and when they leave it, they are as many."""
    metrics = Metrics()
    policy = BatchingPolicy(num_batch_threads=1, max_batch_size=8, max_enqueued_batches=1)
    scheduler = BatchScheduler(policy, metrics)
    scheduler.start()
    model.gate.clear()
    running = scheduler.submit(together(model, 1, 3, 1))
    assert model.started.acquire(timeout=WAIT_S)
    waiting = scheduler.submit(together(model, 2, 3))
    assert metrics.sum_of(metrics.queued, model="m") == 2
    with pytest.raises(Unavailable):
        scheduler.submit(together(model, 2, 2))
    with pytest.raises(Unavailable):
        scheduler.submit(together(model, 4))
    waiting.cancel()
    model.gate.set()
    assert running.result(WAIT_S).outputs["y"].tolist() == [0.0] * 5
    scheduler.stop()

    assert model.rows == [5]
    # Several that were refused try alone.
    assert {reason: metrics.not_run.of("m", reason).value for reason in ("cancelled", "refused")} == {
        "cancelled": 2,
        "refused": 1,
    }
    for family, labels in (
        (metrics.batch_wait_s, ("m",)),
        (metrics.queuing_latency_us, (policy.thread_pool_name,)),
        (metrics.input_batch_size, ()),
    ):
        assert sum(family.of(*labels).counts) == 3
    assert metrics.input_batch_size.of().sum == 5
    assert metrics.batches.of("m", 5, "free").value == 1


def test_what_is_late_is_as_many_requests_as_came_together(scheduler_of, model, busy):
    scheduler = scheduler_of()
    first = busy(scheduler)
    late = scheduler.submit(replace(together(model, 1, 1), deadline=time.monotonic()))
    model.gate.set()

    assert isinstance(late.exception(WAIT_S), ResourceExhausted)
    first.result(WAIT_S)
    assert scheduler._metrics.not_run.of("m", "expired").value == 2


def test_who_may_be_joined_and_how_many_rows_of_them():
    policy, own = BatchingPolicy(max_batch_size=7), BatchingPolicy(max_batch_size=3)
    divided = BatchingPolicy(max_batch_size=9, enable_large_batch_splitting=True, max_execution_batch_size=5)
    batched, direct = BatchScheduler(policy, Metrics()), DirectScheduler(1, Metrics())
    each = PerModelScheduler(batched, direct)

    assert [scheduler.may_join for scheduler in (batched, direct, each)] == [True, False, True]
    assert [batched.largest_batch(one) for one in (None, own, divided)] == [7, 3, 5]
    assert [direct.largest_batch(one) for one in (None, own, divided)] == [0, 0, 0]
    assert [each.largest_batch(one) for one in (None, own, divided)] == [0, 3, 5]
    works = [Work("m", "k", None, {"x": np.zeros(1)}, policy=one) for one in (None, own, divided)]
    assert [batched.room(one) for one in works] == [7, 3, 5]
    assert [direct.room(one) for one in works] == [0, 0, 0]
    assert [each.room(one) for one in works] == [0, 3, 5]


def test_a_batch_that_others_have_begun_has_room_for_the_rest(scheduler_of, model, busy):
    """For what may run with them, and for nothing else."""
    scheduler = scheduler_of(max_batch_size=8)
    first = busy(scheduler)
    futures = []
    for rows, room in ((3, 5), (4, 1), (1, 8), (2, 6)):
        futures.append(scheduler.submit(work(model, *range(rows))))
        assert scheduler.room(work(model, 0.0)) == room
        assert scheduler.room(work(model, 0.0, key="other")) == scheduler.room(work(model, 0.0, inner=(1,))) == 8
    model.gate.set()
    for future in (first, *futures):
        future.result(WAIT_S)


def test_without_a_batch_timeout_nobody_waits_for_a_batch(scheduler_of, model):
    assert scheduler_of(max_batch_size=2).submit(work(model, 1.0)).result(WAIT_S).batch_wait_s is None


def test_all_of_a_wait_that_the_timeout_ends_is_a_wait_for_the_batch(scheduler_of, model):
    answer = scheduler_of(max_batch_size=2, batch_timeout_s=0.01).submit(work(model, 1.0)).result(WAIT_S)

    assert answer.batch_wait_s == pytest.approx(0.01)


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


def test_when_the_thread_that_watches_becomes_busy_another_watches(scheduler_of, model):
    scheduler = scheduler_of(max_batch_size=2, batch_timeout_s=0.2, num_batch_threads=2)
    wait_for_idle(scheduler, 2)
    waits = scheduler.submit(work(model, 1.0))
    fast, slow = Model(), Model()
    slow.gate.clear()
    # Whoever went idle last is called: the one that watches.
    scheduler.submit(work(fast, 1.0, 2.0, key="fast")).result(WAIT_S)
    wait_for_idle(scheduler, 2)
    blocked = scheduler.submit(work(slow, 1.0, 2.0, key="slow"))

    assert waits.result(WAIT_S).outputs["y"].tolist() == [2.0]
    assert not blocked.done()
    slow.gate.set()


@pytest.mark.parametrize(("cpus", "rows"), [(1, [1, 2]), (2, [1, 1, 1])])
def test_short_runs_take_turns_on_a_cpu(monkeypatch, model, cpus, rows):
    """Two threads on one CPU would only make two batches of what one thread runs as one."""
    monkeypatch.setattr(pace, "GRACE_S", 1000.0)
    scheduler = BatchScheduler(BatchingPolicy(max_batch_size=8, num_batch_threads=2), Metrics(), lambda: cpus)
    scheduler.start()
    wait_for_idle(scheduler, 2)
    model.gate.clear()
    futures = [scheduler.submit(work(model, 0.0))]
    assert model.started.acquire(timeout=WAIT_S)
    futures.append(scheduler.submit(work(model, 1.0)))
    if cpus > 1:
        assert model.started.acquire(timeout=WAIT_S)
    futures.append(scheduler.submit(work(model, 2.0)))
    model.gate.set()

    assert [future.result(WAIT_S).outputs["y"].tolist() for future in futures] == [[0.0], [2.0], [4.0]]
    assert model.rows == rows
    scheduler.stop()


@pytest.mark.parametrize(("cpus", "rows"), [(1, [3]), (2, [1, 2])])
def test_on_one_cpu_what_a_turn_of_the_loop_brings_leaves_together(model, cpus, rows):
    """With another CPU, the first runs while the rest is read."""
    promised = []
    scheduler = BatchScheduler(
        BatchingPolicy(max_batch_size=8, num_batch_threads=1),
        Metrics(),
        lambda: cpus,
        lambda call: not promised.append(call),
    )
    scheduler.start()
    wait_for_idle(scheduler, 1)
    model.gate.clear()
    futures = [scheduler.submit(work(model, 0.0))]
    if cpus > 1:
        assert model.started.acquire(timeout=WAIT_S)
    futures += [scheduler.submit(work(model, float(n))) for n in (1, 2)]

    assert len(promised) == (cpus == 1)
    model.gate.set()
    for call in promised:
        call()
    assert [future.result(WAIT_S).outputs["y"].tolist() for future in futures] == [[0.0], [2.0], [4.0]]
    assert model.rows == rows
    scheduler.stop()


def test_a_promise_to_look_is_asked_for_once_and_again_when_it_was_kept(model):
    """Whoever comes in between need not ask; whoever comes afterwards must."""
    promised = []
    scheduler = DirectScheduler(1, Metrics(), count_cpus=lambda: 1, soon=lambda call: not promised.append(call))
    first = scheduler.submit(work(model, 1.0))
    second = scheduler.submit(work(model, 2.0))
    assert len(promised) == 1
    assert second.cancel()

    promised.pop()()

    assert first.result(WAIT_S).outputs["y"].tolist() == [2.0]
    wait_for_idle(scheduler, 1)
    third = scheduler.submit(work(model, 3.0))
    assert not third.done()
    promised.pop()()
    assert third.result(WAIT_S).outputs["y"].tolist() == [6.0]
    scheduler.stop()


@pytest.mark.parametrize("batches", [True, False])
def test_what_was_taken_in_is_answered_though_a_promise_was_not_kept(model, batches):
    """The loop may end before it has looked."""
    make = partial(BatchScheduler, BatchingPolicy(num_batch_threads=1)) if batches else partial(DirectScheduler, 1)
    scheduler = make(Metrics(), count_cpus=lambda: 1, soon=lambda _call: True)
    if batches:
        scheduler.start()
        wait_for_idle(scheduler, 1)
    waits = scheduler.submit(work(model, 1.0))
    scheduler.stop()

    assert waits.result(WAIT_S).outputs["y"].tolist() == [2.0]


@pytest.fixture
def one_cpu(monkeypatch, model):
    """
    A scheduler on one CPU with *threads*, which has seen runs of *model* that it takes for brief; and what it asked a loop to call.

    However slow the machine is: all that ends within a quarter of an hour is brief.
    """
    monkeypatch.setattr(brief, "BRIEF_S", 1000.0)
    monkeypatch.setattr(scheduling, "_THERE_S", 1000.0)
    promised, made = [], []

    def make(threads=1, **parameters):
        policy = BatchingPolicy(num_batch_threads=threads, max_batch_size=8, **parameters)
        scheduler = BatchScheduler(policy, Metrics(), lambda: 1, lambda call: not promised.append(call))
        scheduler.start()
        made.append(scheduler)
        wait_for_idle(scheduler, threads)
        for key in ("k", "l"):
            known = scheduler.submit(work(model, 0.0, key=key))
            promised.pop()()
            known.result(WAIT_S)
            wait_for_idle(scheduler, threads)
        model.threads.clear()
        model.rows.clear()
        return scheduler, promised

    yield make
    for scheduler in made:
        scheduler.stop()


def test_on_one_cpu_who_has_taken_brief_runs_in_makes_them(one_cpu, model):
    scheduler, promised = one_cpu()
    futures = [scheduler.submit(work(model, *values)) for values in ([1.0], [2.0, 3.0])]
    assert not any(future.done() for future in futures)

    promised.pop()()

    assert [future.result(0).outputs["y"].tolist() for future in futures] == [[2.0], [4.0, 6.0]]
    assert model.threads == [threading.get_ident()]
    assert not promised


def test_what_has_not_run_yet_runs_on_a_thread_of_its_own(one_cpu, model):
    scheduler, promised = one_cpu()
    new = scheduler.submit(work(model, 1.0, key="new"))
    promised.pop()()

    assert new.result(WAIT_S).outputs["y"].tolist() == [2.0]
    assert threading.get_ident() not in model.threads


def test_runs_that_were_longer_are_made_by_another_thread(one_cpu, model, monkeypatch):
    scheduler, promised = one_cpu()
    monkeypatch.setattr(brief, "BRIEF_S", -1.0)
    future = scheduler.submit(work(model, 1.0))
    promised.pop()()

    assert future.result(WAIT_S).outputs["y"].tolist() == [2.0]
    assert threading.get_ident() not in model.threads


def test_after_some_runs_it_is_the_turn_of_other_requests(one_cpu, model, monkeypatch):
    scheduler, promised = one_cpu()
    monkeypatch.setattr(scheduling, "_THERE_S", 0.0)
    futures = [scheduler.submit(work(model, 1.0, key=key)) for key in ("k", "l")]
    promised.pop()()
    assert [future.done() for future in futures] == [True, False]

    promised.pop()()

    assert [future.result(0).outputs["y"].tolist() for future in futures] == [[2.0], [2.0]]
    assert model.threads == [threading.get_ident()] * 2
    assert not promised


def test_no_more_runs_go_on_at_once_than_there_are_threads(one_cpu, model, monkeypatch):
    """Also if those take long, so that others may begin beside them."""
    monkeypatch.setattr(pace, "GRACE_S", 0.0)
    scheduler, promised = one_cpu()
    slow = Model()
    slow.gate.clear()
    blocked = scheduler.submit(work(slow, 0.0, key="slow"))
    promised.pop()()
    assert slow.started.acquire(timeout=WAIT_S)
    waits = scheduler.submit(work(model, 1.0))
    promised.pop()()
    assert not waits.done()

    slow.gate.set()

    assert waits.result(WAIT_S).outputs["y"].tolist() == [2.0]
    assert blocked.result(WAIT_S).outputs["y"].tolist() == [0.0]
    assert threading.get_ident() not in model.threads


def test_a_thread_that_waits_begins_nothing_beside_what_runs_there(one_cpu, model, monkeypatch):
    """Though the run there takes longer than anybody waits for a CPU."""
    monkeypatch.setattr(pace, "GRACE_S", 0.0)
    scheduler, promised = one_cpu()
    hold(model)
    runs = scheduler.submit(work(model, 1.0))
    there = threading.Thread(target=promised.pop())
    there.start()
    assert model.started.acquire(timeout=WAIT_S)
    other = Model()
    waits = scheduler.submit(work(other, 1.0, key="other"))
    with scheduler._lock:
        # As its own clock may.
        scheduler._call()
    assert not other.started.acquire(timeout=0.1)

    model.gate.set()
    there.join(WAIT_S)

    assert [future.result(WAIT_S).outputs["y"].tolist() for future in (runs, waits)] == [[2.0], [2.0]]


@pytest.mark.parametrize("is_known", [False, True])
def test_what_is_late_or_fails_there_is_told_so(one_cpu, model, is_known):
    """And what stood behind it still runs where it is to run."""
    scheduler, promised = one_cpu()
    late = scheduler.submit(work(model, 1.0, deadline=0.0))
    bad = scheduler.submit(work(model, -1.0, key="l" if is_known else "new"))
    promised.pop()()

    assert isinstance(late.exception(0), ResourceExhausted)
    assert isinstance(bad.exception(WAIT_S), InvalidArgument)
    assert [thread == threading.get_ident() for thread in model.threads] == [is_known]


def test_who_gives_up_there_leaves_the_rest_to_threads(one_cpu, model, monkeypatch):
    """A loop that is interrupted while it runs a batch looks no more."""
    scheduler, promised = one_cpu()
    run, loop = scheduler._run, threading.get_ident()

    def interrupted(batch):
        if threading.get_ident() == loop:
            raise KeyboardInterrupt
        run(batch)

    scheduler.submit(work(model, 1.0))
    waits = scheduler.submit(work(model, 2.0, key="l"))
    monkeypatch.setattr(scheduler, "_run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        promised.pop()()

    assert waits.result(WAIT_S).outputs["y"].tolist() == [4.0]
    assert threading.get_ident() not in model.threads


def test_to_stop_waits_for_what_runs_there(one_cpu, model):
    scheduler, promised = one_cpu()
    hold(model)
    future = scheduler.submit(work(model, 1.0))
    there = threading.Thread(target=promised.pop())
    there.start()
    assert model.started.acquire(timeout=WAIT_S)
    was_done = []
    stops = threading.Thread(target=lambda: (scheduler.stop(), was_done.append(future.done())))
    stops.start()
    stops.join(0.05)
    assert stops.is_alive()

    model.gate.set()
    for thread in (there, stops):
        thread.join(WAIT_S)

    assert was_done == [True]
    assert future.result(0).outputs["y"].tolist() == [2.0]


def test_a_thread_without_a_loop_wakes_at_once(model):
    scheduler = DirectScheduler(1, Metrics(), count_cpus=lambda: 1, soon=lambda _call: False)

    assert scheduler.submit(work(model, 1.0)).result(WAIT_S).outputs["y"].tolist() == [2.0]
    scheduler.stop()


def test_a_long_run_keeps_no_cpu_from_the_others(model):
    """It may be one that waits for something, and another model's requests must not wait for it, too."""
    scheduler = BatchScheduler(BatchingPolicy(num_batch_threads=2), Metrics(), lambda: 1)
    scheduler.start()
    slow = Model()
    slow.gate.clear()
    blocked = scheduler.submit(work(slow, 0.0, key="slow"))
    assert slow.started.acquire(timeout=WAIT_S)

    assert scheduler.submit(work(model, 1.0)).result(WAIT_S).outputs["y"].tolist() == [2.0]

    assert not blocked.done()
    slow.gate.set()
    scheduler.stop()


def test_requests_without_rows_take_room_too(scheduler_of, model, busy):
    """Else a caller could fill the memory with nothing."""
    scheduler = scheduler_of(max_batch_size=2, max_enqueued_batches=1)
    busy(scheduler)
    empty = [scheduler.submit(work(model)) for _ in range(2)]
    with pytest.raises(Unavailable):
        scheduler.submit(work(model))
    model.gate.set()

    assert [future.result(WAIT_S).outputs["y"].shape for future in empty] == [(0,), (0,)]


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


@pytest.fixture
def split_policy():
    return {"max_batch_size": 12, "max_execution_batch_size": 4, "enable_large_batch_splitting": True}


def test_a_large_request_runs_in_parts_and_gets_one_answer(scheduler_of, model, busy, split_policy):
    scheduler = scheduler_of(**split_policy)
    busy(scheduler)
    small = scheduler.submit(work(model, 0.5))
    large = scheduler.submit(work(model, *map(float, range(10))))
    model.gate.set()

    answer = large.result(WAIT_S)

    assert answer.outputs["y"].tolist() == [2.0 * n for n in range(10)]
    assert small.result(WAIT_S).outputs["y"].tolist() == [1.0]
    assert model.rows == [1, 4, 4, 3]
    assert answer.queue_s >= 0
    assert answer.compute_s >= 0


def test_a_part_that_fails_fails_its_request_and_nobody_else(scheduler_of, model, busy, split_policy):
    scheduler = scheduler_of(**split_policy)
    busy(scheduler)
    before = scheduler.submit(work(model, 1.0))
    bad = scheduler.submit(work(model, *[1.0] * 3, -1.0, *[1.0] * 6))
    after = scheduler.submit(work(model, 3.0))
    model.gate.set()

    with pytest.raises(InvalidArgument, match="negative"):
        bad.result(WAIT_S)
    assert before.result(WAIT_S).outputs["y"].tolist() == [2.0]
    assert after.result(WAIT_S).outputs["y"].tolist() == [6.0]


def test_a_large_request_that_is_cancelled_between_its_parts_runs_no_further(scheduler_of, model, split_policy):
    """Its servable is given back only when the part that runs is done."""
    scheduler = scheduler_of(**split_policy)
    model.gate.clear()
    large, told = scheduler.submit(work(model, *map(float, range(12)))), []
    large.add_done_callback(told.append)
    assert model.started.acquire(timeout=WAIT_S)

    assert not large.cancel()
    assert told == []
    model.gate.set()

    with pytest.raises(CancelledError):
        large.result(WAIT_S)
    assert told == [large]
    assert scheduler.submit(work(model, 1.0)).result(WAIT_S).outputs["y"].tolist() == [2.0]
    assert model.rows == [4, 1]


def test_requests_of_different_lengths_run_together_if_they_may_be_padded(scheduler_of, model, busy):
    scheduler = scheduler_of(max_batch_size=8, pad_variable_length_inputs=True)
    busy(scheduler)
    short = scheduler.submit(work(model, 1.0, 2.0, inner=(2,)))
    long = scheduler.submit(work(model, 3.0, 4.0, 5.0, inner=(3,)))
    model.gate.set()

    # As in TF Serving, what comes back is as wide as the batch was.
    assert short.result(WAIT_S).outputs["y"].tolist() == [[2.0, 4.0, 2.0]]
    assert long.result(WAIT_S).outputs["y"].tolist() == [[6.0, 8.0, 10.0]]
    assert model.rows == [1, 2]


def test_a_cancelled_task_makes_room_at_once(scheduler_of, model, busy):
    scheduler = scheduler_of(max_batch_size=1, max_enqueued_batches=1)
    busy(scheduler)
    leaves = scheduler.submit(work(model, 1.0))

    assert leaves.cancel()

    stays = scheduler.submit(work(model, 2.0))
    model.gate.set()
    assert stays.result(WAIT_S).outputs["y"].tolist() == [4.0]


def test_an_expired_task_is_told_so_even_if_its_batch_would_leave_later(scheduler_of, model):
    scheduler = scheduler_of(max_batch_size=8, batch_timeout_s=3600.0)

    late = scheduler.submit(work(model, 1.0, deadline=time.monotonic() + 0.02))

    with pytest.raises(ResourceExhausted):
        late.result(WAIT_S)
    assert model.rows == []


def test_a_full_queue_says_when_there_will_be_room(scheduler_of, model, busy):
    scheduler = scheduler_of(max_batch_size=1, max_enqueued_batches=2)
    busy(scheduler)
    for _ in range(2):
        scheduler.submit(work(model, 1.0))

    with pytest.raises(Unavailable) as first:
        scheduler.submit(work(model, 1.0))
    scheduler._run_s = 2.2  # what a batch has taken on average
    with pytest.raises(Unavailable) as slow:
        scheduler.submit(work(model, 1.0))
    scheduler._run_s = 1e9
    with pytest.raises(Unavailable) as slowest:
        scheduler.submit(work(model, 1.0))

    assert [refusal.value.retry_after_s for refusal in (first, slow, slowest)] == [1, 5, 60]


def test_a_request_that_never_fits_is_not_told_to_come_back(scheduler_of, model):
    scheduler = scheduler_of(
        max_batch_size=99, max_execution_batch_size=2, enable_large_batch_splitting=True, max_enqueued_batches=3
    )

    with pytest.raises(Unavailable) as refusal:
        scheduler.submit(work(model, *[1.0] * 7))

    assert refusal.value.retry_after_s is None


def test_a_flood_of_one_model_does_not_hold_up_another(scheduler_of, model, busy):
    scheduler = scheduler_of(max_batch_size=1, max_enqueued_batches=1000)
    order, other = [], Model()
    busy(scheduler)
    for _ in range(50):
        flood = scheduler.submit(work(model, 1.0))
        flood.add_done_callback(lambda _: order.append("A"))
    lone = scheduler.submit(Work("other", "other", other, {"x": np.float32([1.0])}))
    lone.add_done_callback(lambda _: order.append("B"))
    model.gate.set()
    flood.result(WAIT_S)

    assert order[0] == "B"


@pytest.mark.parametrize("batches", [True, False])
def test_a_model_that_asks_to_exit_does_not_end_the_thread(model, batches):
    """As Python's threads do on SystemExit; with the last of them, the server would hang."""
    scheduler = (
        BatchScheduler(BatchingPolicy(num_batch_threads=1), Metrics()) if batches else DirectScheduler(1, Metrics())
    )
    scheduler.start()

    with pytest.raises(RuntimeError, match=r"the model raised SystemExit\(3\)"):
        scheduler.submit(Work("m", "exits", lambda _: sys.exit(3), {"x": np.ones(1)})).result(WAIT_S)
    assert scheduler.submit(work(model, 1.0)).result(WAIT_S).outputs["y"].tolist() == [2.0]
    scheduler.stop()


def test_a_fault_of_the_scheduler_is_told_and_its_thread_goes_on(scheduler_of, model, caplog, monkeypatch):
    scheduler = scheduler_of()
    monkeypatch.setattr(scheduler._metrics, "session_run", lambda *_: 1 / 0)
    with pytest.raises(Internal, match="internal error"):
        scheduler.submit(work(model, 1.0)).result(WAIT_S)
    monkeypatch.undo()

    assert scheduler.submit(work(model, 1.0)).result(WAIT_S).outputs["y"].tolist() == [2.0]
    assert "ZeroDivisionError" in caplog.text


class CountedWaits(BatchScheduler):
    """Counts how often one of its threads has woken."""

    ended = 0

    def _wait(self, mine, now):
        super()._wait(mine, now)
        self.ended += 1


@pytest.fixture
def counted(model):
    """A scheduler with three threads, which counts."""
    made = []

    def make(**parameters):
        scheduler = CountedWaits(BatchingPolicy(num_batch_threads=3, **parameters), Metrics())
        scheduler.start()
        made.append(scheduler)
        return scheduler

    yield make
    for scheduler in made:
        scheduler.stop()


def wait_for_idle(scheduler, threads=3):
    deadline = time.monotonic() + WAIT_S
    while len(scheduler._idle) < threads:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_idle_threads_are_woken_by_requests_only(counted, model):
    """TF Serving's batch threads wake every millisecond; a server that does nothing should use no CPU."""
    scheduler = counted()
    for number in range(5):
        wait_for_idle(scheduler)
        assert scheduler.ended <= 2 * number
        scheduler.submit(work(model, 1.0)).result(WAIT_S)
    wait_for_idle(scheduler)

    assert scheduler.ended <= 10


def test_a_batch_that_waits_for_its_timeout_is_watched_by_one_thread(counted, model):
    # All twenty come within it, on a machine that has better things to do, too.
    scheduler = counted(batch_timeout_s=1.0, max_batch_size=100)
    wait_for_idle(scheduler)
    futures = [scheduler.submit(work(model, float(n))) for n in range(20)]

    assert [future.result(WAIT_S).outputs["y"].tolist() for future in futures] == [[2.0 * n] for n in range(20)]
    wait_for_idle(scheduler)
    assert model.rows == [20]
    # Each may be told before the first of them watches; then the clock tells that one.
    assert scheduler.ended <= 4


def test_metrics_under_tf_servings_names_and_ours(model, busy):
    metrics = Metrics()
    policy = BatchingPolicy(
        max_batch_size=8, allowed_batch_sizes=(1, 4, 8), num_batch_threads=1, thread_pool_name="mine"
    )
    scheduler = BatchScheduler(policy, metrics)
    scheduler.start()
    busy(scheduler)
    futures = [scheduler.submit(work(model, value)) for value in (1.0, -1.0, 2.0)]
    gone = scheduler.submit(work(model, 3.0))
    assert gone.cancel()
    late = scheduler.submit(work(model, 3.0, deadline=0.0))
    assert metrics.queued.rows() == [(("m",), 4.0)]
    model.gate.set()
    for future in (*futures, late):
        future.exception(WAIT_S)
    scheduler.stop()

    # 0; all three; 1; -1 and 2; -1; 2.
    assert metrics.wrapped_run_count.of().value == 6
    assert metrics.batch_reruns.of("m").value == 4
    assert metrics.batches.of("m", 1, "rerun").value == 2
    assert sum(metrics.queuing_latency_us.of("mine").counts) == 4
    assert sum(metrics.batch_wait_s.of("m").counts) == 4
    assert sum(metrics.input_batch_size.of().counts) == 4
    assert sum(metrics.processed_batch_size.of().counts) == 6
    assert sum(metrics.padding_size.of(4).counts) == 2
    assert metrics.not_run.of("m", "cancelled").value == 1
    assert metrics.not_run.of("m", "expired").value == 1
    assert metrics.queued.rows() == [(("m",), 0.0)]


def test_unbatched_requests_of_a_model_wait_in_a_bounded_queue(model):
    scheduler = DirectScheduler(1, Metrics(), max_waiting=2)
    model.gate.clear()
    futures = [scheduler.submit(work(model, 1.0))]
    assert model.started.acquire(timeout=WAIT_S)
    futures += [scheduler.submit(work(model, 1.0)) for _ in range(2)]

    with pytest.raises(Unavailable, match=r"^2 requests for model m wait .*--max_enqueued_requests") as refusal:
        scheduler.submit(work(model, 1.0))
    futures.append(scheduler.submit(Work("other", "k", model, {"x": np.ones(1)})))
    model.gate.set()

    assert refusal.value.retry_after_s >= 1
    assert all(len(future.result(WAIT_S).outputs["y"]) == 1 for future in futures)
    scheduler.stop()


def test_unbatched_requests_that_come_at_once_run_at_once(model):
    """Also if one thread is idle already, which the first of them wakes, and the others are still to be started."""
    scheduler = DirectScheduler(4, Metrics())
    scheduler.submit(work(model, 0.0)).result(WAIT_S)
    wait_for_idle(scheduler, 1)
    assert model.started.acquire(timeout=WAIT_S)
    model.gate.clear()

    futures = [scheduler.submit(work(model, 1.0)) for _ in range(6)]

    assert all(model.started.acquire(timeout=WAIT_S) for _ in range(4))
    assert len(scheduler._threads) == 4
    model.gate.set()
    assert all(future.result(WAIT_S) for future in futures)
    scheduler.stop()


def test_without_batching_a_request_that_needs_too_much_memory_is_told_so():
    def run(_):
        raise MemoryError

    scheduler = DirectScheduler(1, Metrics())

    with pytest.raises(ResourceExhausted, match="Out of memory"):
        scheduler.submit(Work("m", "k", run, {"x": np.ones(1)})).result(WAIT_S)
    scheduler.stop()


def test_only_models_with_parameters_of_their_own_are_batched(model):
    pool = BatchingPolicy(num_batch_threads=1)
    batched = BatchScheduler(pool, Metrics())
    batched.start()
    scheduler = PerModelScheduler(batched, DirectScheduler(1, Metrics()))
    own = BatchingPolicy(max_batch_size=4, allowed_batch_sizes=(4,))

    scheduler.submit(Work("m", "a", model, {"x": np.ones(1)}, policy=own)).result(WAIT_S)
    scheduler.submit(Work("n", "b", model, {"x": np.ones(9)})).result(WAIT_S)
    with pytest.raises(InvalidArgument, match="larger than maximum input batch size 4"):
        scheduler.submit(Work("m", "a", model, {"x": np.ones(5)}, policy=own))

    assert model.rows == [4, 9]
    assert isinstance(scheduler.late(own), ResourceExhausted)
    assert isinstance(scheduler.late(None), DeadlineExceeded)
    scheduler.stop()


@pytest.mark.parametrize("splits", [False, True])
def test_in_a_storm_every_request_ends_once_and_with_its_own_answer(splits):
    """Errors, deadlines, cancellations, odd shapes and large requests at once, on several threads, until stop."""
    policy = BatchingPolicy(
        max_batch_size=32 if splits else 8,
        max_execution_batch_size=8,
        enable_large_batch_splitting=splits,
        batch_timeout_s=0.0005,
        max_enqueued_batches=6,
        num_batch_threads=4,
        allowed_batch_sizes=(2, 8),
    )
    metrics = Metrics()
    scheduler = BatchScheduler(policy, metrics)
    scheduler.start()
    model, ended, lock = Model(), Counter(), threading.Lock()

    def storm(seed):
        random, right = np.random.default_rng(seed), True
        for number in range(150):
            values = random.integers(0, 50, random.integers(1, 13 if splits else 9)).astype(np.float32)
            if number % 17 == 0:
                values[-1] = -1
            deadline = time.monotonic() + (random.random() * 0.01 if number % 5 == 0 else WAIT_S)
            request = work(model, *np.repeat(values, 1 + number % 3), inner=(1 + number % 3,), deadline=deadline)
            try:
                future = scheduler.submit(request)
            except Unavailable:
                continue

            def end(future):
                with lock:
                    ended[future] += 1

            future.add_done_callback(end)
            if number % 7 == 0:
                future.cancel()
            try:
                outputs = future.result(WAIT_S).outputs["y"]
                right = right and (outputs == request.inputs["x"] * 2).all()
            except InvalidArgument:
                right = right and values[-1] == -1
            except ResourceExhausted:
                right = right and number % 5 == 0
            except CancelledError:
                right = right and number % 7 == 0
        return right

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(storm, range(8)))
    scheduler.stop()

    assert set(ended.values()) == {1}
    assert max(model.rows) <= 8
    assert set(model.rows) <= {2, 8}
    assert metrics.queued.rows() == [(("m",), 0.0)]
    assert len(scheduler._rotation) == 0


def test_a_request_whose_first_part_fails_runs_no_further(model, busy, split_policy):
    metrics = Metrics()
    scheduler = BatchScheduler(BatchingPolicy(**split_policy, num_batch_threads=1), metrics)
    scheduler.start()
    busy(scheduler)
    bad = scheduler.submit(work(model, -1.0, *[1.0] * 11))
    model.gate.set()

    with pytest.raises(InvalidArgument):
        bad.result(WAIT_S)
    scheduler.stop()
    assert model.rows == [1, 4]
    assert metrics.not_run.of("m", "failed").value == 1
    assert metrics.queued.rows() == [(("m",), 0.0)]


def test_whoever_leaves_or_expires_while_a_batch_fails_is_not_run_again(scheduler_of, model, busy, monkeypatch):
    scheduler = scheduler_of(max_batch_size=8)
    busy(scheduler)
    left, late, bad, good = [
        scheduler.submit(work(model, value, deadline=time.monotonic() + deadline_s))
        for value, deadline_s in ((1.0, 1e9), (2.0, WAIT_S), (-1.0, 1e9), (3.0, 1e9))
    ]
    first, hold = model.gate, threading.Event()
    model.gate = hold
    first.set()
    while not left.running():
        assert model.started.acquire(timeout=WAIT_S)
    assert not left.cancel()
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 2 * WAIT_S)
    hold.set()

    with pytest.raises(CancelledError):
        left.result(WAIT_S)
    with pytest.raises(ResourceExhausted):
        late.result(WAIT_S)
    with pytest.raises(InvalidArgument):
        bad.result(WAIT_S)
    assert good.result(WAIT_S).outputs["y"].tolist() == [6.0]
    assert model.rows == [1, 4, 2, 1, 1]


def test_a_batch_that_fails_leaves_nothing_to_the_garbage_collector(scheduler_of, model, busy):
    """It counts objects, not bytes: failing requests with large tensors would fill the memory first."""
    scheduler = scheduler_of(max_batch_size=8)
    busy(scheduler)
    requests = [work(model, value) for value in (1.0, -1.0, 2.0, 3.0)]
    tensors = [weakref.ref(request.inputs["x"]) for request in requests]
    gc.collect()
    gc.disable()
    try:
        futures = [scheduler.submit(request) for request in requests]
        model.gate.set()
        for future in futures:
            future.exception(WAIT_S)
        wait_for_idle(scheduler, 1)
        del requests, futures, future

        assert [tensor() for tensor in tensors] == [None] * 4
    finally:
        gc.enable()
