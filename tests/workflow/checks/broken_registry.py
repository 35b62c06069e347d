"""Where builders of broken models register, each with the lines that name its fault."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Broken:
    build: object
    fault: str
    lines: tuple[str, ...]
    limit_s: float | None = None


BROKEN: dict[str, Broken] = {}
# How the line of the op policy begins.
POLICY = "serving_default.op_policy: expected no op that reaches outside the model, found signature serving_default:"
AT_LOAD = "init.op_policy: expected no op that reaches outside the model, found"


def broken(*lines, limit_s=None):
    """
    Register a builder.

    Args:
        lines: Each must begin a line that the user is told.
        limit_s: Where the model ends its process, or none: how long the stage may take.
    """

    def register(build):
        BROKEN[build.__name__.replace("_", "-")] = Broken(build, build.__doc__, lines, limit_s)
        return build

    return register
