"""
Remove a podman container for good, and what podman's own removal leaves of one that it was killed while starting.

To `podman rm` such a container is no more than an entry: its conmon, and the `runc init` below it that waits for
the start, would stay for ever. Run as a script: the container's name, then the command that removes it.
"""

import contextlib
import subprocess
import sys
import time

import psutil

# conmon ends by itself within milliseconds of its container, after it has tidied up.
_PATIENCE_S = 2.0
_POLL_S = 0.05


def monitors(name: str) -> list[psutil.Process]:
    """List the conmon processes of container *name*."""
    found = []
    for process in psutil.process_iter(["name"]):
        with contextlib.suppress(psutil.Error):
            if process.info["name"] == "conmon" and name in process.cmdline():
                found.append(process)
    return found


def kill_monitors(name: str) -> None:
    """Kill the conmon of container *name*, and all below it, unless it ends by itself."""
    deadline = time.monotonic() + _PATIENCE_S
    while (left := monitors(name)) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    for monitor in left:
        with contextlib.suppress(psutil.Error):
            # The conmon last: it takes in what its children leave.
            for process in [*monitor.children(recursive=True), monitor]:
                process.kill()


def main() -> int:
    """Remove, look again, and end as the removal did."""
    name, *argv = sys.argv[1:]
    status = subprocess.run(argv, check=False).returncode
    kill_monitors(name)
    return status


if __name__ == "__main__":
    raise SystemExit(main())
