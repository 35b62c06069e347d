from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_server.batching.queue import BatchQueue
from slipway_server.config_files import BatchingPolicy
from slipway_wire.status import InvalidArgument, Unavailable

# Multiples of a power of two, so that sums of times are exact.
TICK_S = 2**-10


@dataclass(frozen=True)
class Left:
    task: int
    since: float
    at: float
    batch: int
    rows: int
    reason: str


policies = st.builds(
    BatchingPolicy,
    max_batch_size=st.integers(1, 8),
    batch_timeout_s=st.integers(0, 5).map(lambda ticks: ticks * TICK_S),
    max_enqueued_batches=st.integers(0, 4),
)
arrivals = st.lists(st.tuples(st.integers(0, 4), st.integers(1, 9)), max_size=40)
service_ticks = st.integers(0, 12)


def play(policy, arrivals, threads, service_s):
    """Be the world around a queue: tasks arrive, threads take batches as soon as the queue gives one and they are free."""
    queue = BatchQueue(policy)
    free_at = [0.0] * threads
    now, left, refused, batches = 0.0, [], {}, 0
    accepted = []

    def serve_until(end):
        nonlocal batches
        while (ready_at := queue.ready_at()) is not None:
            thread = min(range(threads), key=free_at.__getitem__)
            at = max(ready_at, free_at[thread])
            if at > end:
                return
            assert queue.take(ready_at - TICK_S / 2) is None
            batch = queue.take(at)
            left.extend(Left(task, since, at, batches, batch.rows, batch.reason) for task, since in batch.tasks)
            batches += 1
            free_at[thread] = at + service_s

    for task, (ticks, rows) in enumerate(arrivals):
        now += ticks * TICK_S
        # What is due before this arrival happens before it; what is due at the same time may see it.
        serve_until(now - TICK_S / 2)
        waiting = len(queue)
        try:
            queue.put((task, now), rows, now)
            accepted.append(task)
        except (InvalidArgument, Unavailable) as error:
            refused[task] = (error, waiting, rows)
    serve_until(float("inf"))
    return left, accepted, refused


@given(policies, arrivals, st.integers(1, 3), service_ticks)
def test_every_task_leaves_once_and_in_order(policy, arrivals, threads, service):
    """No task is lost, repeated or overtaken, however busy the threads are."""
    left, accepted, _ = play(policy, arrivals, threads, service * TICK_S)

    assert [one.task for one in left] == accepted


@given(policies, arrivals)
def test_no_task_waits_longer_than_the_timeout_for_a_free_thread(policy, arrivals):
    left, _, _ = play(policy, arrivals, threads=1, service_s=0)

    assert all(one.at - one.since <= policy.batch_timeout_s for one in left)


@given(policies, arrivals, st.integers(1, 3), service_ticks)
def test_batches_keep_to_their_limit_and_say_why_they_left(policy, arrivals, threads, service):
    left, _, _ = play(policy, arrivals, threads, service * TICK_S)

    sizes = {}
    for one in left:
        sizes[one.batch] = sizes.get(one.batch, 0) + arrivals[one.task][1]
    for one in left:
        assert one.rows == sizes[one.batch] <= policy.max_batch_size
        if one.rows == policy.max_batch_size:
            assert one.reason == "full"
        if one.reason == "timeout":
            first = min(other.since for other in left if other.batch == one.batch)
            assert one.at - first >= policy.batch_timeout_s > 0
        if one.reason == "free":
            assert policy.batch_timeout_s == 0


@given(policies, arrivals, st.integers(1, 3), service_ticks)
def test_tasks_are_refused_only_if_too_large_or_the_queue_is_full(policy, arrivals, threads, service):
    _, _, refused = play(policy, arrivals, threads, service * TICK_S)

    for error, waiting, rows in refused.values():
        if rows > policy.max_batch_size:
            assert isinstance(error, InvalidArgument)
        else:
            assert isinstance(error, Unavailable)
            assert waiting >= max(policy.max_enqueued_batches, 1)


def test_a_task_larger_than_any_batch_is_refused_in_tf_servings_words():
    queue = BatchQueue(BatchingPolicy(max_batch_size=4))

    with pytest.raises(InvalidArgument, match=r"^Task size 5 is larger than maximum input batch size 4$"):
        queue.put("task", 5, now=0.0)

    assert queue.ready_at() is None


def test_a_full_queue_refuses_in_tf_servings_words():
    queue = BatchQueue(BatchingPolicy(max_batch_size=2, max_enqueued_batches=1))
    queue.put("first", 2, now=0.0)

    with pytest.raises(Unavailable) as refusal:
        queue.put("second", 1, now=0.0)

    assert refusal.value.message == (
        "The batch scheduling queue to which this task was submitted is full; "
        "currently 1 batches enqueued and max_enqueued_batches is 1"
    )


def test_without_a_timeout_a_batch_may_leave_at_once_with_all_that_waits():
    queue = BatchQueue(BatchingPolicy(max_batch_size=8))
    queue.put("a", 1, now=5.0)
    queue.put("b", 2, now=6.0)

    batch = queue.take(now=6.0)

    assert (batch.tasks, batch.rows, batch.reason) == (["a", "b"], 3, "free")
    assert queue.take(now=6.0) is None


def test_a_batch_closes_when_the_next_task_does_not_fit():
    queue = BatchQueue(BatchingPolicy(max_batch_size=4, batch_timeout_s=60.0))
    queue.put("a", 3, now=0.0)
    assert queue.take(now=0.0) is None
    queue.put("b", 3, now=0.0)

    batch = queue.take(now=0.0)

    assert (batch.tasks, batch.reason) == (["a"], "full")
    assert queue.ready_at() == 60.0
