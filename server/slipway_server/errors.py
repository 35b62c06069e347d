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
    """
    if isinstance(error, WireError):
        return error
    number = request_id or uuid.uuid4().hex[:8]
    logger.error("internal error (id %s)", number, exc_info=error, extra={"fields": {"request_id": number}})
    return Internal(f"internal error (id {number})")
