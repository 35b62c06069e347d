"""The form of log lines: glog's, as TF Serving writes them, or JSON, one object a line."""

import datetime as dt
import json
import logging
import re
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any

# How the manager names a version in a line; source of the form: ServableId::DebugString of TF Serving.
_SERVABLE = re.compile(r"\{name: (?P<model>\S+) version: (?P<version>\d+)\}")


class GlogFormatter(logging.Formatter):
    """`2026-05-01 12:00:00.123: I slipway_server.app:120] message`."""

    def __init__(self) -> None:
        super().__init__(
            "%(asctime)s.%(msecs)03d: %(levelname).1s %(name)s:%(lineno)d] %(message)s", datefmt="%Y-%m-%d %H:%M:%S"
        )


class JsonFormatter(logging.Formatter):
    """
    One JSON object a line: time, level, logger, message; model, version and whatever else a line is about.

    A line says what it is about through `extra={"fields": {...}}`; a version named as glog lines do is found, too.
    """

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter.format`."""
        message = record.getMessage()
        when = dt.datetime.fromtimestamp(record.created, dt.UTC)
        line: dict[str, Any] = {
            "time": when.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": message,
        }
        if servable := _SERVABLE.search(message):
            line |= {"model": servable["model"], "version": int(servable["version"])}
        fields: Mapping[str, Any] = getattr(record, "fields", {})
        line |= fields
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = "".join(traceback.format_exception(*record.exc_info))
        return json.dumps(line, ensure_ascii=False, default=str)


class CountingHandler(logging.Handler):
    """Tells *count* the level's name of every line."""

    def __init__(self, count: Callable[[str], None]) -> None:
        super().__init__(logging.INFO)
        self._count = count

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler.emit`."""
        self._count(record.levelname)


def set_up(log_format: str) -> None:
    """Send all lines of level INFO and above to stderr, in the form `glog` or `json`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else GlogFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
