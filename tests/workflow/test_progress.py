import contextlib
import os
import pty
import re

import pytest

from slipway.progress import counter, steps


def take_two_steps():
    with steps(2, 10.0) as told:
        told.begin("first")
        told.note("  a remark [with] brackets")
        told.end(4.0)
        told.begin("second")
        told.end(6.0)


def test_a_log_gets_plain_lines_with_the_time_that_is_left(capsys):
    take_two_steps()

    lines = capsys.readouterr().err.splitlines()
    assert lines[:3] == [
        "[1/2] first; about 10 s left",
        "  a remark [with] brackets",
        "[2/2] second; about 6 s left",
    ]
    assert re.fullmatch(r"done in \d+ s", lines[3])


def test_steps_may_turn_out_to_be_longer_than_planned(capsys):
    with steps(2, 10.0) as told:
        told.begin("first")
        told.take_longer(20.0)
        told.end(4.0)
        told.begin("second")

    assert "[2/2] second; about 26 s left" in capsys.readouterr().err.splitlines()


def test_a_terminal_gets_a_bar(monkeypatch):
    parent, child = pty.openpty()
    with os.fdopen(child, "w") as terminal:
        monkeypatch.setattr("sys.stderr", terminal)
        monkeypatch.setenv("TERM", "xterm")
        take_two_steps()
    shown = b""
    # A terminal hands out what it has; the end of it is an error.
    with contextlib.suppress(OSError):
        while part := os.read(parent, 65536):
            shown += part
    os.close(parent)
    shown = shown.decode()

    assert "second" in shown
    assert "2/2" in shown
    assert "a remark [with] brackets" in shown


def test_an_error_passes(capsys):
    def fail():
        with steps(1, 1.0) as told:
            told.begin("only")
            raise RuntimeError("out")

    with pytest.raises(RuntimeError, match="out"):
        fail()
    assert "only" in capsys.readouterr().err


def test_a_log_gets_a_line_at_every_tenth(capsys):
    with counter("asked", 25) as advance:
        for _ in range(25):
            advance(1)

    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "asked: 3 of 25"
    assert lines[-1] == "asked: 25 of 25"
    assert len(lines) == 10
