import os
import signal
import subprocess
import sys
import threading

import pytest

from slipway.locks import LockedError, claim_working_directory, waiting_lock

HOLDER = """
import sys, signal
from pathlib import Path
from slipway.locks import claim_working_directory
claim_working_directory(Path(sys.argv[1]))
print("held", flush=True)
signal.pause()
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_second_run_is_refused_in_one_line_that_names_the_first(holder, tmp_path):
    with pytest.raises(LockedError, match=rf"another run \(process {holder.pid}\).*kill {holder.pid}") as caught:
        claim_working_directory(tmp_path)

    assert "\n" not in str(caught.value)


def test_a_killed_run_leaves_no_stale_lock(holder, tmp_path):
    holder.send_signal(signal.SIGKILL)
    holder.wait()

    claim_working_directory(tmp_path)


def test_a_waiting_lock_is_held_by_one_at_a_time(tmp_path):
    told, order = [], []
    inside, waiting = threading.Event(), threading.Event()

    def second() -> None:
        inside.wait(60)
        with waiting_lock(tmp_path / "bench.lock", lambda pid: (told.append(pid), waiting.set())):
            order.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    with waiting_lock(tmp_path / "bench.lock", told.append):
        inside.set()
        assert waiting.wait(60)
        order.append("first")
    thread.join(60)

    assert order == ["first", "second"]
    assert told == [str(os.getpid())]
    # Whoever comes third reads the one who waited.
    assert (tmp_path / "bench.lock").read_text() == str(os.getpid())
