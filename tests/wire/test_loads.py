import pytest

from slipway_wire.loads import LoadOrder, LoadOutcome, LoadWindow

ORDER = LoadOrder(
    protocol="rest", host="h", port=1, users=2, warmup_s=0.5, window_s=3.0, samples="/a/b c.npz", rate=1.5
)
OUTCOME = LoadOutcome(
    requests=3,
    errors={"HTTP 503": 1},
    first_error="HTTP 503: busy\nvery",
    checked_answers=2,
    wrong_answers=0,
    connections=1,
    bytes_sent=None,
    bytes_received=5,
    cpu_ns=1,
    cpu_from_ns=2,
    cpu_to_ns=2**60,
    lag_p99_us=0.5,
    lag_max_us=1.5,
)


@pytest.mark.parametrize("value", [ORDER, OUTCOME, LoadWindow(origin_ns=1, begin_ns=2, end_ns=2**62)])
def test_a_value_crosses_as_one_line(value):
    line = value.to_line()

    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert type(value).from_line(line) == value


@pytest.mark.parametrize("line", [b"", b"Traceback (most recent call last):\n", b"{}\n", b'{"color": 1}\n'])
def test_anything_else_is_refused(line):
    with pytest.raises(ValueError, match=r"LoadOrder|JSON|Expecting"):
        LoadOrder.from_line(line)
