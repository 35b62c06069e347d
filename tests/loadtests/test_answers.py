import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_loadtests import answers
from slipway_loadtests.answers import Answers, difference
from slipway_wire.tolerances import Tolerance

NEAR, EXACT = Tolerance(1e-3, 0), Tolerance(0, 0)
EXPECTED = [{"y": np.array([1.0, 2.0], np.float32)}, {"y": np.array([3.0, 4.0], np.float32)}, None]


def judge_of(expected=EXPECTED, decode=None, tolerance=NEAR):
    decoded = []

    def decode_floats(payload, answer):
        decoded.append(answer)
        return {"y": np.frombuffer(answer, np.float32)}

    return Answers(expected, decode or decode_floats, lambda *_: tolerance), decoded


def floats(*values):
    return np.array(values, np.float32).tobytes()


def test_every_answer_counts_and_each_kind_is_decoded_once():
    judge, decoded = judge_of()
    for _ in range(100):
        judge.see(0, floats(1, 2))
        judge.see(1, floats(3, 4))
        judge.see(1, floats(3.0005, 4))  # a batch of another size, another last bit

    verdict = judge.judge()
    for _ in range(50):
        judge.see(0, floats(1, 2))
    again = judge.judge()

    assert (verdict.checked, verdict.wrong, verdict.first_wrong) == (300, 0, None)
    assert (again.checked, again.wrong) == (50, 0)
    assert len(decoded) == 3


def test_wrong_answers_are_counted_one_by_one_and_the_first_is_told():
    judge, _ = judge_of()
    for _ in range(7):
        judge.see(0, floats(1, 2))
    for _ in range(3):
        judge.see(1, floats(1, 2))  # right for another payload

    verdict = judge.judge()

    assert (verdict.checked, verdict.wrong) == (10, 3)
    assert verdict.first_wrong == "payload 1: y[0]: expected 3.0, got 1.0"


def test_a_wrong_answer_stays_wrong_in_the_next_window():
    judge, _ = judge_of()
    judge.see(0, floats(9, 9))
    judge.judge()
    judge.see(0, floats(9, 9))

    assert judge.judge().wrong == 1


def test_what_cannot_be_read_is_wrong():
    judge, _ = judge_of()
    judge.see(0, b"not floats")

    assert "cannot be read" in judge.judge().first_wrong


def test_an_error_in_the_place_of_an_answer_is_told_in_one_line():
    """Under status 200, say."""

    def decode(_payload, answer):
        raise ValueError(f"no answer: {answer.decode()}")

    judge, _ = judge_of(decode=decode)
    judge.see(0, b'{\n  "error": "out of luck"\n}' + b" " * 10_000 + b"x" * 10_000)
    told = judge.judge().first_wrong

    assert told.startswith('payload 0: cannot be read: no answer: { "error": "out of luck" } x')
    assert "\n" not in told
    assert len(told) < 400


def test_where_no_value_is_known_the_form_is_judged_and_nothing_counts_as_compared():
    judge, _ = judge_of(tolerance=Tolerance(any_value=True))
    for _ in range(5):
        judge.see(0, floats(7, 7))
    assert (judge.judge().checked, judge.judge().wrong) == (0, 0)

    for value in (floats(7), floats(7, np.nan)):
        judge.see(0, value)
    verdict = judge.judge()

    assert (verdict.checked, verdict.wrong) == (2, 2)
    assert verdict.first_wrong == "payload 0: y: expected shape [2], got [1]"


def test_every_output_is_judged_by_its_own_tolerance():
    one = {"y": np.array([1.0]), "z": np.array([1.0])}
    tolerances = {"y": EXACT, "z": Tolerance(0.5, 0)}

    assert difference(one, {"y": np.array([1.0]), "z": np.array([1.4])}, tolerances.get) is None
    assert (
        difference(one, {"y": np.array([1.1]), "z": np.array([1.0])}, tolerances.get) == "y[0]: expected 1.0, got 1.1"
    )


def test_nobody_is_wrong_where_nobody_knows_the_answer():
    judge, decoded = judge_of()
    judge.see(2, b"anything")

    assert judge.judge().checked == 0
    assert not decoded


def test_of_large_answers_some_are_looked_at_and_every_one_of_new_length():
    """A megabyte costs as much to look up as it costs to receive."""
    right = np.zeros(100_000, np.float32)
    judge, _ = judge_of([{"y": right}])
    for _ in range(1000):
        judge.see(0, right.tobytes())
    judge.see(0, right[:-1].tobytes())

    verdict = judge.judge()

    assert verdict.wrong == 1
    assert 5 <= verdict.checked <= 50


def test_every_payload_is_looked_at_in_every_load_however_large_its_answers():
    """Payloads come in turn: a count common to all would meet the same few each time."""
    right = np.zeros(16 * 1024, np.float32)
    judge, _ = judge_of([{"y": right}] * 16)
    for _ in range(2):
        for number in range(16 * 100):
            judge.see(number % 16, right.tobytes())
        assert judge.judge().wrong == 0
    for number in range(16 * 100):
        judge.see(number % 16, (right if number % 16 != 3 else right + 1).tobytes())

    verdict = judge.judge()

    assert verdict.wrong >= 2
    assert verdict.checked < 16 * 20


def test_a_server_whose_answers_never_repeat_does_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr(answers, "_MAX_KEPT_BYTES", 1000)
    judge, _ = judge_of([{"y": np.zeros(1, np.float32)}])
    for number in range(1000):
        judge.see(0, np.array([number / 1e7], np.float32).tobytes())

    assert 200 <= judge.judge().checked <= 300

    # Nor does it escape once memory is full of good answers.
    for number in range(1000):
        judge.see(0, np.array([5 + number / 1e7], np.float32).tobytes())
    assert judge.judge().wrong >= 200


@pytest.mark.parametrize(
    ("found", "fault"),
    [
        ({"y": np.array([1.0], np.float32)}, "expected outputs n, y, got y"),
        ({"y": np.array([1.0], np.float32), "n": np.array([[1]])}, r"n: expected shape [1], got [1, 1]"),
        ({"y": np.array([np.nan], np.float32), "n": np.array([1])}, "y[0]: expected 1.0, got nan"),
        ({"y": np.array([1.0005], np.float32), "n": np.array([2])}, "n[0]: expected 1, got 2"),
        ({"y": np.array([1.0005], np.float32), "n": np.array([1.0])}, None),
        ({"y": np.array([1.0005], np.float32), "n": np.array([1])}, None),
    ],
)
def test_a_difference_is_told_in_one_line(found, fault):
    expected = {"y": np.array([1.0], np.float32), "n": np.array([1])}

    assert difference(expected, found, lambda _: NEAR) == fault


def test_strings_must_be_equal_and_nan_is_nan():
    words = {"s": np.array([b"a", b"b"], object), "x": np.array([np.nan])}

    assert difference(words, dict(words), lambda _: EXACT) is None
    changed = words | {"s": np.array([b"a", b"c"], object)}
    assert difference(words, changed, lambda _: EXACT) == "s[1]: expected b'b', got b'c'"


@given(st.lists(st.floats(-1e3, 1e3), min_size=1), st.floats(0, 1e-3))
def test_what_is_within_the_tolerance_is_no_difference(values, off):
    expected = np.array(values)

    assert difference({"y": expected}, {"y": expected + off}, lambda _: Tolerance(1e-3 + 1e-9, 0)) is None
    assert difference({"y": expected}, {"y": expected + 1 + off}, lambda _: NEAR) is not None


def test_answers_of_several_versions_are_right_and_told_apart():
    """A bit for each version that gives such an answer; what none of them gives is wrong."""
    other = [{"y": np.array([5.0, 6.0], np.float32)}, {"y": np.array([3.0, 4.0], np.float32)}, None]
    judge = Answers(EXPECTED, lambda _, answer: {"y": np.frombuffer(answer, np.float32)}, lambda *_: NEAR, [other])
    sent = [(0, (1, 2)), (0, (5, 6)), (1, (3, 4)), (0, (5, 6)), (0, (7, 7)), (2, (1, 1))]
    numbers = [judge.follow(payload, floats(*values)) for payload, values in sent]
    fits = judge.fits()

    assert judge.follows
    assert [fits[number] for number in numbers] == [1, 2, 3, 2, 0, 0]
    verdict = judge.judge()
    assert (verdict.checked, verdict.wrong) == (5, 1)
    assert verdict.first_wrong == "payload 0: y[0]: expected 1.0, got 7.0"
    # Numbers begin anew with each load.
    assert (judge.follow(0, floats(5, 6)), judge.fits()) == (0, [2])


def test_an_answer_that_was_not_looked_at_has_no_number(monkeypatch):
    monkeypatch.setattr(answers, "_MAX_KEPT_BYTES", 10)
    judge = Answers(EXPECTED, lambda _, answer: {"y": np.frombuffer(answer, np.float32)}, lambda *_: NEAR, [EXPECTED])

    assert [judge.follow(0, floats(1, 2 + number)) for number in range(3)] == [0, 1, -1]
