import asyncio
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_loadtests.delays import Delay, Delayed
from slipway_loadtests.timerfd import now_ns

MS = 1_000_000


def test_an_answer_takes_its_time_at_least_and_waits_for_the_end_of_a_stall():
    delay = Delay(answer_ns=5 * MS, stall_ns=300 * MS, every_ns=2000 * MS)

    assert delay.due_ns(100 * MS, 0) == 105 * MS  # before the first stall
    assert delay.due_ns(1994 * MS, 0) == 1999 * MS
    assert delay.due_ns(1995 * MS, 0) == 2300 * MS
    assert delay.due_ns(2299 * MS, 0) == 2304 * MS
    assert delay.due_ns(4100 * MS + 7, 7) == 4300 * MS + 7
    assert Delay(answer_ns=MS).due_ns(3 * MS, 0) == 4 * MS


@given(
    st.builds(Delay, st.integers(0, 50), st.integers(1, 40), st.integers(50, 100)),
    st.integers(0, 1000),
    st.lists(st.integers(0, 1000)),
)
def test_who_asks_later_is_never_answered_earlier_and_nothing_leaves_in_a_stall(delay, began, after):
    due = [delay.due_ns(began + asked, began) for asked in sorted(after)]

    assert due == sorted(due)
    for asked, left in zip(sorted(after), due, strict=True):
        assert left >= began + asked + delay.answer_ns
        assert left - began < delay.every_ns or (left - began) % delay.every_ns >= delay.stall_ns


@pytest.mark.parametrize("hangs_up", [False, True])
def test_answers_are_written_in_their_order_and_not_to_who_has_hung_up(hangs_up):
    async def run():
        ours, theirs = socket.socketpair()
        with theirs:
            loop = asyncio.get_running_loop()
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
            delayed = Delayed(Delay(answer_ns=5 * MS))
            asked = now_ns()
            delayed.write(transport, b"one")
            delayed.write(transport, b"two")
            if hangs_up:
                transport.close()
            theirs.setblocking(False)
            read = await loop.sock_recv(theirs, 3)
            if not hangs_up:
                assert now_ns() - asked >= 5 * MS
                read += await loop.sock_recv(theirs, 3)
            delayed.close()
            transport.close()
            return read

    assert asyncio.run(run()) == (b"" if hangs_up else b"onetwo")
