"""
The line's stages without the seconds that each takes to import TensorFlow.

A process imports it once and runs nothing; checkpoint, export and validate are forks of it, as fresh as a process that
Snakemake starts (`tests/workflow/models/test_saved_model.py` shows that both give the same bytes). Everything else of the
line is what users have: rules, scripts of training, servers.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

STAGES = ("checkpoint", "export", "validate")
# Stands for `slipway`: hands the stages above to the process that waits, and is the others.
_COMMAND = """#!{python} -ISE
import json, os, socket, sys
if sys.argv[1] not in {stages!r}:
    os.execv({python!r}, [{python!r}, {slipway!r}, *sys.argv[1:]])
there = socket.socket(socket.AF_UNIX)
there.connect({address!r})
socket.send_fds(there, [json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode() + b"\\n"], [1, 2])
sys.exit(int(there.makefile().readline() or 70))
"""


@contextlib.contextmanager
def python(directory: Path):
    """Give an interpreter whose `slipway`, beside it, runs stages as forks; *directory* is a new one."""
    own = Path(sys.executable).parent
    (directory / "bin").mkdir(parents=True)
    (directory / "lib").symlink_to(own.parent / "lib")
    (directory / "pyvenv.cfg").write_bytes((own.parent / "pyvenv.cfg").read_bytes())
    for path in own.iterdir():
        if path.name != "slipway":
            (directory / "bin" / path.name).symlink_to(path)
    address = str(directory / "stages")
    command = directory / "bin/slipway"
    slipway = str(own / "slipway")
    command.write_text(_COMMAND.format(python=sys.executable, stages=STAGES, slipway=slipway, address=address))
    command.chmod(0o755)
    waiting = subprocess.Popen(
        [sys.executable, __file__, address],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONHASHSEED": "0"},
    )
    try:
        assert waiting.stdout.readline() == b"ready\n"
        yield directory / "bin/python"
    finally:
        waiting.kill()
        waiting.wait()
        waiting.stdout.close()


def serve(address: str) -> None:
    """Fork for every caller."""
    from slipway import cli
    from slipway.models import digits, graph_sources, resigned, saved_model, session, sources  # noqa: F401 - imported once

    listening = socket.socket(socket.AF_UNIX)
    listening.bind(address)
    listening.listen()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        caller, _ = listening.accept()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if os.fork() == 0:
            listening.close()
            code = 70
            try:
                data, descriptors, _, _ = socket.recv_fds(caller, 2**20, 2)
                while not data.endswith(b"\n"):
                    data += caller.recv(2**20)
                words, directory, environment = json.loads(data)
                os.chdir(directory)
                os.environ |= environment
                for number, descriptor in enumerate(descriptors, 1):
                    os.dup2(descriptor, number)
                code = cli.main(words)
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                caller.sendall(b"%d\n" % code)
                os._exit(code)
        caller.close()


if __name__ == "__main__":
    serve(sys.argv[1])
