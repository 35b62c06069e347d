import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_server.batching import brief
from slipway_server.batching.brief import BRIEF_S, Brief


def test_what_has_not_run_is_not_expected_to_be_brief():
    runs = Brief()
    runs.note("other", 1, 0.0001, 0.0)

    assert runs.expects("other", 1)
    assert not runs.expects("one", 1)


def test_more_to_do_takes_longer_by_as_much():
    runs = Brief()
    runs.note("one", 10, BRIEF_S / 4, 0.0)

    assert runs.expects("one", 40)
    assert not runs.expects("one", 41)


@pytest.mark.parametrize("first", [False, True])
def test_what_takes_long_because_it_is_large_says_nothing_against_small_ones(first):
    runs = Brief()
    sizes = [(1000, BRIEF_S * 100), (1, BRIEF_S / 10)]
    for size, took_s in sizes if first else reversed(sizes):
        runs.note("one", size, took_s, 0.0)

    assert runs.expects("one", 1)
    assert not runs.expects("one", 1000)


def test_who_has_surprised_is_not_trusted_until_another_has_seen_it_be_brief_long_after():
    runs = Brief()
    runs.note("one", 1, BRIEF_S / 2, 0.0)
    runs.note("one", 1, 1.0, 1.0)
    assert not runs.expects("one", 1)

    runs.note("one", 1, BRIEF_S / 2, 100.9)
    assert not runs.expects("one", 1)

    runs.note("one", 1, BRIEF_S / 2, 101.0)
    assert runs.expects("one", 1)


def test_what_once_held_up_the_largest_run_is_forgotten():
    runs = Brief()
    runs.note("one", 64, BRIEF_S * 10, 0.0)
    for _ in range(100):
        runs.note("one", 32, BRIEF_S / 2, 0.0)

    assert runs.expects("one", 32)


def test_there_is_no_end_of_keys_but_of_memory():
    runs = Brief()
    for key in range(brief._MOST_KEYS + 1):
        runs.note(key, 1, 0.0, 0.0)

    assert len(runs._seen) == brief._MOST_KEYS
    assert runs.expects(brief._MOST_KEYS, 1)
    assert not runs.expects(0, 1)


@given(st.lists(st.tuples(st.integers(1, 100), st.floats(0, 10 * BRIEF_S), st.floats(0, 10)), min_size=1))
def test_surprises_take_at_most_a_hundredth_of_all_time(runs_and_pauses):
    """Whoever is told to expect a brief run, makes it, and it is not."""
    runs, now, surprises_s, first_surprise_at = Brief(), 0.0, 0.0, None
    for size, took_s, pause_s in runs_and_pauses:
        now += pause_s
        is_surprise = runs.expects("one", size) and took_s > BRIEF_S
        if is_surprise:
            if first_surprise_at is None:
                first_surprise_at = now
            # All that were before are paid for.
            assert surprises_s <= (now - first_surprise_at) / 100 + 1e-9
            surprises_s += took_s
        now += took_s
        runs.note("one", size, took_s, now)
