"""SIGTERM and SIGINT, once and twice."""

import asyncio
import logging
import os
import signal

logger = logging.getLogger(__name__)


class EndSignals:
    """The first SIGTERM or SIGINT asks for a good end, the second ends the process at once."""

    def __init__(self) -> None:
        self._came = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._arrive, number)

    def _arrive(self, number: signal.Signals) -> None:
        if self._came.is_set():
            logger.warning("%s again: ending at once", number.name)
            # As PID 1 of a container the default action of a signal would do nothing.
            os._exit(128 + number)
        logger.info("%s: shutting down", number.name)
        self._came.set()

    async def wait(self) -> None:
        """Wait for the first signal."""
        await self._came.wait()

    async def came_before(self, task: "asyncio.Future[None]") -> bool:
        """Wait for *task* and raise what it raised; True if a signal came first."""
        waiting = asyncio.ensure_future(self.wait())
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if task.done():
            task.result()
        return not task.done()
