"""What all parts of a contract have in common."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A part of a contract's file: unknown keys are faults, and what was read stays as it is."""

    model_config = ConfigDict(extra="forbid", frozen=True)
