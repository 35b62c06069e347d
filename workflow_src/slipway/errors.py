"""What can go wrong that a user can mend; imports nothing of ours."""

import re
from itertools import pairwise

# Lines and their indents are ours; whatever else cannot be shown may be a name out of somebody's file.
_HIDDEN = re.compile(
    r"[^\S \n\t]|[\x00-\x08\x0e-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)
_ERROR_LINE = re.compile(r"[\w.]*(Error|Exception): ")


class SlipwayError(Exception):
    """
    A fault that is the user's to mend, told in one readable line (or one line per fault).

    The text says what was looked for, what was found and what to do next. The command line shows it
    without a traceback and exits with *exit_code*; anything else that escapes is a bug of ours.
    """

    exit_code = 2

    def __init__(self, text: str = "") -> None:
        super().__init__(printable(text))


class SettingsError(SlipwayError):
    """The config, a contract or a command's argument cannot be used as it stands."""


class SourceError(SlipwayError):
    """A checkpoint, an export or another input file is missing, damaged or of the wrong kind."""


class ContractViolation(SlipwayError):
    """A SavedModel, or a served answer, departs from its contract or its golden data."""

    exit_code = 3


class BuildError(SlipwayError):
    """The image cannot be put together: a tool, a package or the network is missing, or a lock is out of date."""


class EngineError(SlipwayError):
    """No container engine can run the image, or the one that could has failed."""


class ServerError(SlipwayError):
    """A server did not start, did not get ready, died, or stopped badly."""


class InvalidMeasurement(SlipwayError):
    """The measurement broke a validity rule and proves nothing."""


class StorageError(SlipwayError):
    """The disk is full, or a path cannot be written."""


def printable(text: str) -> str:
    """Write what a terminal would act on, or not show, as escapes: names in files are chosen by whoever made them."""
    return _HIDDEN.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def one_line(error: BaseException, limit: int = 300) -> str:
    """Tell an exception of somebody else's code in one line of at most *limit* characters: its kind and first words."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if lines and lines[0] == "in user code:":
        # TensorFlow's AutoGraph puts its own traceback in front; what went wrong comes after it.
        lines = [line for line in lines if _ERROR_LINE.match(line)] or lines
    elif lines and lines[0] == "Graph execution error:":
        # Where the node came from stands in front; the message is followed by the node's name.
        lines = (
            [line for line, after in pairwise(lines) if after.startswith("[[{{node")]
            or [line for line in lines[1:] if not line.startswith(("Detected at node", "File ", "Node: "))]
            or lines
        )
    text = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
