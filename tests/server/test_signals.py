import asyncio
import os
import signal

import pytest

from slipway_server.signals import EndSignals


def play(coroutine):
    """Run on a loop of its own, whose signal handlers end with it."""
    return asyncio.run(coroutine)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_waiting(number):
    async def scenario():
        signals = EndSignals()
        os.kill(os.getpid(), number)
        async with asyncio.timeout(90):
            await signals.wait()

    play(scenario())


def test_a_task_that_ends_first_is_told_apart_from_a_signal():
    async def scenario():
        signals = EndSignals()
        assert not await signals.came_before(asyncio.ensure_future(asyncio.sleep(0)))
        never = asyncio.ensure_future(asyncio.Event().wait())
        os.kill(os.getpid(), signal.SIGTERM)
        assert await signals.came_before(never)
        never.cancel()

    play(scenario())


def test_what_the_task_raises_is_raised():
    async def fails():
        raise ValueError("did not load")

    async def scenario():
        await EndSignals().came_before(asyncio.ensure_future(fails()))

    with pytest.raises(ValueError, match="did not load"):
        play(scenario())
