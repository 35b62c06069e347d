import os
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway import cpu


def test_the_meter_counts_all_threads_and_never_goes_back():
    """A thread that has ended keeps what it used."""
    meter = cpu.CpuMeter([os.getpid()])
    before = meter.read_ns()
    done, go = threading.Event(), threading.Event()

    def work():
        deadline = time.thread_time() + 0.05
        while time.thread_time() < deadline:
            pass
        done.set()
        go.wait(120)

    thread = threading.Thread(target=work)
    thread.start()
    done.wait(120)
    during = meter.read_ns()
    go.set()
    thread.join()
    after = meter.read_ns()

    assert during - before >= 45_000_000
    assert after >= during


def test_children_count_where_that_is_wanted():
    """A child's time is in no thread of its parent while it runs."""
    burn = "import time\nwhile time.process_time() < 0.1: pass\nprint(flush=True)\ninput()"
    alone, together = cpu.CpuMeter([os.getpid()]), cpu.CpuMeter([os.getpid()], with_children=True)
    with subprocess.Popen([sys.executable, "-c", burn], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        assert together.read_ns() - alone.read_ns() >= 80_000_000
        child.stdin.write(b"\n")


def test_processes_that_are_gone_used_nothing_that_is_known():
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()

    assert cpu.CpuMeter([gone.pid]).read_ns() is None
    assert cpu.resident_bytes([gone.pid]) is None
    assert cpu.threads(gone.pid) == []


def test_a_kernel_without_schedstat_is_told_as_not_measured(tmp_path):
    (tmp_path / "7/task/7").mkdir(parents=True)

    assert cpu.CpuMeter([7], tmp_path).read_ns() is None


def test_busy_time_leaves_out_idleness_and_other_cpus(tmp_path):
    ticks = os.sysconf("SC_CLK_TCK")
    one, two = (f"{n * ticks} 0 {n * ticks} 99999 777 0 {n * ticks} {n * ticks} 0 0" for n in (1, 2))
    (tmp_path / "stat").write_text(f"cpu  {two}\ncpu0 {one}\ncpu1 {one}\ncpu10 {two}\nintr 1 2 3\n")

    assert cpu.busy_s(None, tmp_path / "stat") == 8.0
    assert cpu.busy_s([1], tmp_path / "stat") == 4.0
    assert cpu.busy_s([0, 10], tmp_path / "stat") == 12.0
    assert cpu.times([1], tmp_path / "stat").stolen_s == 1.0


def test_a_clock_is_known_where_the_kernel_sets_it(tmp_path):
    """A virtual machine's /proc/cpuinfo repeats what its processor is called, whatever it does."""
    for number, khz in enumerate((2_000_000, 3_000_000)):
        directory = tmp_path / f"cpu{number}/cpufreq"
        directory.mkdir(parents=True)
        (directory / "scaling_cur_freq").write_text(f"{khz}\n")

    assert cpu.clock_mhz([0, 1], tmp_path) == 2500.0
    assert cpu.clock_mhz([0, 2], tmp_path) is None
    assert 0 < cpu.busy_s([min(os.sched_getaffinity(0))]) <= cpu.busy_s()


@pytest.mark.parametrize(
    ("count", "server", "generator"),
    [(1, "0", "0"), (2, "0", "1"), (4, "0-2", "3"), (8, "0-5", "6-7"), (32, "0-27", "28-31")],
)
def test_server_and_generator_get_cpus_of_their_own(count, server, generator):
    assert tuple(map(cpu.as_list, cpu.split(range(count)))) == (server, generator)


@given(st.sets(st.integers(0, 200)))
def test_a_list_of_cpus_is_the_kernels(cpus):
    text = cpu.as_list(cpus)

    read = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        read |= set(range(int(first), int(last or first) + 1))
    assert read == cpus


def test_every_thread_is_kept_on_its_cpus():
    child = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import threading; t = threading.Thread(target=input); t.start(); print(flush=True); t.join()",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    child.stdout.readline()
    wanted = {min(os.sched_getaffinity(0))}

    placed = cpu.keep_on([child.pid], wanted)
    found = [os.sched_getaffinity(thread) for thread in cpu.threads(child.pid)]
    child.communicate(b"\n")

    assert placed
    assert len(found) == 2
    assert all(affinity == wanted for affinity in found)


def test_cpus_that_are_not_there_cannot_be_had():
    assert not cpu.keep_on([os.getpid()], {4095})
