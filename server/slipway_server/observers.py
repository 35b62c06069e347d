"""Whoever looks on while requests are answered, put together from the flags; where nobody does, nothing is in the way."""

import logging
from collections.abc import Mapping

from slipway_server.access_log import AccessLog
from slipway_server.callers import Callers
from slipway_server.config_files import RequestLogConfig
from slipway_server.logs import CountingHandler
from slipway_server.metrics import Metrics
from slipway_server.request_log import RequestLog
from slipway_server.serving import Serving
from slipway_server.settings import Settings
from slipway_server.tracing import Tracing


class Observers:
    """All of them, for one server."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        """Start what the flags ask for."""
        self._settings = settings
        self._logs_requests = False
        self._counting = CountingHandler(lambda level: metrics.log_messages.of(level).add())
        logging.getLogger().addHandler(self._counting)
        self._tracing: Tracing | None = None
        if settings.otlp_endpoint:
            self._tracing = Tracing(
                settings.otlp_endpoint, settings.trace_sample_rate, metrics.dropped.of("traces").add
            )
        self.request_log = RequestLog(metrics, settings.request_log_max_file_bytes)
        self._access_log: AccessLog | None = None
        if settings.access_log != "off":
            self._access_log = AccessLog(
                settings.access_log, settings.access_log_sample_rate, metrics.dropped.of("access_log").add
            )

    def callers(self) -> Callers:
        """Make what finds out who sent a request."""
        settings = self._settings
        wants_ids = settings.make_request_ids or settings.access_log != "off" or bool(settings.otlp_endpoint)
        return Callers(makes_ids=wants_ids)

    def watch(self, serving: Serving) -> None:
        """Begin to look on."""
        self._serving = serving
        self._choose()

    def log_requests(self, configs: Mapping[str, RequestLogConfig]) -> None:
        """Log requests of these models from now on, and of no others."""
        self.request_log.configure(configs)
        self._logs_requests = bool(configs)
        self._choose()

    def _choose(self) -> None:
        """Let only those look on that have something to do."""
        request_log = self.request_log if self._logs_requests else None
        # Tracing comes first: it gives a request its trace id, which the others write down.
        looking = (self._tracing, self._access_log, request_log)
        self._serving.observers = tuple(observer for observer in looking if observer is not None)

    def stop(self, timeout_s: float) -> None:
        """Write what has been seen."""
        if self._access_log is not None:
            self._access_log.stop(timeout_s)
        self.request_log.stop(timeout_s)
        if self._tracing is not None:
            self._tracing.stop(timeout_s)
        logging.getLogger().removeHandler(self._counting)
