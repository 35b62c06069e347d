import ctypes
import faulthandler
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from slipway import errors, files, isolation
from slipway.errors import BuildError, SettingsError, SlipwayError, SourceError


def half_made(directory):
    """A stage in the middle of its output."""
    faulthandler.disable()  # pytest's, which would write about crashes that are meant
    files.partial_path(directory / "out").mkdir()
    Path(os.environ["TMPDIR"], "left").touch()


def crash(directory):
    half_made(directory)
    ctypes.string_at(0)


def abort(directory):
    half_made(directory)
    os.abort()


def run_out_of_memory(directory):
    half_made(directory)
    os.kill(os.getpid(), signal.SIGKILL)


def never_end(directory):
    half_made(directory)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.pause()


def leave(directory):
    half_made(directory)
    sys.exit(0)


def be_stopped(directory):
    half_made(directory)
    os.kill(os.getpid(), signal.SIGTERM)


ENDS = {
    crash: "mine 1: reading the source crashed TensorFlow (SIGSEGV): the file is damaged",
    abort: "mine 1: reading the source crashed TensorFlow (SIGABRT): the file is damaged",
    run_out_of_memory: "mine 1: reading the source was killed (SIGKILL), as the system does when memory runs out.",
    never_end: "mine 1: reading the source took more than 0.5 s and was stopped: a graph that never ends?",
    leave: "mine 1: the process that read the source left with exit code 0 before it was done.",
    be_stopped: "mine 1: reading the source was stopped by SIGTERM; nothing half-made is kept.",
}


@pytest.mark.parametrize(("end", "expected"), ENDS.items(), ids=[end.__name__ for end in ENDS])
def test_however_it_ends_it_is_one_line_and_nothing_is_left(end, expected, tmp_path):
    with pytest.raises(SourceError) as caught:
        isolation.run(lambda: end(tmp_path), "mine 1", [tmp_path / "out"], 0.5 if end is never_end else 60)

    assert str(caught.value).startswith(expected)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_what_is_done_is_there(tmp_path):
    isolation.run(lambda: (tmp_path / "out").write_text(os.environ["TMPDIR"]), "mine 1", [tmp_path / "out"], 60)

    scratch = Path((tmp_path / "out").read_text())
    assert scratch.parent == tmp_path
    assert os.environ.get("TMPDIR") != str(scratch)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


class Particular(BuildError):
    """An error that is not among the common ones."""


@pytest.mark.parametrize("error", [SourceError, SettingsError, Particular])
def test_an_error_comes_through_as_it_was(error, tmp_path):
    def fail():
        raise error("one line\nanother")

    with pytest.raises(SlipwayError, match=r"one line\nanother") as caught:
        isolation.run(fail, "mine 1", [tmp_path / "out"], 60)

    assert isinstance(caught.value, error if hasattr(errors, error.__name__) else BuildError)


def test_a_very_long_error_does_not_block(tmp_path):
    def fail():
        raise SourceError("é" * 1_000_000)

    with pytest.raises(SourceError, match=r"^é{5000}$"):
        isolation.run(fail, "mine 1", [tmp_path / "out"], 60)


def test_a_bug_keeps_its_traceback(tmp_path, capfd):
    with pytest.raises(SystemExit) as caught:
        isolation.run(lambda: 1 / 0, "mine 1", [tmp_path / "out"], 60)

    assert caught.value.code == 1
    assert "ZeroDivisionError: division by zero" in capfd.readouterr().err


PARENT = """
import subprocess, sys, time
from pathlib import Path
from slipway import isolation, procs
here = Path(sys.argv[1])
def work():
    child = subprocess.Popen(["sleep", "300"])
    (here / "started").write_text(str(child.pid))
    time.sleep(300)
procs.exit_on_signals()
isolation.run(work, "mine 1", [here / "out"], 300)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_no_process_of_it_outlives_the_stage(number, tmp_path):
    stage = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)], stderr=subprocess.DEVNULL)
    until = time.monotonic() + 200
    while not (tmp_path / "started").exists() or not (tmp_path / "started").read_text():
        assert time.monotonic() < until
        time.sleep(0.01)

    stage.send_signal(number)

    assert stage.wait(200) == 128 + number
    started = int((tmp_path / "started").read_text())
    # Dead, though whoever inherits it may not have looked yet.
    assert not psutil.pid_exists(started) or psutil.Process(started).status() == psutil.STATUS_ZOMBIE
    assert [path.name for path in tmp_path.iterdir()] == ["started"]


def test_memory_that_the_machine_does_not_have_is_refused_and_nothing_is_dumped(tmp_path):
    def grow():
        import resource

        assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)
        most = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        with pytest.raises(MemoryError):
            # In parts, each of which the system would give.
            _ = [_untouched(most // 8) for _ in range(9)]

    isolation.run(grow, "mine 1", [tmp_path / "out"], 60)


def _untouched(size):
    import numpy as np

    return np.empty(size, np.uint8)


@pytest.mark.parametrize(("given", "expected"), [({}, 3600), ({isolation.TIMEOUT: "7.5"}, 7.5)])
def test_the_time_it_may_take_is_the_users_choice(given, expected):
    assert isolation.timeout_s(given) == expected


@pytest.mark.parametrize("given", ["0", "-1", "inf", "nan", "soon"])
def test_a_time_that_is_none_is_refused(given):
    with pytest.raises(SettingsError, match="SLIPWAY_SOURCE_TIMEOUT_S: should be a number of seconds above 0"):
        isolation.timeout_s({isolation.TIMEOUT: given})
