import json
import logging
import re
import sys

import pytest

from slipway_server.logs import CountingHandler, GlogFormatter, JsonFormatter, set_up


def record(message, *arguments, level=logging.INFO, fields=None, error=None):
    exc_info = (type(error), error, error.__traceback__) if error else None
    made = logging.getLogger("slipway_server.app").makeRecord(
        "slipway_server.app", level, "app.py", 12, message, arguments, exc_info
    )
    if fields:
        made.fields = fields
    return made


def test_glog_lines_are_as_tf_serving_writes_them():
    line = GlogFormatter().format(record("Exporting HTTP/REST API at:localhost:%d ...", 8501))

    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}: I slipway_server\.app:12\] Exporting HTTP/REST API at:localhost:8501 \.\.\.",
        line,
    )


def test_a_json_line_is_one_object_with_what_it_is_about():
    line = JsonFormatter().format(
        record("servable {name: %s version: %d} is %s", "half", 3, "AVAILABLE", fields={"request_id": "a\nb"})
    )
    found = json.loads(line)

    assert "\n" not in line
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", found.pop("time"))
    assert found == {
        "level": "INFO",
        "logger": "slipway_server.app",
        "message": "servable {name: half version: 3} is AVAILABLE",
        "model": "half",
        "version": 3,
        "request_id": "a\nb",
    }


def test_a_traceback_is_part_of_its_object():
    try:
        _ = {}["secret"]
    except KeyError as error:
        line = JsonFormatter().format(record("internal error", level=logging.ERROR, error=error))

    assert "\n" not in line
    assert "KeyError: 'secret'" in json.loads(line)["exception"]


@pytest.fixture
def root():
    logger = logging.getLogger()
    before = logger.handlers[:], logger.level
    yield logger
    logger.handlers[:], logger.level = before


@pytest.mark.parametrize(("log_format", "formatter"), [("json", JsonFormatter), ("glog", GlogFormatter)])
def test_the_flag_chooses(root, log_format, formatter):
    set_up(log_format)

    (handler,) = root.handlers
    assert isinstance(handler.formatter, formatter)
    assert handler.stream is sys.stderr


def test_lines_are_counted_by_level(root):
    levels = []
    handler = CountingHandler(levels.append)
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    logging.getLogger("a.b").warning("one")
    logging.getLogger("a.b").error("two")
    logging.getLogger("a.b").debug("three")

    assert levels == ["WARNING", "ERROR"]
