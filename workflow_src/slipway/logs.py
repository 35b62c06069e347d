"""What a user of Snakemake sees of our errors: plain lines, gathered at the end."""

import contextlib
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from slipway.errors import SlipwayError

# As the command line's error boundary writes it (cli.py).
_ERROR_LINE = re.compile(r"^slipway \S+: error: .*$", re.MULTILINE)


def errors_since(directory: Path, since: float) -> list[str]:
    """
    Collect the error lines of logs below *directory* that were written after *since*.

    Args:
        directory: Where the rules' logs are.
        since: Seconds since the epoch.

    Returns:
        `path: slipway <command>: error: …`, in the order of the logs' times.
    """
    logs = sorted((p for p in directory.rglob("*.log") if p.stat().st_mtime >= since), key=lambda p: p.stat().st_mtime)
    return [f"{line}  [{log}]" for log in logs for line in errors_in(log)]


def errors_in(log: Path) -> list[str]:
    """Collect the error lines of one *log*, each once, however often it tells them."""
    return list(dict.fromkeys(_ERROR_LINE.findall(log.read_text(encoding="utf-8", errors="replace"))))


@contextlib.contextmanager
def plainly() -> Iterator[None]:
    """End Snakemake with the error's own lines, instead of a traceback into the Snakefile."""
    try:
        yield
    except SlipwayError as error:
        raise SystemExit("\n".join(f"slipway: error: {line}" for line in str(error).splitlines())) from None


# When Snakemake read the rules: whatever is older is of another run.
BEGAN = time.time()


def print_errors(directory: Path = Path("results/logs")) -> None:
    """Repeat the errors of this run at its very end, below everything that Snakemake has to say."""
    if lines := errors_since(directory, BEGAN):
        sys.stderr.write("\nWhat went wrong:\n" + "".join(f"  {line}\n" for line in lines))
        sys.stderr.write("Mend it and run the same command again: what is finished is kept.\n")
