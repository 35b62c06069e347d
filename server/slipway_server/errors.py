"""What the server tells when something goes wrong; errors with a canonical code come from the wire package."""

import logging
import uuid

from slipway_wire.status import Internal, InvalidArgument, WireError

logger = logging.getLogger(__name__)


class UsageError(InvalidArgument):
    """The command line cannot be read; the usage text helps."""


def told(error: BaseException, request_id: str = "") -> WireError:
    """
    Turn whatever went wrong into what a caller is told.

    An error that already carries a code is passed on. Anything else is a fault of ours: its traceback goes to the log
    under an id, and the caller gets the id only: that of the request if it has one.

    Where it came from is forgotten: a traceback holds frames, the frames hold the request and its tensors, and some hold
    the future that holds the error. Such a circle waits for the garbage collector, which counts objects, not bytes: a
    client whose large requests fail would fill the memory.
    """
    fault = error if isinstance(error, WireError) else _logged(error, request_id)
    forget(error)
    return fault


def _logged(error: BaseException, request_id: str) -> WireError:
    number = request_id or uuid.uuid4().hex[:8]
    logger.error("internal error (id %s)", number, exc_info=error, extra={"fields": {"request_id": number}})
    return Internal(f"internal error (id {number})")


def forget(error: BaseException) -> None:
    """Take its traceback and its causes from *error*, and with them the frames they hold; see `told`."""
    causes = [error]
    while causes:
        one = causes.pop()
        causes += [cause for cause in (one.__cause__, one.__context__) if cause is not None]
        one.__traceback__ = one.__cause__ = one.__context__ = None
