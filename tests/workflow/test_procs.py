"""Real processes and real signals: what is promised is that nothing is left behind."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from slipway import procs

# A child that ends only when told so hard enough.
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); signal.pause()"
# A parent that owns a child and waits.
OWNER = """
import signal, subprocess, sys
from slipway import procs
procs.exit_on_signals()
child = procs.start_owned([sys.executable, "-c", "import signal; signal.pause()"])
print(child.pid, flush=True)
try:
    signal.pause()
finally:
    procs.stop_group(child, 5)
"""
# The signal comes while a process is being started, and before anything waits for it.
STARTING = """
import contextlib, os, sys
import psutil
from slipway import guardian, procs
procs.exit_on_signals()
stop = lambda: os.kill(os.getpid(), int(sys.argv[1]))
if sys.argv[2] == "fork":
    os.register_at_fork(after_in_parent=stop)
else:
    @contextlib.contextmanager
    def guarded(*_, **__):
        stop()
        yield
    guardian.guarded = guarded
try:
    procs.run_owned([sys.executable, "-c", "import signal; signal.pause()"])
finally:
    print(len(psutil.Process().children()))
"""
# The signal comes in the middle of the fork: its handler runs in a hook there, out of which nothing can be raised.
FORKED_ON = """
import os, sys
from slipway import procs
procs.exit_on_signals()
os.register_at_fork(after_in_parent=lambda: os.kill(os.getpid(), int(sys.argv[1])))
procs.start_owned([sys.executable, "-c", "import signal; signal.pause()"]).wait()
"""
# A shell between Snakemake and the process that watches, as Snakemake starts its jobs; run as a script named snakemake.
SNAKEMAKE = """
import subprocess, sys
process = subprocess.Popen(["bash", "-c", f"{sys.executable} -c '{sys.argv[1]}'; true"])
process.wait()
"""
# The login shell: starts Snakemake, and is gone before it.
LOGIN_SHELL = '"$0" "$@" & wait'
WATCHER = "import os, signal; from slipway import procs; procs.die_with_snakemake(0.05); print(os.getpid(), flush=True); signal.pause()"


def wait_until(condition, timeout_s: float = 60) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.01)
    return False


def gone(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_child_goes_with_its_owner_however_that_ends(number):
    owner = subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True)
    child = int(owner.stdout.readline())

    owner.send_signal(number)
    owner.wait(60)
    owner.stdout.close()

    assert wait_until(lambda: gone(child))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_the_middle_of_a_fork_is_not_lost(number):
    owner = subprocess.Popen([sys.executable, "-c", FORKED_ON, str(number.value)], stderr=subprocess.PIPE, text=True)

    assert owner.communicate(timeout=60)[1] == ""
    assert owner.returncode == 128 + number


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("moment", ["fork", "guardian"])
def test_a_process_that_is_being_started_is_ended_by_a_stop(number, moment):
    """It would go on until we are gone, and write into what we are removing."""
    words = [sys.executable, "-c", STARTING, str(number.value), moment]
    owner = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)

    assert (owner.returncode, owner.stdout, owner.stderr) == (128 + number, "0\n", "")


def test_a_process_that_ignores_sigterm_is_killed_after_the_grace():
    process = subprocess.Popen(
        [sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout.readline() == "up\n"

    assert procs.stop_group(process, grace_s=0.1) == -signal.SIGKILL
    process.stdout.close()


@pytest.fixture
def below_snakemake(tmp_path):
    """Start a watching process below a script named snakemake; give a login shell, Snakemake and the watcher."""
    (tmp_path / "snakemake").write_text(SNAKEMAKE)
    argv = ["bash", "-c", LOGIN_SHELL, sys.executable, tmp_path / "snakemake", WATCHER]
    shell = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, start_new_session=True)
    watcher = psutil.Process(int(shell.stdout.readline()))
    snakemake = next(process for process in watcher.parents() if process.ppid() == shell.pid)
    yield shell, snakemake, watcher
    with contextlib.suppress(ProcessLookupError):
        os.killpg(shell.pid, signal.SIGKILL)
    shell.wait()
    shell.stdout.close()


def test_a_job_ends_when_the_snakemake_above_it_is_killed_hard(below_snakemake):
    _, snakemake, watcher = below_snakemake

    snakemake.kill()

    assert wait_until(lambda: gone(watcher.pid))


def test_a_run_outlives_the_shell_that_it_was_started_from(below_snakemake):
    """`nohup snakemake &` and logging out must not end the jobs of an overnight run."""
    shell, snakemake, watcher = below_snakemake
    shell.kill()
    shell.wait()
    assert wait_until(lambda: snakemake.ppid() != shell.pid)

    # Twenty polls of the watcher.
    with pytest.raises(psutil.TimeoutExpired):
        watcher.wait(1)


def test_signals_wait_while_something_is_being_torn_down():
    with procs.signals_ignored():
        os.kill(os.getpid(), signal.SIGTERM)

    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


# Runs a tool that has a child of its own, which shrugs off SIGTERM.
TOOL_OWNER = """
import sys
from slipway import procs
procs.exit_on_signals()
tool = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1], sys.argv[2]])"
child = "import os, signal, sys; signal.signal(15, signal.SIG_IGN); open(sys.argv[1], 'w').write(str(os.getpid())); signal.pause()"
procs.run_owned([sys.executable, "-c", tool, child, sys.argv[1]])
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_tools_own_children_go_with_us_too(tmp_path, number):
    os.mkfifo(tmp_path / "pid")
    owner = subprocess.Popen([sys.executable, "-c", TOOL_OWNER, tmp_path / "pid"])
    grandchild = int((tmp_path / "pid").read_text())

    owner.send_signal(number)
    owner.wait(60)

    assert wait_until(lambda: gone(grandchild))


def test_a_tool_is_told_by_its_status_and_all_its_words():
    script = "import sys; print('out'); sys.stdout.flush(); sys.stderr.write('err\\n'); sys.exit(3)"

    assert procs.run_owned([sys.executable, "-c", script]) == (3, "out\nerr\n")


class TestRelaying:
    """What a child writes is passed on while it runs."""

    def relay(self, code, sink):
        return procs.relay_owned([sys.executable, "-c", code], sink)

    def test_both_streams_come_in_order_with_the_status_and_the_last_lines(self, tmp_path):
        code = "import sys; print('one', flush=True); print('two', file=sys.stderr, flush=True); sys.exit(3)"
        with (tmp_path / "log").open("wb") as sink:
            assert self.relay(code, sink) == (3, ["one", "two"])

        assert (tmp_path / "log").read_text() == "one\ntwo\n"

    def test_a_flood_is_passed_on_whole_and_not_kept(self, tmp_path):
        with (tmp_path / "log").open("wb") as sink:
            status, tail = self.relay("print('x' * 1_000_000); [print(n) for n in range(1000)]", sink)

        assert status == 0
        assert tail == [str(number) for number in range(950, 1000)]
        assert len((tmp_path / "log").read_bytes()) == 1_000_001 + 3890

    def test_a_grandchild_that_holds_the_stream_is_ended_and_not_waited_for(self, tmp_path):
        code = "import subprocess; p = subprocess.Popen(['sleep', '600']); print(p.pid, flush=True)"
        with (tmp_path / "log").open("wb") as sink:
            status, (pid,) = self.relay(code, sink)

        assert status == 0
        assert wait_until(lambda: gone(int(pid)))


FORKING_BESIDE_CALLS = """
import threading
from concurrent import futures
from slipway import procs
import grpc

server = grpc.server(futures.ThreadPoolExecutor(1))
port = server.add_insecure_port("127.0.0.1:0")
server.start()
channel = grpc.insecure_channel(f"127.0.0.1:{port}")
done = threading.Event()

def call():
    while not done.is_set():
        try:
            channel.unary_unary("/a/b")(b"")
        except grpc.RpcError:
            pass

threads = [threading.Thread(target=call) for _ in range(3)]
for thread in threads:
    thread.start()
print({procs.start_owned(["true"]).wait() for _ in range(40)})
done.set()
for thread in threads:
    thread.join()
server.stop(None)
"""


def test_a_program_is_started_while_calls_of_grpc_are_under_way():
    """Its handlers at a fork ended one child in a hundred."""
    ended = subprocess.run(
        [sys.executable, "-c", FORKING_BESIDE_CALLS], capture_output=True, text=True, check=True, timeout=60
    )

    assert ended.stdout.split() == ["{0}"]
    # What it says when its handlers run.
    assert "fork" not in ended.stderr
