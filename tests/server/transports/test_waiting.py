import asyncio
import contextlib
import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from slipway_server.transports.waiting import Arrivals, Timeout, soon_on

WAIT_S = 90.0


def test_every_waiter_gets_its_own_answer(loop_thread):
    arrivals = Arrivals(loop_thread.loop)
    futures = [Future() for _ in range(500)]

    async def wait_for_all():
        return await asyncio.gather(*map(arrivals.of, futures))

    waiting = asyncio.run_coroutine_threadsafe(wait_for_all(), loop_thread.loop)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda pair: pair[1].set_result(pair[0]), enumerate(futures)))

    assert waiting.result(WAIT_S) == list(range(500))


def test_a_future_that_is_done_already_is_an_answer_too(loop_thread):
    done = Future()
    done.set_result("answer")

    assert loop_thread.run(Arrivals(loop_thread.loop).of(done)) == "answer"


def test_an_error_arrives(loop_thread):
    failed = Future()
    failed.set_exception(ValueError("told"))

    with pytest.raises(ValueError, match="told"):
        loop_thread.run(Arrivals(loop_thread.loop).of(failed))


def test_who_stops_waiting_cancels_the_work(loop_thread):
    future = Future()

    async def give_up():
        async with asyncio.timeout(0):
            await Arrivals(loop_thread.loop).of(future)

    with pytest.raises(TimeoutError):
        loop_thread.run(give_up())
    assert future.cancelled()


def test_a_cancelled_future_cancels_who_waits(loop_thread):
    future = Future()
    future.cancel()

    async def wait():
        try:
            await Arrivals(loop_thread.loop).of(future)
        except asyncio.CancelledError:
            return "cancelled"

    assert loop_thread.run(wait()) == "cancelled"


def test_answers_that_come_together_wake_the_loop_once(loop_thread):
    """Each wake-up is a write to a pipe and a turn of the loop; a batch of 32 answers should cost one."""
    wakes = []

    class Counting:
        def create_future(self):
            return loop_thread.loop.create_future()

        def call_soon_threadsafe(self, callback):
            wakes.append(callback)

    futures = [Future() for _ in range(32)]
    arrivals = Arrivals(Counting())

    async def scenario():
        waiters = [asyncio.ensure_future(arrivals.of(future)) for future in futures]
        await asyncio.sleep(0)
        for future in futures:
            future.set_result(1)
        assert len(wakes) == 1
        wakes.pop()()
        return sum(await asyncio.gather(*waiters))

    assert loop_thread.run(scenario()) == 32


def test_each_waiter_has_its_full_time_and_no_more(loop_thread):
    """One timer serves all: it must ring for the later ones, too, and never for those that have their answer."""

    async def play():
        loop = asyncio.get_running_loop()
        arrivals, timeout = Arrivals(loop), Timeout(loop, 0.2)
        answered, first, second = Future(), Future(), Future()
        waiting = [asyncio.ensure_future(arrivals.of(future, timeout)) for future in (answered, first)]
        await asyncio.sleep(0)
        answered.set_result("answer")
        await asyncio.sleep(0.1)
        began = loop.time()
        waiting.append(asyncio.ensure_future(arrivals.of(second, timeout)))
        results = await asyncio.gather(*waiting, return_exceptions=True)
        return results, loop.time() - began, timeout._due_at

    (answer, first, second), seconds, left = loop_thread.run(play())
    assert answer == "answer"
    assert isinstance(first, TimeoutError)
    assert isinstance(second, TimeoutError)
    assert seconds > 0.1999
    assert not left


def test_without_a_limit_no_timer_is_set(loop_thread):
    timeout = Timeout(loop_thread.loop, float("inf"))
    done = Future()

    async def play():
        waiting = asyncio.ensure_future(Arrivals(loop_thread.loop).of(done, timeout))
        await asyncio.sleep(0)
        done.set_result(1)
        return await waiting

    assert loop_thread.run(play()) == 1
    assert timeout._timer is None


@pytest.mark.parametrize("is_begun", [False, True])
def test_who_stops_waiting_for_what_is_begun_elsewhere_cancels_what_comes_of_it(loop_thread, is_begun):
    """The thread may be anywhere in between: nothing that it begins may run for nobody."""
    may_begin, has_begun, begun = threading.Event(), threading.Event(), Future()

    def begin():
        has_begun.set()
        assert may_begin.wait(WAIT_S)
        return begun

    async def scenario(arrivals, threads):
        waiting = asyncio.ensure_future(arrivals.begun_on(threads, begin))
        await asyncio.to_thread(has_begun.wait, WAIT_S)
        if is_begun:
            may_begin.set()
            await asyncio.to_thread(threads.shutdown)
            await asyncio.sleep(0)
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting
        may_begin.set()
        await asyncio.to_thread(threads.shutdown)
        return waiting.cancelled()

    assert loop_thread.run(scenario(Arrivals(loop_thread.loop), ThreadPoolExecutor(1)))
    assert begun.cancelled()


def test_what_is_begun_elsewhere_arrives(loop_thread):
    begun = Future()
    begun.set_result(3)
    with ThreadPoolExecutor(1) as threads:
        assert loop_thread.run(Arrivals(loop_thread.loop).begun_on(threads, lambda: begun)) == 3

        def refuse():
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            loop_thread.run(Arrivals(loop_thread.loop).begun_on(threads, refuse))


def test_soon_is_when_the_loop_has_read_what_came(loop_thread):
    """What is asked for in one turn is done in the next, after what that turn has found to read."""
    order = []

    async def ask():
        soon = soon_on(loop_thread.loop)
        assert soon(lambda: order.append("soon"))
        order.append("asked")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        with ThreadPoolExecutor(1) as pool:
            assert not pool.submit(soon, lambda: order.append("from another thread")).result()
        await asyncio.sleep(0)

    loop_thread.run(ask())
    assert order == ["asked", "soon"]


def test_an_error_that_is_called_as_ours_is_not_taken_for_it(loop_thread):
    """A model may raise TimeoutError, too: its time is not over."""
    failed = Future()

    async def play():
        loop = asyncio.get_running_loop()
        waiting = asyncio.ensure_future(Arrivals(loop).of(failed, Timeout(loop, 3600.0), lambda _: ValueError("late")))
        await asyncio.sleep(0)
        failed.set_exception(TimeoutError("the model's own"))
        return await waiting

    with pytest.raises(TimeoutError, match="the model's own"):
        loop_thread.run(play())
