"""What a comparison leaves behind: comparison.json. Everything shown is a pure function of it."""

from typing import Literal

from pydantic import ConfigDict, Field

from slipway.records import (
    Ceiling,
    Digest,
    EngineRecord,
    Environment,
    Load,
    Payload,
    Placement,
    Protocol,
    Record,
    Repetition,
)

Verdict = Literal["pass", "fail", "inconclusive", "invalid", "wrong"]


class Subject(Record):
    """One of the two servers."""

    label: str = Field(description="As it was asked for: a directory, a revision, an image or a result.")
    commit: str | None = Field(description="That the directory is at; None for an image by itself.")
    dirty: bool | None = Field(None, description="Whether the directory has changes that are in no commit.")
    image_created: str = Field(
        "", description="RFC 3339, by the image's own label: the time of the commit it was made at."
    )
    image_commit: str | None = Field(None, description="The commit of that time; None if there is none.")
    model: str
    version: int
    image_id: Digest
    image_bytes: int
    servable_digest: Digest
    server_flags: list[str]
    engine: EngineRecord | None = None
    ready_s: float | None = None
    resident_bytes: int | None = None
    thread_plan: str = Field("", description="As the server tells it; it may have been measured. Empty: not told.")


class WindowPair(Record):
    """The same load on both servers, one right after the other."""

    index: int
    first: Literal["base", "head"]
    base: Repetition
    head: Repetition


class ComparedCell(Record):
    """One protocol under one load."""

    id: str
    protocol: Protocol
    load: Load
    pairs: list[WindowPair]


class MetricResult(Record):
    """One metric of one cell: how head stands to base."""

    id: str
    metric: str
    name: str
    unit: str
    protocol: Protocol
    cell: str
    margin: float = Field(description="By which share it may get worse.")
    more_is_worse: bool
    base: float | None = Field(description="Median over the pairs that count.")
    head: float | None
    ratio: float | None = Field(description="head ÷ base, Hodges–Lehmann over pairs.")
    low: float | None = Field(description="Its exact 95 % signed-rank interval.")
    high: float | None
    pairs: int
    void: int = Field(description="Pairs that broke a validity rule that matters for this metric, or do not have it.")
    gates: bool
    why_not: str = ""
    unjudged: bool = Field(
        False, description="It does not decide, and the machine is no excuse for that: without it nothing passes."
    )
    state: Literal["open", "pass", "fail", "inconclusive"]
    late: int = Field(
        0,
        description="Pairs in which requests left late, used all the same: ratio, low and high are what is left of the change "
        "if all of that was in head's latency.",
    )
    confirming: bool = Field(description="It looked worse at first, and fresh pairs were measured to confirm it.")


class FixedResult(Record):
    """A number that needs no statistics: the same in every run."""

    id: str
    name: str
    unit: str
    base: float
    head: float
    margin: float
    state: Literal["pass", "fail"]


class Comparison(Record):
    """comparison.json."""

    schema_: Literal["slipway.comparison/1"] = Field("slipway.comparison/1", alias="schema")
    title: str
    started: str = Field(description="RFC 3339, UTC.")
    duration_s: float
    command: str
    base: Subject
    head: Subject
    seed: int
    window_s: float
    open_window_s: float | None = Field(
        None, description="Of the open loop; null: there is none, or it is as window_s."
    )
    offered_rate: float | None = Field(description="Requests per second of the open loop, for both servers.")
    payload: Payload
    placement: Placement
    environment: Environment
    ceilings: list[Ceiling] = Field(
        default_factory=list, description="What the load generator can do at most, per protocol; empty: not found out."
    )
    cells: list[ComparedCell]
    metrics: list[MetricResult]
    fixed: list[FixedResult]
    verdict: Verdict
    reasons: list[str] = Field(description="What the verdict rests on, the gravest first.")
    cut_short: str = Field("", description="Why it ended early; empty if it did not.")
    not_measured: dict[str, str] = Field(default_factory=dict)

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, serialize_by_alias=True)
