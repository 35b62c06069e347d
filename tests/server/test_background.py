import threading

from hypothesis import given
from hypothesis import strategies as st

from slipway_server.background import Background

WAIT_S = 90.0


@given(st.lists(st.integers(), max_size=50))
def test_all_that_is_taken_in_is_done_in_order_before_stop_returns(items):
    done = []
    background = Background("test", done.extend, max_items=100, max_bytes=100, dropped=lambda: None)
    for item in items:
        assert background.put(item)

    assert background.stop(WAIT_S)
    assert done == items


def test_what_has_no_room_is_dropped_and_told():
    """A disk that stands still must neither hold up requests nor fill the memory."""
    gate, has_begun, done, drops = threading.Event(), threading.Event(), [], []

    def work(items):
        has_begun.set()
        assert gate.wait(WAIT_S)
        done.extend(items)

    background = Background("test", work, max_items=3, max_bytes=10, dropped=lambda: drops.append(1))
    background.put("first")
    assert has_begun.wait(WAIT_S)
    taken = [background.put(item, size) for item, size in (("a", 4), ("large", 7), ("b", 6), ("c", 0), ("d", 0))]
    gate.set()

    assert background.stop(WAIT_S)
    assert taken == [True, False, True, True, False]
    assert len(drops) == 2
    assert done == ["first", "a", "b", "c"]


def test_a_failure_is_told_and_does_not_end_the_thread(caplog, fakes):
    done = threading.Event()

    def work(items):
        if "bad" in items:
            raise OSError("No space left on device")
        done.set()

    background = Background("writer", work, max_items=3, max_bytes=10, dropped=lambda: None)
    background.put("bad")
    fakes.wait_for(lambda: "items are lost" in caplog.text, "the failure to be told")
    background.put("good")

    assert done.wait(WAIT_S)
    background.stop(WAIT_S)
    assert "No space left on device" in caplog.text


def test_nothing_is_taken_after_the_end():
    drops = []
    background = Background("test", lambda _: None, max_items=3, max_bytes=10, dropped=lambda: drops.append(1))
    background.stop(WAIT_S)

    assert not background.put(1)
    assert drops == [1]


def test_an_end_does_not_wait_for_ever():
    gate = threading.Event()
    background = Background("test", lambda _: gate.wait(WAIT_S), max_items=3, max_bytes=10, dropped=lambda: None)
    background.put(1)

    assert not background.stop(0.01)
    gate.set()
    assert background.stop(WAIT_S)
