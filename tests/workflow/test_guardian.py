import os
import subprocess
import sys

import pytest

from slipway import guardian


def test_the_command_runs_when_the_owner_is_gone_and_not_before(tmp_path):
    """The kernel closes a killed owner's end of the pipe; here the test does."""
    fifo = tmp_path / "ran"
    os.mkfifo(fifo)
    reading, writing = os.pipe()
    command = [sys.executable, "-c", f"open({str(fifo)!r}, 'w').write('ran')"]
    process = subprocess.Popen([sys.executable, "-I", "-S", guardian.__file__, *command], stdin=reading)
    os.close(reading)
    os.write(writing, b"still here")

    watched = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert process.poll() is None
        os.close(writing)
        os.set_blocking(watched, True)
        assert process.wait(60) == 0
        assert os.read(watched, 10) == b"ran"
    finally:
        os.close(watched)


@pytest.mark.parametrize("at_exit", [True, False])
def test_at_the_end_of_the_block_it_runs_only_if_asked_to(tmp_path, at_exit):
    ran = tmp_path / "ran"
    with guardian.guarded([sys.executable, "-S", "-c", f"open({str(ran)!r}, 'w')"], at_exit=at_exit):
        assert not ran.exists()

    assert ran.exists() == at_exit
