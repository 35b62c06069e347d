import math
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_server.batching.queue import BatchQueue, QueueFull
from slipway_server.config_files import BatchingPolicy
from slipway_wire.status import InvalidArgument

# Multiples of a power of two, so that sums of times are exact.
TICK_S = 2**-10


@dataclass(frozen=True)
class Left:
    task: int
    start: int
    stop: int
    since: float
    at: float
    batch: int
    rows: int
    reason: str


@st.composite
def policies(draw):
    largest = draw(st.integers(1, 8))
    splits = draw(st.booleans())
    return BatchingPolicy(
        max_batch_size=draw(st.integers(largest, 20)) if splits else largest,
        max_execution_batch_size=largest,
        enable_large_batch_splitting=splits,
        batch_timeout_s=draw(st.integers(0, 5)) * TICK_S,
        max_enqueued_batches=draw(st.integers(int(splits), 4)),
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
            left.extend(
                Left(task, start, stop, since, at, batches, batch.rows, batch.reason)
                for (task, since), start, stop in batch.parts
            )
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
        except (InvalidArgument, QueueFull) as error:
            refused[task] = (error, waiting, rows)
    serve_until(float("inf"))
    return left, accepted, refused


@given(policies(), arrivals, st.integers(1, 3), service_ticks)
def test_every_row_leaves_once_and_in_order(policy, arrivals, threads, service):
    """No task is lost, repeated or overtaken, however busy the threads are."""
    left, accepted, _ = play(policy, arrivals, threads, service * TICK_S)

    assert [(one.task, row) for one in left for row in range(one.start, one.stop)] == [
        (task, row) for task in accepted for row in range(arrivals[task][1])
    ]


@given(policies(), arrivals, st.integers(1, 3), service_ticks)
def test_without_splitting_a_task_is_never_divided_and_with_it_no_batch_leaves_room(policy, arrivals, threads, service):
    left, _, _ = play(policy, arrivals, threads, service * TICK_S)

    for one in left:
        is_whole = one.stop - one.start == arrivals[one.task][1]
        assert is_whole or policy.enable_large_batch_splitting
        if policy.enable_large_batch_splitting and one.reason == "full":
            assert one.rows == policy.largest_batch


@given(policies(), arrivals)
def test_no_task_waits_longer_than_the_timeout_for_a_free_thread(policy, arrivals):
    left, _, _ = play(policy, arrivals, threads=1, service_s=0)

    assert all(one.at - one.since <= policy.batch_timeout_s for one in left)


@given(policies(), arrivals, st.integers(1, 3), service_ticks)
def test_batches_keep_to_their_limit_and_say_why_they_left(policy, arrivals, threads, service):
    left, _, _ = play(policy, arrivals, threads, service * TICK_S)

    sizes = {}
    for one in left:
        sizes[one.batch] = sizes.get(one.batch, 0) + one.stop - one.start
    for one in left:
        assert one.rows == sizes[one.batch] <= policy.largest_batch
        if one.rows == policy.largest_batch:
            assert one.reason == "full"
        if one.reason == "timeout":
            first = min(other.since for other in left if other.batch == one.batch)
            assert one.at - first >= policy.batch_timeout_s > 0
        if one.reason == "free":
            assert policy.batch_timeout_s == 0


@given(policies(), arrivals, st.integers(1, 3), service_ticks)
def test_tasks_are_refused_only_if_too_large_or_the_queue_is_full(policy, arrivals, threads, service):
    _, _, refused = play(policy, arrivals, threads, service * TICK_S)

    for error, waiting, rows in refused.values():
        if rows > policy.max_batch_size:
            assert isinstance(error, InvalidArgument)
        elif policy.enable_large_batch_splitting:
            assert isinstance(error, QueueFull)
            assert waiting * policy.largest_batch + rows > policy.max_enqueued_batches * policy.largest_batch
        else:
            assert isinstance(error, QueueFull)
            assert waiting >= max(policy.max_enqueued_batches, 1)


class Packed:
    """What the queue is to be equal to: tasks put into batches when they come, and all packed anew when one goes."""

    def __init__(self, policy):
        self.policy = policy
        self.tasks = {}

    def batches(self):
        packed = []
        for rows in self.tasks.values():
            left = rows
            while left:
                room = self.policy.largest_batch - packed[-1] if packed else 0
                if not room or (left > room and not self.policy.enable_large_batch_splitting):
                    packed.append(0)
                    room = self.policy.largest_batch
                packed[-1] += min(left, room)
                left -= min(left, room)
        return packed

    def has_room(self, rows):
        after = Packed(self.policy)
        after.tasks = {**self.tasks, object(): rows}
        return len(after.batches()) <= max(self.policy.max_enqueued_batches, 1)


def requests_of(number):
    """Tasks may be several requests that came together."""
    return 1 + number % 3


@given(policies(), st.lists(st.tuples(st.booleans(), st.integers(1, 20)), max_size=30))
def test_what_is_withdrawn_frees_all_its_room(policy, steps):
    """Callers that left must not keep others out: a task is refused only if what really waits leaves no room for it."""
    queue, model = BatchQueue(policy), Packed(policy)

    for number, (withdraws, amount) in enumerate(steps):
        if withdraws:
            task = sorted(model.tasks)[amount % len(model.tasks)] if model.tasks else -1
            assert queue.remove(task) == (model.tasks.pop(task, None) is not None)
            continue
        has_room = model.has_room(amount)
        try:
            queue.put(number, amount, 0.0, requests=requests_of(number))
        except InvalidArgument:
            assert amount > policy.max_batch_size
        except QueueFull:
            assert not has_room
        else:
            assert has_room
            model.tasks[number] = amount
        assert (queue.rows, queue.tasks) == (sum(model.tasks.values()), len(model.tasks))
        assert queue.requests == sum(map(requests_of, model.tasks))
    assert len(queue) == len(model.batches())
    *_, last = 0, *model.batches()
    assert queue.room == policy.largest_batch - last % policy.largest_batch

    taken = []
    while (batch := queue.take(1e9)) is not None:
        taken.append(batch.rows)
    assert taken == model.batches()
    assert len(queue) == queue.rows == queue.tasks == queue.requests == 0


@given(policies(), st.lists(st.tuples(st.integers(1, 3), st.integers(0, 9)), max_size=20), st.integers(0, 9))
def test_whose_time_is_over_leaves_the_queue(policy, tasks, now):
    queue, deadlines = BatchQueue(policy), {}
    for number, (rows, deadline) in enumerate(tasks):
        try:
            queue.put(number, rows, 0.0, float(deadline))
        except (InvalidArgument, QueueFull):
            continue
        deadlines[number] = deadline
    assert queue.next_deadline == min(deadlines.values(), default=math.inf)

    expired = queue.expire(float(now))

    assert expired == [number for number, deadline in deadlines.items() if deadline <= now]
    assert queue.tasks == len(deadlines) - len(expired)
    assert queue.next_deadline > now
    assert not set(expired) & {task for batch in iter(lambda: queue.take(1e9), None) for task, _, _ in batch.parts}


def test_a_divided_task_may_leave_between_its_parts():
    queue = BatchQueue(BatchingPolicy(max_batch_size=9, max_execution_batch_size=4, enable_large_batch_splitting=True))
    queue.put("large", 9, now=0.0)
    assert queue.take(0.0).parts == [("large", 0, 4)]

    assert queue.remove("large")

    assert queue.ready_at() is None
    assert not queue.remove("large")


def test_a_task_larger_than_any_batch_is_refused_in_tf_servings_words_and_told_how_it_could_run():
    queue = BatchQueue(BatchingPolicy(max_batch_size=4))

    with pytest.raises(InvalidArgument, match=r"^Task size 5 is larger than maximum input batch size 4; .*splitting"):
        queue.put("task", 5, now=0.0)

    assert queue.ready_at() is None


def test_a_full_queue_refuses_in_tf_servings_words():
    queue = BatchQueue(BatchingPolicy(max_batch_size=2, max_enqueued_batches=1))
    queue.put("first", 2, now=0.0)

    with pytest.raises(QueueFull) as refusal:
        queue.put("second", 1, now=0.0)

    assert refusal.value.message == (
        "The batch scheduling queue to which this task was submitted is full; "
        "currently 1 batches enqueued and max_enqueued_batches is 1"
    )


def test_a_full_queue_that_splits_tells_its_capacity_in_tf_servings_words():
    policy = BatchingPolicy(
        max_batch_size=8, max_execution_batch_size=4, enable_large_batch_splitting=True, max_enqueued_batches=2
    )
    queue = BatchQueue(policy)
    queue.put("first", 3, now=0.0)

    with pytest.raises(QueueFull) as refusal:
        queue.put("second", 6, now=0.0)

    assert refusal.value.message == (
        "The batch scheduling queue to which this task was submitted is full; task size is 6 but scheduling capacity "
        "is only 5 (num_enqueued_batches=1, max_enqueued_batches=2, open_batch_size=3, max_execution_batch_size=4)"
    )
    assert not refusal.value.is_permanent
    queue.put("third", 5, now=0.0)
    assert [queue.take(0.0).parts for _ in range(2)] == [[("first", 0, 3), ("third", 0, 1)], [("third", 1, 5)]]


def test_a_task_that_no_queue_of_this_size_will_ever_hold_is_told_apart():
    """Waiting and trying again would be in vain."""
    policy = BatchingPolicy(
        max_batch_size=99, max_execution_batch_size=4, enable_large_batch_splitting=True, max_enqueued_batches=2
    )

    with pytest.raises(QueueFull) as refusal:
        BatchQueue(policy).put("large", 9, now=0.0)

    assert refusal.value.is_permanent
    assert "capacity is only 8 (num_enqueued_batches=1," in refusal.value.message


def test_without_a_timeout_a_batch_may_leave_at_once_with_all_that_waits():
    queue = BatchQueue(BatchingPolicy(max_batch_size=8))
    queue.put("a", 1, now=5.0)
    queue.put("b", 2, now=6.0)

    batch = queue.take(now=6.0)

    assert (batch.parts, batch.rows, batch.reason) == ([("a", 0, 1), ("b", 0, 2)], 3, "free")
    assert queue.take(now=6.0) is None


def test_a_batch_closes_when_the_next_task_does_not_fit():
    queue = BatchQueue(BatchingPolicy(max_batch_size=4, batch_timeout_s=60.0))
    queue.put("a", 3, now=0.0)
    assert queue.take(now=0.0) is None
    queue.put("b", 3, now=0.0)

    batch = queue.take(now=0.0)

    assert (batch.parts, batch.reason) == ([("a", 0, 3)], "full")
    assert queue.ready_at() == 60.0


def test_a_batch_says_from_when_it_could_have_left():
    """What its tasks wait until then they wait for it to fill; what they wait after that, for a thread."""
    policy = BatchingPolicy(max_batch_size=4, batch_timeout_s=0.5)
    queue = BatchQueue(policy)

    def taken(*arrivals):
        for number, (at, rows) in enumerate(arrivals):
            queue.put(number, rows, at)
        batch = queue.take(10.0)
        while queue.take(10.0):
            pass
        return batch.reason, batch.ready_at

    assert taken((1.0, 1), (1.25, 1)) == ("timeout", 1.5)
    assert taken((1.0, 1), (1.25, 3)) == ("full", 1.25)  # the last one fills it
    assert taken((1.0, 3), (1.25, 3)) == ("full", 1.25)  # the next one does not fit
    assert taken((1.0, 1), (3.0, 3)) == ("full", 1.5)  # its time was over before it was full
    assert BatchQueue(BatchingPolicy(max_batch_size=4)).take(0.0) is None
    queue = BatchQueue(BatchingPolicy(max_batch_size=4))
    assert taken((1.0, 1), (1.25, 1)) == ("free", 1.0)
