"""Which processes the tests' own has below it, for tests that leave none behind."""

import psutil


def living(word: str) -> dict[int, str]:
    """Find descendants that are alive and have *word* in their command line: pid -> that line."""
    found = {}
    for child in psutil.Process().children(recursive=True):
        try:
            line = " ".join(child.cmdline())
        except psutil.NoSuchProcess:  # it has ended since, or has ended and nobody has asked for its exit code yet
            continue
        if word in line:
            found[child.pid] = line
    return found
