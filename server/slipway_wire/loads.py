"""
What the workflow orders from the load generator and what it hears back: JSON, one object a line.

`python -m slipway_loadtests` reads a `LoadOrder` per line and answers each with a `LoadWindow`, as soon as
every user is connected, and a `LoadOutcome` once the last answer is in. Requests themselves are in the
sample file that the order names. Several generators that make one load say with a `LoadWindow` when they could begin,
and begin when another one tells them to.
"""

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Literal, Self

Protocol = Literal["rest", "grpc"]
Encoding = Literal["prebuilt", "plain_prebuilt", "per_request", "naive"]
Tier = Literal["wire", "library", "native"]


class _Line:
    """A frozen dataclass that crosses as one line of JSON."""

    __slots__ = ()

    def to_line(self) -> bytes:
        """Write it as one line."""
        return json.dumps(dataclasses.asdict(self)).encode() + b"\n"  # type: ignore[call-overload]

    @classmethod
    def from_line(cls, line: bytes) -> Self:
        """Read one line, or raise ValueError if it is something else."""
        try:
            return cls(**json.loads(line))
        except TypeError as error:
            raise ValueError(f"not a {cls.__name__}: {line[:200]!r}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """
    How connections are encrypted, and who is believed.

    Attributes:
        authorities: PEM file with the certificates that the server's is checked with; None: the system's.
        certificate: PEM file with the client's own certificate, and those up to its authority's; None: none is shown.
        key: PEM file with its private key; None: it is in *certificate*.
        server_name: The name that the server's certificate must be for, and that requests are addressed to (SNI, Host,
            :authority); None: the host that is connected to.
    """

    authorities: str | None = None
    certificate: str | None = None
    key: str | None = None
    server_name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOrder(_Line):
    """
    One load on one server.

    Attributes:
        protocol: Which protocol.
        host: Where the server is.
        port: The port of that protocol.
        tier: Whose clients send it. `wire`: prepared bytes on sockets, the same engine for both protocols. `library`: what
            Locust users take, Locust's FastHttpSession (geventhttpclient) and grpcio's stub. `native`: h2load, a
            program in C that sends one payload, in a closed loop or at a rate, and sees no answer but by its size.
        users: Closed loop: connections, each with one request in flight. Open loop: connections opened
            before the load begins; more are opened when all are busy.
        rate: Open loop: offered requests per second; None: closed loop.
        warmup_s: Load in front of the window that does not count.
        window_s: Length of the measured window.
        requests: Closed loop: end after so many requests instead of after the window.
        drain_s: How long to wait for answers after the window; what is still missing is a timeout.
        seed: Of the arrivals.
        origin_ns: When to begin, in nanoseconds of CLOCK_MONOTONIC, so that several generators make one load; None:
            as soon as all users are connected.
        samples: Path of the sample file to write.
        steps: Open loop: rates that follow one another instead of *rate*, as pairs of requests per second and
            seconds. Here an arrival that would be one too many in flight is taken down as an error at once, and
            the schedule goes on.
        payloads: Path of another payload file than the one that the generator was started with.
        alternatives: Paths of payload files with the same requests and other answers that are right, too; the sample file
            then says of each request which of them came (`Samples.fits`).
        numbered: Whether the sample file says of each request which payload it sent (`Samples.payload`).
        encoding: `prebuilt`: requests are bytes before the load begins, and answers are not read while it lasts.
            `plain_prebuilt`: likewise, but made as a client makes them that does not care: JSON with the digits of doubles,
            protobuf with one field per value. `per_request`: each request is made and each answer read while the clock
            runs, as fast as we can; `naive`: likewise, as a client does it that does not care (`json.dumps` of lists; one
            field per value).
        tls: How connections are encrypted; None: they are not.
        generators: How many generators make the load together, each with such an order for its share. With more than one,
            each waits with its first request until it is sent the window that all agree on.
        first_user: Number of the first of this generator's users. A user's number chooses the payload that it begins with, and in
            an open loop, where each generator is one user (from 0 on), with *seed* the arrivals; together they are one Poisson
            process.
    """

    protocol: Protocol
    host: str
    port: int
    users: int
    warmup_s: float
    window_s: float
    samples: str
    tier: Tier = "wire"
    rate: float | None = None
    requests: int | None = None
    drain_s: float = 30.0
    seed: str = ""
    origin_ns: int | None = None
    steps: list[tuple[float, float]] = field(default_factory=list)
    payloads: str | None = None
    alternatives: list[str] = field(default_factory=list)
    numbered: bool = False
    encoding: Encoding = "prebuilt"
    tls: Tls | None = None
    generators: int = 1
    first_user: int = 0

    def __post_init__(self) -> None:
        """Take TLS as a line has it, too."""
        if isinstance(self.tls, dict):
            object.__setattr__(self, "tls", Tls(**self.tls))


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadWindow(_Line):
    """When the load that was ordered takes place, in nanoseconds of CLOCK_MONOTONIC."""

    origin_ns: int
    begin_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOutcome(_Line):
    """
    What is not in the sample file.

    Attributes:
        requests: Sent from the origin to the end of the drain.
        errors: Kind of error -> requests that ended so.
        first_error: What was said at the first of them.
        checked_answers: Answers that were compared with what is expected.
        wrong_answers: Those that differ from it.
        first_wrong: How the first of them differs.
        connections: Opened in all, the first ones included.
        bytes_sent: On all connections, above TCP, from the origin on; None where the kernel does not say.
        bytes_received: Likewise.
        bytes_sent_again: Bytes that TCP sent more than once, from the origin on; None where the kernel does not say.
        reconnects: Connections opened in place of others that were gone.
        cpu_ns: CPU time of the generator, or of all that made the load, between the two readings.
        cpu_from_ns: When it was first read: about the begin of the window.
        cpu_to_ns: When it was read again: about its end.
        lag_p99_us: How late a greenlet that wanted to run every 10 ms did run, 99th percentile in the window.
        lag_max_us: The worst of them.
        generators: How many generators made the load.
        busiest: Of several, the share of a core that the busiest one used; None: there was one.
    """

    requests: int
    errors: dict[str, int] = field(default_factory=dict)
    first_error: str | None = None
    checked_answers: int
    wrong_answers: int
    first_wrong: str | None = None
    connections: int
    bytes_sent: int | None
    bytes_received: int | None
    cpu_ns: int
    cpu_from_ns: int
    cpu_to_ns: int
    lag_p99_us: float
    lag_max_us: float
    bytes_sent_again: int | None = None
    reconnects: int = 0
    generators: int = 1
    busiest: float | None = None

    @property
    def utilisation(self) -> float:
        """The share of a core that the generator used, the busiest one of several; 0 if no time passed."""
        if self.busiest is not None:
            return self.busiest
        between_ns = self.cpu_to_ns - self.cpu_from_ns
        return self.cpu_ns / between_ns if between_ns else 0.0
