import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from slipway import servers
from slipway.errors import ServerError
from slipway.servers import ServerSpec, exit_code, free_ports, log_tail, running_server, version_states
from slipway.settings import LaunchSettings

MISBEHAVING = Path(__file__).with_name("misbehaving_server.py")


def eventually(condition, limit_s=60.0):
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.01)


@pytest.fixture
def spec(tmp_path):
    (tmp_path / "m/1").mkdir(parents=True)
    settings = LaunchSettings(ready_timeout_s=60, stop_timeout_s=30)
    return ServerSpec("m", None, None, tmp_path / "m", settings)


@pytest.fixture
def misbehave(monkeypatch):
    """Let a plain local process be the misbehaving server instead of ours."""

    def choose(mischief):
        def argv(_spec, flags, _cleanup):
            return [sys.executable, "-I", "-S", str(MISBEHAVING), mischief, *flags]

        monkeypatch.setattr(servers, "_process_argv", argv)

    return choose


def test_it_is_yielded_ready_and_stopped_with_sigterm(spec, misbehave, tmp_path):
    misbehave("none")
    with running_server(spec, log=tmp_path / "log") as server:
        (pid,) = server.pids()
        assert server.versions == {1: "AVAILABLE"}
        assert 0 < server.ready_s < time.perf_counter() - server.started
        assert not server.engine.isolated
        socket.create_connection((server.host, server.grpc_port)).close()
        server.check_alive()
        code, seconds = server.stop()

    assert (code, server.stop()) == (0, (code, seconds))
    assert server.pids() == []
    assert not psutil.pid_exists(pid)
    assert (tmp_path / "log").read_text() == "first line\n"


def test_one_that_dies_early_is_told_with_its_last_words(spec, misbehave, tmp_path):
    misbehave("dies_early")
    with pytest.raises(ServerError, match=r"exit code 255(.|\n)*no luck"), running_server(spec, log=tmp_path / "log"):
        pass


def test_one_that_dies_later_is_noticed(spec, misbehave, tmp_path):
    misbehave("none")
    with running_server(spec, log=tmp_path / "log") as server:
        os.kill(server.pids()[0], signal.SIGKILL)
        eventually(lambda: server.pids() == [])
        with pytest.raises(ServerError, match=r"died with exit code 137(.|\n)*first line"):
            server.check_alive()


def test_one_that_never_gets_ready_is_ended(spec, misbehave, tmp_path):
    misbehave("never_ready")
    hurried = ServerSpec("m", None, None, spec.servable_root, LaunchSettings(ready_timeout_s=3))
    with (
        pytest.raises(ServerError, match=r"not ready within 3 s \(launch\.ready_timeout_s\); last seen: 1: LOADING"),
        running_server(hurried, log=tmp_path / "log"),
    ):
        pass

    running = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
    assert [child for child in running if MISBEHAVING.name in " ".join(child.cmdline())] == []


def test_a_version_that_cannot_be_loaded_is_told_at_once(spec, misbehave, tmp_path):
    misbehave("bad_model")
    with (
        pytest.raises(ServerError, match=r"m version 1 did not load: END \(no saved_model\.pb\)"),
        running_server(spec, log=tmp_path / "log"),
    ):
        pass


def test_one_that_ignores_sigterm_is_killed_after_its_grace(spec, misbehave, tmp_path):
    misbehave("ignores_sigterm")
    impatient = ServerSpec("m", None, None, spec.servable_root, LaunchSettings(stop_timeout_s=0.3))
    with running_server(impatient, log=tmp_path / "log") as server:
        pids = server.pids()
        code, seconds = server.stop()

    assert code == 137
    assert seconds >= 0.3
    assert not any(map(psutil.pid_exists, pids))


def test_its_own_exit_code_is_told(spec, misbehave, tmp_path):
    misbehave("bad_exit")
    with running_server(spec, log=tmp_path / "log") as server:
        assert server.stop()[0] == 3


def test_a_port_in_use_is_told_by_the_server(spec, misbehave, tmp_path, monkeypatch):
    misbehave("none")
    with socket.create_server((servers.HOST, 0)) as taken:
        monkeypatch.setattr(servers, "free_ports", lambda _count: [taken.getsockname()[1], free_ports(1)[0]])
        with (
            pytest.raises(ServerError, match="Address already in use"),
            running_server(spec, log=tmp_path / "log"),
        ):
            pass


def test_a_fault_in_the_block_stops_the_server_and_is_not_hidden(spec, misbehave, tmp_path):
    misbehave("none")
    with pytest.raises(KeyError, match="mine"), running_server(spec, log=tmp_path / "log") as server:  # noqa: PT012
        (pid,) = server.pids()
        raise KeyError("mine")

    assert not psutil.pid_exists(pid)


def test_a_killed_owner_leaves_no_server_behind(spec, tmp_path):
    """`kill -9` gives the owner no chance to tidy up; the kernel does it."""
    script = f"""
        import sys, time
        from pathlib import Path
        from slipway import servers
        from slipway.settings import LaunchSettings
        servers._process_argv = lambda spec, flags, _: [sys.executable, "-I", "-S", {str(MISBEHAVING)!r}, "none", *flags]
        spec = servers.ServerSpec("m", None, None, Path({str(spec.servable_root)!r}), LaunchSettings())
        with servers.running_server(spec, log=Path({str(tmp_path / "log")!r})) as server:
            print(server.pids()[0], flush=True)
            time.sleep(60)
    """
    owner = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True)
    pid = int(owner.stdout.readline())
    owner.kill()
    owner.wait()
    owner.stdout.close()

    eventually(lambda: not psutil.pid_exists(pid))


def test_cpus_are_a_list_that_the_process_keeps(spec, tmp_path):
    argv = servers._process_argv(
        ServerSpec("m", None, None, spec.servable_root, spec.settings, cpus="0"), ("--a=1",), None
    )

    assert argv[:3] == ["taskset", "--cpu-list", "0"]
    assert argv[-1] == "--a=1"
    assert f"--model_base_path={spec.servable_root}" in argv


def test_versions_are_those_of_the_base_path(spec):
    (spec.servable_root / "12").mkdir()
    (spec.servable_root / "notes").mkdir()

    assert spec.versions() == [1, 12]


def test_nobody_answering_is_no_state_at_all():
    assert version_states(servers.HOST, free_ports(1)[0], "m") is None


def test_free_ports_differ_and_nobody_is_given_them_by_chance():
    """Between the look and the server's start, the kernel hands out others; another process here looks elsewhere."""
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = free_ports(20)

    assert len(set(ports)) == 20
    assert first < 15_000 or max(ports) < first


def test_where_no_port_can_be_bound_that_is_said(monkeypatch):
    monkeypatch.setattr(servers, "HOST", "192.0.2.1")

    with pytest.raises(ServerError, match=r"192\.0\.2\.1: no port to listen on can be bound \("):
        free_ports(2)


@pytest.mark.parametrize(("returncode", "code"), [(0, 0), (3, 3), (-9, 137), (-15, 143)])
def test_exit_codes_are_those_of_a_shell(returncode, code):
    assert exit_code(returncode) == code


def test_the_tail_of_a_log_has_no_empty_lines(tmp_path):
    (tmp_path / "log").write_text("1\n\n2\n   \n3\n")

    assert log_tail(tmp_path / "log", 2) == "2\n3"
    assert log_tail(tmp_path / "none") == "(it logged nothing)"
