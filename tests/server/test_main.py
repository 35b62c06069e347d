import subprocess
import sys

import pytest

from slipway_server.__main__ import run
from slipway_wire import __version__


def test_version_takes_two_lines_and_no_tensorflow(capsys):
    assert run(["--version"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"TensorFlow ModelServer: {__version__}"
    assert second.startswith("TensorFlow Library: 2.")


def test_help_shows_the_flags_and_exits_as_tf_serving_does(capsys):
    assert run(["--help"]) == 255
    assert "--model_base_path=" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--port=eighty"], [], ["--model_name=m"]])
def test_a_command_line_that_cannot_be_used_is_answered_with_the_usage(arguments, capsys):
    assert run(arguments) == 255
    assert "usage: slipway-server" in capsys.readouterr().err


def test_a_combination_that_cannot_be_is_told_in_one_line(capsys):
    assert run(["--model_base_path=/m", "--port=0"]) == 255
    assert capsys.readouterr().out == (
        "Failed to start server. Error: INVALID_ARGUMENT: one of --port and --grpc_socket_path must be set\n"
    )


@pytest.mark.behaviour("2-names")
@pytest.mark.parametrize("command", ["slipway-server", "tensorflow_model_server"])
def test_both_commands_are_installed(command):
    path = f"{sys.prefix}/bin/{command}"

    result = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=200, check=False)

    assert result.returncode == 0
    assert result.stdout.startswith("TensorFlow ModelServer: ")
