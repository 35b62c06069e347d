import os
import signal
import subprocess
import sys

import pytest

from slipway import cli, compare, report
from slipway.compare.verdict import EXIT_CODES
from slipway.errors import ContractViolation


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "slipway", *arguments], capture_output=True, text=True, check=False)


def test_help_lists_every_command():
    done = run("--help")

    assert done.returncode == 0
    assert all(name in done.stdout for name in cli.STAGES | cli.TOOLS)


def test_a_command_that_needs_no_tensorflow_does_not_load_it():
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from slipway import cli; cli.build_parser('report'); print('tensorflow' in sys.modules)",
        ],
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout == "False\n"


def test_a_users_mistake_is_lines_without_a_traceback_and_an_exit_code_of_its_own(monkeypatch, capsys):
    def fail(_arguments):
        raise ContractViolation("logits: expected float32, found float64\nlabel: missing\n    the last line of a log")

    monkeypatch.setattr(report, "run", fail)
    monkeypatch.setattr(cli.procs, "exit_on_signals", lambda: None)
    monkeypatch.setattr(cli.procs, "die_with_snakemake", lambda: None)
    code = cli.main(["report", "--from", "x", "--out", "y"])

    assert code == 3
    assert capsys.readouterr().err == (
        "slipway report: error: logits: expected float32, found float64\nslipway report: error: label: missing\n"
        "    the last line of a log\n"
    )


def test_a_bug_keeps_its_traceback_and_never_reads_like_something_that_got_worse(monkeypatch, capsys):
    """`slipway compare` exits with 1 where head is worse: nothing else may."""
    monkeypatch.setattr(cli.procs, "exit_on_signals", lambda: None)
    monkeypatch.setattr(compare, "read_sides", lambda _: {}["grcp"])

    assert cli.main(["compare", "--base", "x"]) == EXIT_CODES["invalid"] == 2
    told = capsys.readouterr().err.splitlines()
    assert told[0] == "Traceback (most recent call last):"
    assert told[-2:] == [
        "KeyError: 'grcp'",
        "slipway compare: error: what is traced above is a fault of Slipway itself; nothing was made.",
    ]


def test_an_option_that_cannot_be_is_told_before_anything_is_built(capsys):
    assert cli.main(["compare", "--base", "no-such-place", "--protocols", "rest,grcp", "--rows", "0"]) == 2

    assert capsys.readouterr().err == (
        "slipway compare: error: --protocols: expected rest, grpc, or both with a comma between, found 'rest,grcp'\n"
        "slipway compare: error: --rows: expected a whole number from 1 on, found 0\n"
    )


def test_a_reader_that_left_is_no_finding_either():
    script = (
        "import types\n"
        "from slipway import cli\n"
        "tool = types.SimpleNamespace(add_arguments=lambda _: None, run=print)\n"
        "cli.importlib.import_module = lambda _: tool\n"
        "raise SystemExit(cli.main(['doctor']))\n"
    )
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-c", script], stdout=writing, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writing)

    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_shell_completion_knows_the_commands(shell):
    done = run("completion", shell)

    assert done.returncode == 0
    assert "benchmark" in done.stdout
