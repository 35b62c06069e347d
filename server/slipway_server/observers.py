"""Whoever looks on while requests are answered, put together from the flags; where nobody does, nothing is in the way."""

import logging

from slipway_server.access_log import AccessLog
from slipway_server.callers import Callers
from slipway_server.logs import CountingHandler
from slipway_server.metrics import Metrics
from slipway_server.serving import Serving
from slipway_server.settings import Settings


class Observers:
    """All of them, for one server."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        """Start what the flags ask for."""
        self._settings = settings
        self._counting = CountingHandler(lambda level: metrics.log_messages.of(level).add())
        logging.getLogger().addHandler(self._counting)
        self._access_log: AccessLog | None = None
        if settings.access_log != "off":
            self._access_log = AccessLog(
                settings.access_log, settings.access_log_sample_rate, metrics.dropped.of("access_log").add
            )

    def callers(self) -> Callers:
        """Make what finds out who sent a request."""
        return Callers(makes_ids=self._settings.make_request_ids or self._settings.access_log != "off")

    def watch(self, serving: Serving) -> None:
        """Begin to look on."""
        serving.observers = tuple(observer for observer in (self._access_log,) if observer is not None)

    def stop(self, timeout_s: float) -> None:
        """Write what has been seen."""
        if self._access_log is not None:
            self._access_log.stop(timeout_s)
        logging.getLogger().removeHandler(self._counting)
