"""A stand-in for podman's monitor: a process called conmon with a child that waits for ever, as `runc init` does."""

import contextlib
import shutil
import subprocess
import sys
import time

import psutil
import pytest

from slipway import container_removal


@pytest.fixture
def conmon(tmp_path):
    program = tmp_path / "conmon"
    shutil.copy("/bin/bash", program)
    process = subprocess.Popen(
        [program, "-c", "sleep 600 & echo started; wait", "-n", "slipway-m-1"], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"started\n"
    yield psutil.Process(process.pid)
    process.kill()
    process.wait()
    process.stdout.close()


def has_ended(process):
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.status() == psutil.STATUS_ZOMBIE
    return True


def remove(name, *command):
    return subprocess.run(
        [sys.executable, "-I", container_removal.__file__, name, *command], capture_output=True, check=False, timeout=60
    )


def test_what_a_removed_container_leaves_is_killed_with_all_below_it(conmon):
    (child,) = conmon.children()
    done = remove("slipway-m-1", "true")

    assert done.returncode == 0
    # Killed, they still need a CPU for a moment to end on.
    deadline = time.monotonic() + 60
    while not (has_ended(child) and has_ended(conmon)):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_another_containers_monitor_is_left_alone(conmon):
    remove("slipway-m-12", "true")

    assert not has_ended(conmon)


def test_it_ends_and_speaks_as_the_removal_did():
    done = remove("slipway-m-2", "sh", "-c", "echo 'no such container' >&2; exit 125")

    assert (done.returncode, done.stderr) == (125, b"no such container\n")
