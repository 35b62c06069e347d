import subprocess
import sys

import pytest

from slipway import cli, report
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


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_shell_completion_knows_the_commands(shell):
    done = run("completion", shell)

    assert done.returncode == 0
    assert "benchmark" in done.stdout
