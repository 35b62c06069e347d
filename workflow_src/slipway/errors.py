"""What can go wrong that a user can mend; imports nothing."""


class SlipwayError(Exception):
    """
    A fault that is the user's to mend, told in one readable line (or one line per fault).

    The text says what was looked for, what was found and what to do next. The command line shows it
    without a traceback and exits with *exit_code*; anything else that escapes is a bug of ours.
    """

    exit_code = 2


class SettingsError(SlipwayError):
    """The config, a contract or a command's argument cannot be used as it stands."""


class SourceError(SlipwayError):
    """A checkpoint, an export or another input file is missing, damaged or of the wrong kind."""


class ContractViolation(SlipwayError):
    """A SavedModel, or a served answer, departs from its contract or its golden data."""

    exit_code = 3


class EngineError(SlipwayError):
    """No container engine can run the image, or the one that could has failed."""


class ServerError(SlipwayError):
    """A server did not start, did not get ready, died, or stopped badly."""


class InvalidMeasurement(SlipwayError):
    """The measurement broke a validity rule and proves nothing."""


class StorageError(SlipwayError):
    """The disk is full, or a path cannot be written."""
