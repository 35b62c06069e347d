"""File descriptors: how many this process may have, and what part of them gRPC's connections may take."""

import contextlib
import resource

# Enough for as many connections as either protocol takes by itself, and for models and logs beside them.
_WANTED = 2**15
_MOST_CONNECTIONS = 10_000
_FEWEST_CONNECTIONS = 16


def make_room() -> None:
    """
    Raise the soft limit if the hard one allows; it is often 1024, for programs that call select(2), as nothing does here.

    Source: https://0pointer.net/blog/file-descriptor-limits.html.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _WANTED if hard == resource.RLIM_INFINITY else min(hard, _WANTED)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        # What a sandbox forbids stays as it is.
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def max_grpc_connections() -> int:
    """
    Return how many gRPC connections may be open: three eighths of the descriptors, 10,000 at most.

    REST may have half, so that whatever clients do an eighth is left: for models, logs, the admin port, scrapes.
    Containers often have 1024, and a client with a connection for each call opens hundreds after a moment of silence.
    """
    return _share(3)


def max_rest_connections() -> int:
    """Return how many REST connections may be open: half of the descriptors, 10,000 at most; see `max_grpc_connections`."""
    return _share(4)


def _share(eighths: int) -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return _MOST_CONNECTIONS
    return max(min(_MOST_CONNECTIONS, soft * eighths // 8), _FEWEST_CONNECTIONS)
