"""
Run a command once whoever holds our standard input is gone, however it went.

A container outlives the `kill -9` of the process that asked for it: its parent is the engine, not us. So do the
children of a tool that we run. Beside them stands one of these, in a session of its own, with a pipe whose other
end only the owner holds; the kernel closes that end when the owner dies. Run as a script; the standard library
alone, so that it starts in milliseconds.
"""

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Sequence


@contextlib.contextmanager
def guarded(argv: Sequence[str], *, at_exit: bool) -> Iterator[None]:
    """
    Have *argv* run if this process dies within the block.

    Args:
        argv: What to run; what it says is dropped.
        at_exit: Run it when the block ends, too, and wait for it.
    """
    guard = subprocess.Popen(
        [sys.executable, "-I", "-S", __file__, *argv],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert guard.stdin is not None
    try:
        yield
    finally:
        if not at_exit:
            guard.kill()
        guard.stdin.close()
        guard.wait()


def main() -> None:
    """Wait for the end of standard input, then run the arguments as a command."""
    while sys.stdin.buffer.read(4096):
        pass
    quiet = subprocess.DEVNULL
    subprocess.run(sys.argv[1:], stdin=quiet, stdout=quiet, stderr=quiet, check=False)


if __name__ == "__main__":
    main()
