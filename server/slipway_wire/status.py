"""Canonical status codes, the errors that carry them, and the one table to HTTP."""

from enum import IntEnum
from typing import ClassVar


class Code(IntEnum):
    """
    The canonical codes, with the numbers gRPC puts on the wire.

    Source: https://github.com/grpc/grpc/blob/master/doc/statuscodes.md.
    """

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16

    @property
    def http_status(self) -> int:
        """The HTTP status a REST answer with this code has."""
        return _HTTP_STATUS.get(self, 500)


# Source: tensorflow_serving/model_servers/http_server.cc (ToHTTPStatusCode); what is not listed is 500.
_HTTP_STATUS = {
    Code.OK: 200,
    Code.INVALID_ARGUMENT: 400,
    Code.FAILED_PRECONDITION: 400,
    Code.OUT_OF_RANGE: 400,
    Code.UNAUTHENTICATED: 401,
    Code.PERMISSION_DENIED: 403,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.ABORTED: 409,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.CANCELLED: 499,
    Code.UNIMPLEMENTED: 501,
    Code.UNAVAILABLE: 503,
    Code.DEADLINE_EXCEEDED: 504,
}


class WireError(Exception):
    """
    What a caller is told: a canonical code and a message for people. Raised through its subclasses.

    Attributes:
        message: For people.
        retry_after_s: When the same request is worth another try, in whole seconds, >= 1; None: nobody can say.
    """

    code: ClassVar[Code] = Code.UNKNOWN

    def __init__(self, message: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_s = retry_after_s


class Cancelled(WireError):
    """The caller went away."""

    code = Code.CANCELLED


class Unknown(WireError):
    """Something failed and the cause has no code of its own."""

    code = Code.UNKNOWN


class InvalidArgument(WireError):
    """The request cannot be right, whatever the state of the server."""

    code = Code.INVALID_ARGUMENT


class DeadlineExceeded(WireError):
    """The time the caller gave is over."""

    code = Code.DEADLINE_EXCEEDED


class NotFound(WireError):
    """No such model, version or record."""

    code = Code.NOT_FOUND


class AlreadyExists(WireError):
    """It is there already."""

    code = Code.ALREADY_EXISTS


class PermissionDenied(WireError):
    """The caller may not do this."""

    code = Code.PERMISSION_DENIED


class ResourceExhausted(WireError):
    """A limit on size or number has been reached."""

    code = Code.RESOURCE_EXHAUSTED


class FailedPrecondition(WireError):
    """The request is well formed but the state of the server does not allow it."""

    code = Code.FAILED_PRECONDITION


class Aborted(WireError):
    """Something else came in between."""

    code = Code.ABORTED


class OutOfRange(WireError):
    """Past the end of what there is."""

    code = Code.OUT_OF_RANGE


class Unimplemented(WireError):
    """Well formed, and nothing we do."""

    code = Code.UNIMPLEMENTED


class Internal(WireError):
    """A fault of ours."""

    code = Code.INTERNAL


class Unavailable(WireError):
    """Not now; the same request may succeed later."""

    code = Code.UNAVAILABLE


class DataLoss(WireError):
    """Bytes are missing or damaged."""

    code = Code.DATA_LOSS


class Unauthenticated(WireError):
    """The caller has not shown who it is."""

    code = Code.UNAUTHENTICATED


_BY_CODE = {error.code: error for error in WireError.__subclasses__()}


def error_of(code: Code | int, message: str) -> WireError:
    """Build the error that carries *code*; a number outside the canonical codes becomes Unknown."""
    try:
        return _BY_CODE.get(Code(code), Unknown)(message)
    except ValueError:
        return Unknown(message)
