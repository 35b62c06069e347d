"""The `train` of a source: a script of the user's that makes the source's files."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from slipway import scripts


class TrainSettings(BaseModel):
    """
    A script that makes the source's files: the line's first stage, for those who want it.

    It is run as `python SCRIPT --out DIR --options JSON`, in a process of its own, in the working directory, and
    writes into DIR; the source's `path` and `golden` are then looked up there.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    script: Path = Field(description="A Python script, relative to the working directory.")
    options: dict[str, Any] = Field(
        default_factory=dict, description="What the script gets as `--options`, as one JSON object."
    )
    inputs: list[Path] = Field(
        default_factory=list,
        description="Files that the script reads, such as training data: it runs again when one changes. Modules that "
        "it imports from beside it, or from the working directory, are found without this.",
    )
    threads: PositiveInt = Field(
        1, description="Threads that it computes with. With another number the last bits of the weights may differ."
    )
    gpu: bool = Field(
        default=False, description="Let it see the GPU. Without it, it computes on the CPU, where bits are repeatable."
    )

    def files(self) -> list[str]:
        """List what it is made from: the script, modules of the user's that it imports, and its inputs."""
        return [*map(str, scripts.with_imports(self.script)), *map(str, self.inputs)]
