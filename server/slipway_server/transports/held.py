"""The account of what clients hold in memory: one for REST and gRPC together."""

from slipway_server import memory
from slipway_wire.status import ResourceExhausted


def default_limit_bytes() -> int:
    """Return a quarter of the memory that the machine, or the container, has."""
    return memory.limit_bytes() // 4


class Held:
    """
    Bytes of requests that are not answered yet, and of answers that are not taken yet.

    Compressed requests count as sent and, beside it, as what they become. Belongs to the thread of the transports' loop:
    whoever brings bytes adds them to `now`, and takes them off again.
    """

    __slots__ = ("limit", "now")

    def __init__(self, limit: int) -> None:
        """Begin with nothing; *limit* in bytes."""
        self.limit = limit
        self.now = 0

    @property
    def is_full(self) -> bool:
        """Whether there is more than there may be."""
        return self.now > self.limit

    @property
    def free(self) -> int:
        """How much more there may be; less than 0 if it is too much already."""
        return self.limit - self.now

    def refusal(self) -> ResourceExhausted:
        """Say so to whoever brings more."""
        return ResourceExhausted(
            f"the server holds {self.now} bytes of calls that have not ended, {self.limit} are allowed; try again later"
        )
