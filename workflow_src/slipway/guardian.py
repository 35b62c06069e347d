"""
Run a command once whoever holds our standard input is gone, however it went.

A container outlives the `kill -9` of the process that asked for it: its parent is the engine, not us. So
beside every container stands one of these, in a session of its own, with a pipe whose other end only the
owner holds. The kernel closes that end when the owner dies. Run as a script; the standard library alone,
so that it starts in milliseconds.
"""

import subprocess
import sys


def main() -> None:
    """Wait for the end of standard input, then run the arguments as a command."""
    while sys.stdin.buffer.read(4096):
        pass
    subprocess.run(
        sys.argv[1:], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
    )


if __name__ == "__main__":
    main()
