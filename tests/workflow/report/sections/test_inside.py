import pytest
from tests.workflow import result_factory as factory

from slipway.report.sections.inside import _ranges, inside


def test_stages_and_what_they_do_not_explain_add_up_to_the_latency(measurement):
    stages = inside(measurement).blocks[0].blocks[0]
    cell = measurement.closed[0].cells["rest"]
    parts = {
        row[1].text: float(row[2].text.replace("\u202f", "")) for row in stages.table.rows if row[0].text == "REST"
    }

    assert list(parts) == [
        *("parse", "wait for a batch to fill", "wait for a thread", "compute (the whole batch)", "encode"),
        "client, wire, scheduling",
    ]
    assert sum(parts.values()) == pytest.approx(cell.mean_us.value, rel=0.01)


def test_the_lightest_load_and_the_busiest_are_drawn(measurement):
    """Nothing queues at one in flight; what the headline is about is another picture."""
    titles = [figure.title for figure in inside(measurement).blocks[0].blocks[:2]]

    assert titles == [f"Where a request spends its time, at {load} in flight" for load in (1, 64)]


def test_an_older_server_that_tells_one_wait_has_one(measured):
    """A result from before the two were told apart must not claim that all of it was waiting for a thread."""
    record = factory.with_repetitions(
        factory.benchmark("digits", 2, concurrency=(1,)),
        lambda _c, r: r.model_copy(update={"stages_us": {k: v for k, v in r.stages_us.items() if k != "batch_wait"}}),
    )
    figure = inside(measured(record)).blocks[0].blocks[0]

    assert "wait for a batch and a thread" in [row[1].text for row in figure.table.rows]


def test_what_the_server_does_not_tell_is_left_out(measured):
    record = factory.with_repetitions(
        factory.benchmark("digits", 2), lambda _c, r: r.model_copy(update={"stages_us": {}, "batch_sizes": {}})
    )
    (figure,) = inside(measured(record)).blocks[0].blocks

    assert figure.title == "Server CPU per request"


def test_few_batch_sizes_stand_by_themselves_many_in_ranges():
    assert _ranges([1, 3, 32]) == [(1, 1), (3, 3), (32, 32)]
    assert _ranges(list(range(1, 21))) == [(1, 1), (2, 2), (3, 4), (5, 8), (9, 16), (17, 32)]


def test_why_batches_were_released_is_told(measured):
    record = factory.with_repetitions(
        factory.benchmark("digits", 2),
        lambda _c, r: r.model_copy(update={"batch_reasons": {"full": 10, "timeout": 30, "later_word": 40}}),
    )
    _, _, batches, _ = inside(measured(record)).blocks[0].blocks

    assert (
        "They were released: over REST 50% later_word, 38% because their oldest request had waited long enough, "
        "12% because they were full; over gRPC 50%" in batches.caption
    )


def test_a_server_that_does_not_say_why_leaves_it_out(measurement):
    assert "released" not in inside(measurement).blocks[0].blocks[2].caption
