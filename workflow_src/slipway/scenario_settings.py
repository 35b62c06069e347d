"""Scenarios as the config names them: one frozen model per kind of load, each with the time it takes by default."""

from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from slipway.records import Protocol
from slipway.source_settings import Section
from slipway_wire.loads import Tier


class _Scenario(Section):
    protocols: list[Protocol] = Field(
        ["rest", "grpc"], min_length=1, description="Which to load, one after the other (`mixed`: at once)."
    )


class _Repeated(_Scenario):
    window_s: PositiveFloat = Field(3.0, description="Length of one measured window.")
    repetitions: PositiveInt = Field(3, description="Windows of each kind.")


class SingleStream(_Repeated):
    """One caller with one request in flight: the latency that a lone user sees (MLPerf's SingleStream)."""

    kind: Literal["single_stream"] = "single_stream"
    rows: PositiveInt = 1


class MultiStream(_Repeated):
    """One caller that always asks for several rows at once (MLPerf's MultiStream)."""

    kind: Literal["multi_stream"] = "multi_stream"
    rows: PositiveInt = 8


class Offline(_Scenario):
    """Rows that are all there from the start, in large requests: how fast they are through (MLPerf's Offline)."""

    kind: Literal["offline"] = "offline"
    rows: PositiveInt | None = Field(
        None, description="Rows in each request; null: the server's max_batch_size, or 32."
    )
    users: PositiveInt = Field(4, description="Requests in flight.")
    total_rows: PositiveInt = Field(24_576, description="All of them; MLPerf asks for at least 24,576.")


class ServerSlo(_Scenario):
    """The highest rate at which the 99th percentile stays within a bound, found by bisection and proven (MLPerf's Server)."""

    kind: Literal["server_slo"] = "server_slo"
    slo_ms: PositiveFloat | None = Field(
        None, description="The bound; null: ten times the median with one request in flight, rounded up to 1, 2 or 5."
    )
    resolution: float = Field(
        0.1, gt=0.005, le=1, description="Ends when the rate is known this well, as a share of it."
    )
    probe_s: PositiveFloat = Field(
        20.0,
        description="The longest that one rate of the search is tried, which ends as soon as it is decided; and how long each "
        "confirmation lasts, which is looked at once, at its end.",
    )
    confirmations: PositiveInt = Field(2, description="Times that the rate found must be proven again.")


class PayloadSweep(_Repeated):
    """The same load with more and more rows in each request."""

    kind: Literal["payload"] = "payload"
    rows: list[PositiveInt] = Field([1, 8, 32, 128], min_length=1)
    users: PositiveInt = Field(4, description="Requests in flight.")
    repetitions: PositiveInt = Field(2, description="Windows of each number of rows.")


class Mixed(_Repeated):
    """REST and gRPC at once, each at a share of what it can do alone."""

    kind: Literal["mixed"] = "mixed"
    share: float = Field(0.25, gt=0, le=0.9, description="Offered rate of each, as a share of its own peak.")


class RowMix(_Repeated):
    """Requests with few rows and with many, mixed, at a share of what the server does with them: latency of each kind."""

    kind: Literal["row_mix"] = "row_mix"
    rows: dict[PositiveInt, PositiveInt] = Field(
        {1: 70, 4: 20, 32: 10}, min_length=1, description="Rows in a request -> how often, against the others."
    )
    users: PositiveInt = Field(16, description="Requests in flight in the closed loop that finds the peak.")
    share: float = Field(0.6, gt=0, le=0.9, description="Offered rate, as a share of the peak with this mix.")


class Overload(_Scenario):
    """More than the server can do, then little: what is still answered in time, how the rest is turned away, and the return."""

    kind: Literal["overload"] = "overload"
    factor: float = Field(2.0, gt=1, le=10, description="Offered rate, as a multiple of the peak.")
    overload_s: PositiveFloat = Field(5.0, description="For how long.")
    recovery_share: float = Field(0.3, gt=0, le=0.9, description="Offered rate afterwards, as a share of the peak.")
    recovery_s: PositiveFloat = Field(10.0, description="For how long.")
    slo_ms: PositiveFloat | None = Field(None, description="What is in time; null: as `server_slo` chooses it.")


class Soak(_Scenario):
    """The same rate for a long time: whether memory, latency and CPU per request stay what they were."""

    kind: Literal["soak"] = "soak"
    minutes: PositiveFloat = Field(60.0, description="All windows together, per protocol.")
    window_s: PositiveFloat = Field(30.0, description="One window; each is a point of the slope.")
    share: float = Field(0.5, gt=0, le=0.9, description="Offered rate, as a share of the peak.")
    most_growth: PositiveFloat = Field(
        0.01, description="Growth of memory per hour, as a share, that is a fault once its 95 % interval lies above."
    )


class HotReload(_Scenario):
    """Versions come and go while requests arrive that name none: none may fail, or be answered by a version that has left."""

    kind: Literal["hot_reload"] = "hot_reload"
    share: float = Field(0.3, gt=0, le=0.9, description="Offered rate, as a share of the peak.")
    window_s: PositiveFloat = Field(
        15.0,
        description="The load. At a fifth of it the newest version leaves, before its half it comes and the one before it "
        "retires, at three quarters that one is loaded beside it; a command of your own is run at a quarter.",
    )
    slo_ms: PositiveFloat | None = Field(None, description="What is in time; null: as `server_slo` chooses it.")


class AbVersions(_Scenario):
    """Two versions of the model that one server has at the same time, loaded in turns: does one of them cost more?"""

    kind: Literal["ab_versions"] = "ab_versions"
    base: int | str | None = Field(
        None, description="A version, or a label; null: the newest below head that is served, else the next above."
    )
    head: int | str | None = Field(None, description="A version, or a label; null: the version that is measured.")
    pairs: PositiveInt = Field(
        8,
        description="Windows of each version under each of the two loads; 6 are the fewest that give a 95 % interval.",
    )
    users: PositiveInt = Field(8, description="Closed loop: requests in flight.")
    share: float = Field(
        0.5, gt=0, le=0.9, description="Open loop: offered rate, as a share of the slower version's peak."
    )
    window_s: PositiveFloat = Field(3.0, description="Length of one measured window.")


class Serialization(_Repeated):
    """The same requests prepared beforehand, and made and read while the clock runs: what clients pay for JSON and for protobuf."""

    kind: Literal["serialization"] = "serialization"
    users: PositiveInt = Field(4, description="Requests in flight.")
    rows: PositiveInt = 1
    repetitions: PositiveInt = Field(2, description="Windows of each way.")


class Clients(_Repeated):
    """The same load by other clients: what a Python client pays, and whether h2load finds the same server as the load generator."""

    kind: Literal["clients"] = "clients"
    tiers: list[Tier] = Field(
        ["wire", "library", "native"],
        min_length=1,
        description="Whose clients: the load generator's own (wire), Locust's FastHttpSession and grpcio (library), h2load "
        "(native; left out where it is not installed).",
    )
    users: PositiveInt = Field(64, description="Requests in flight; enough that the server is the limit.")
    rows: PositiveInt = 1
    window_s: PositiveFloat = Field(2.0, description="Length of one measured window.")
    most_apart: float = Field(
        0.1,
        gt=0,
        le=1,
        description="Above it, as a share, the wire tier and h2load disagree, and the load generator is not believed.",
    )


Scenario = Annotated[
    SingleStream
    | MultiStream
    | Offline
    | ServerSlo
    | PayloadSweep
    | Mixed
    | RowMix
    | Overload
    | Soak
    | HotReload
    | AbVersions
    | Serialization
    | Clients,
    Field(discriminator="kind"),
]
KINDS: dict[str, type[_Scenario]] = {
    "single_stream": SingleStream,
    "multi_stream": MultiStream,
    "offline": Offline,
    "server_slo": ServerSlo,
    "payload": PayloadSweep,
    "mixed": Mixed,
    "row_mix": RowMix,
    "overload": Overload,
    "soak": Soak,
    "hot_reload": HotReload,
    "ab_versions": AbVersions,
    "serialization": Serialization,
    "clients": Clients,
}
# What the section `benchmark` itself describes.
STANDARD = ("cold_start", "saturation", "open_loop")


def with_kinds(scenarios: Any) -> Any:
    """Let a scenario that is called like a kind be of that kind, unless it says otherwise; `name:` alone takes all defaults."""
    if not isinstance(scenarios, dict):
        return scenarios
    return {
        name: {"kind": name, **(given or {})} if name in KINDS and (given is None or isinstance(given, dict)) else given
        for name, given in scenarios.items()
    }
