import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_server.batching import rotation
from slipway_server.batching.queue import QueueFull
from slipway_server.batching.rotation import Rotation
from slipway_server.config_files import BatchingPolicy

# Takes one task at a time, so that turns can be told apart.
SINGLE = BatchingPolicy(max_batch_size=1, max_enqueued_batches=1000)


def put(
    rotation, task, model="m", key=None, *, policy=SINGLE, rows=1, now=0.0, deadline=math.inf, group=None, requests=1
):
    key = (model, key)
    return rotation.put(
        task,
        model=model,
        group=group or key,
        key=key,
        policy=policy,
        rows=rows,
        now=now,
        deadline=deadline,
        requests=requests,
    )


def taken(rotation, now=0.0):
    turn = rotation.take(now)
    return turn and [task for task, _, _ in turn[1].parts]


# What happens: a task for a model and a queue of it, or, as None, a free thread.
steps = st.lists(st.one_of(st.none(), st.tuples(st.sampled_from("ABC"), st.integers(0, 3))), max_size=80)


def play(steps):
    """Give tasks to a rotation and take turns until nothing is left; return (queue served, queues that waited) a turn."""
    rotation, waiting, turns = Rotation(), Counter(), []
    for number, step in enumerate([*steps, *[None] * len(steps)]):
        if step is not None:
            put(rotation, (step, number), *step)
            waiting[step] += 1
        elif task := taken(rotation):
            ((queue, _),) = task
            turns.append((queue, set(+waiting)))
            waiting[queue] -= 1
        else:
            assert not +waiting
    return turns


@given(steps)
def test_no_model_has_two_turns_while_another_waits(steps):
    """However large the flood, whoever waits comes before the next turn of whoever had the last."""
    last_turn = {}
    for number, ((model, _), waiting) in enumerate(play(steps)):
        others = {other for other, _ in waiting} - {model}
        assert all(last_turn.get(other, -1) > last_turn.get(model, -2) for other in others if model in last_turn)
        last_turn[model] = number


@given(steps)
def test_no_queue_has_two_turns_while_another_of_its_model_waits(steps):
    """One common shape does not starve the odd ones, nor the odd ones the common."""
    turns = play(steps)
    for first, (queue, waiting) in enumerate(turns):
        second = next((n for n in range(first + 1, len(turns)) if turns[n][0] == queue), None)
        if second is None:
            continue
        for other in waiting - {queue}:
            if other[0] == queue[0]:
                assert other in {served for served, _ in turns[first:second]}


@given(st.integers(1, 30), st.integers(0, 30))
def test_a_flood_of_one_model_lets_another_have_the_next_turn(flood, shapes):
    """What B waits for is what runs already, and not one batch more of A."""
    rotation = Rotation()
    for number in range(flood):
        put(rotation, ("A", number), "A", number % (shapes + 1))
    assert taken(rotation)[0][0] == "A"

    put(rotation, "B", "B")

    assert taken(rotation) == ["B"]


def test_a_model_that_always_has_one_request_does_not_starve_a_full_queue():
    """Coming back at once is no way to the front."""
    rotation = Rotation()
    for number in range(10):
        put(rotation, ("A", number), "A")
    turns = []
    for number in range(20):
        if number % 2 == 0:
            put(rotation, ("B", number), "B")
        turns += taken(rotation) or []

    assert [who for who, _ in turns[:8]] == ["A", "B"] * 4


def test_a_queue_that_waits_for_company_holds_up_no_other():
    rotation = Rotation()
    put(rotation, "patient", "A", policy=BatchingPolicy(batch_timeout_s=5.0))
    put(rotation, "hasty", "B")

    assert taken(rotation, now=1.0) == ["hasty"]
    assert taken(rotation, now=4.9) is None
    assert rotation.next_at() == 5.0
    assert taken(rotation, now=5.0) == ["patient"]
    assert rotation.next_at() == math.inf


def test_all_shapes_of_a_signature_together_have_the_room_of_one_queue():
    """TF Serving has one queue for all of them; many odd shapes must not fill the memory."""
    rotation, policy = Rotation(), BatchingPolicy(max_batch_size=4, max_enqueued_batches=2)
    for shape in range(4):
        put(rotation, shape, key=shape, policy=policy, rows=2, group="signature")

    for shape in (0, 99):
        with pytest.raises(QueueFull, match=r"currently 2 batches enqueued and max_enqueued_batches is 2 \(8 rows of"):
            put(rotation, "one more", key=shape, policy=policy, group="signature")
    put(rotation, "of another signature", key="other", policy=policy)
    assert taken(rotation) == [0]
    put(rotation, "fits again", key=99, policy=policy, rows=2, group="signature")


def test_a_model_has_a_bounded_number_of_queues(monkeypatch):
    monkeypatch.setattr(rotation, "MAX_QUEUES", 3)
    full = Rotation()
    for shape in range(3):
        put(full, shape, key=shape)

    with pytest.raises(QueueFull, match="Requests of 3 different shapes"):
        put(full, "fourth", key="fourth")
    put(full, "again", key=2)
    put(full, "of another model", "other")


@st.composite
def operations(draw):
    kinds = st.sampled_from(["put", "put", "take", "remove", "expire"])
    return draw(st.lists(st.tuples(kinds, st.integers(0, 5), st.integers(1, 6), st.integers(0, 9)), max_size=60))


@given(operations())
def test_the_books_are_kept(operations):
    """Counters that drift make a server refuse more and more until it is restarted; see triton server#8870."""
    policy = BatchingPolicy(
        max_batch_size=8, max_execution_batch_size=4, enable_large_batch_splitting=True, max_enqueued_batches=3
    )
    books, waiting = Rotation(), {}
    for number, (kind, lane, rows, time) in enumerate(operations):
        match kind:
            case "put":
                try:
                    placed = put(
                        books,
                        number,
                        f"m{lane % 2}",
                        lane,
                        policy=policy,
                        rows=rows,
                        deadline=float(time),
                        group=lane % 2,
                        requests=1 + number % 3,
                    )
                except QueueFull:
                    continue
                waiting[number] = [rows, placed, float(time), lane]
            case "take":
                turn = books.take(0.0)
                assert (turn is None) == (not waiting)
                for task, start, stop in turn[1].parts if turn else ():
                    waiting[task][0] -= stop - start
                    if not waiting[task][0]:
                        del waiting[task]
            case "remove":
                task = sorted(waiting)[time % len(waiting)] if waiting else -1
                placed = waiting.pop(task, (0, None))[1]
                assert books.remove(task, placed) == (placed is not None)
            case "expire":
                expired = books.expire(float(time))
                assert sorted(expired) == [task for task, entry in sorted(waiting.items()) if entry[2] <= time]
                for task in expired:
                    del waiting[task]
        assert len(books) == len({entry[3] for entry in waiting.values()})
        assert books.models == len({entry[3] % 2 for entry in waiting.values()})
        of_models = Counter()
        for task, entry in waiting.items():
            of_models[f"m{entry[3] % 2}"] += 1 + task % 3
        assert +Counter(books.waiting()) == of_models
        assert {group: rows for group, rows in books._rows.items() if rows} == books._rows
        assert sum(books._rows.values()) == sum(entry[0] for entry in waiting.values())
