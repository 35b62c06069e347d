"""What a contract says of one tensor: its name, dtype, shape and values."""

import math
import re
from collections.abc import Mapping
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveInt, model_validator

ROWS = "N"

# bfloat16 is left out: neither JSON nor .npz carries it.
Dtype = Literal[
    "bool",
    "float16",
    "float32",
    "float64",
    "int8",
    "int16",
    "int32",
    "int64",
    "string",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
]
# Tensor names become Python argument names inside TensorFlow.
TensorName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Dimension = PositiveInt | Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$")]
Expression = Annotated[
    str, Field(pattern=r"^([A-Za-z_][A-Za-z0-9_]*|(softmax|sigmoid|argmax)\([A-Za-z_][A-Za-z0-9_]*\))$")
]
Shape = Annotated[tuple[Dimension, ...], Field(min_length=1)]


Meaning = Literal["probability", "log_probability", "logits", "score", "distance", "embedding", "class_index"]
_BOUNDS = {
    "probability": (0.0, 1.0),
    "log_probability": (-math.inf, 0.0),
    "distance": (0.0, math.inf),
    "class_index": (0.0, math.inf),
}


class Section(BaseModel):
    """A part of a contract's file: unknown keys are faults, and what was read stays as it is."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TensorContract(Section):
    """One tensor: what it is called stands in front of it."""

    dtype: Dtype = Field("float32", description="TensorFlow's name of the dtype.")
    shape: Shape = Field(
        description="Sizes; N comes first and is the number of rows. Other capitals (T) are sizes that may vary but "
        "agree between tensors; `probe.dims` gives the sizes they are tried with."
    )
    range: tuple[float, float] | None = Field(
        None, description="Least and greatest value. Inputs are drawn from it, outputs must lie in it."
    )
    units: str = Field("", description="What a value of 1 stands for, such as px, °C or EUR; empty for a plain number.")
    doc: str = Field("", description="One sentence for people who call the model.")

    @model_validator(mode="after")
    def _is_possible(self) -> "TensorContract":
        if self.shape[0] != ROWS:
            raise ValueError(f"shape must begin with N, the rows of a batch, got {list(self.shape)}")
        if self.range and self.range[0] > self.range[1]:
            raise ValueError(f"range must be [least, greatest], got {list(self.range)}")
        if self.range and self.dtype in ("string", "bool"):
            raise ValueError(f"range says nothing about dtype {self.dtype}")
        return self

    def sizes(self, dims: Mapping[str, int]) -> tuple[int, ...]:
        """Give the shape with every symbol replaced by its size in *dims*."""
        return tuple(dims[size] if isinstance(size, str) else size for size in self.shape)

    def numpy_dtype(self) -> npt.DTypeLike:
        """Name the numpy dtype; strings are objects (bytes)."""
        return np.dtype(object) if self.dtype == "string" else np.dtype(self.dtype)


class InputContract(TensorContract):
    """One tensor that a caller sends."""

    values: tuple[str, ...] | None = Field(
        None, min_length=1, description="Values to draw from where rows are made up; strings need them."
    )

    @model_validator(mode="after")
    def _can_be_drawn(self) -> "InputContract":
        if self.dtype == "string" and not self.values:
            raise ValueError("a string input needs `values`: some strings that the model accepts")
        if self.dtype != "string" and self.values:
            raise ValueError(f"`values` is for strings; a {self.dtype} input has a range")
        return self


class OutputContract(TensorContract):
    """One tensor that a caller gets."""

    from_: Expression | None = Field(
        None,
        alias="from",
        description="How it is made: the name of an output of the model; or softmax(x), sigmoid(x), argmax(x), where x "
        "is another output of this signature or else one of the model. Without it: the model's output of this name. "
        "A model with one output gives it under any name.",
    )
    row_sum: float | None = Field(None, description="What the last axis must add up to.")
    meaning: Meaning | None = Field(
        None,
        description="How to read values: probability (0 to 1), log_probability (at most 0), logits (softmax or sigmoid "
        "makes probabilities of them), score (greater is likelier, no more), distance (at least 0, less is nearer), "
        "embedding (a vector per row, to be compared with others), class_index (an integer from 0 on).",
    )
    atol: NonNegativeFloat | None = Field(
        None, description="Absolute tolerance of this output; without it golden.atol."
    )
    rtol: NonNegativeFloat | None = Field(
        None, description="Relative tolerance of this output; without it golden.rtol."
    )

    @model_validator(mode="after")
    def _means_what_it_can(self) -> "OutputContract":
        if self.meaning is None:
            return self
        if self.meaning == "class_index":
            if "int" not in self.dtype:
                raise ValueError(f"meaning class_index is for integers, got dtype {self.dtype}")
        elif not self.dtype.startswith("float"):
            raise ValueError(f"meaning {self.meaning} is for floats, got dtype {self.dtype}")
        if self.meaning == "embedding" and len(self.shape) < 2:
            raise ValueError(f"meaning embedding needs a vector per row, got shape {list(self.shape)}")
        if self.range and not (self.bounds[0] <= self.range[0] and self.range[1] <= self.bounds[1]):
            least, greatest = self.bounds
            raise ValueError(f"meaning {self.meaning} lies in {least:g} … {greatest:g}, got range {list(self.range)}")
        return self

    @property
    def bounds(self) -> tuple[float, float]:
        """Least and greatest value that the meaning allows; infinite where it sets no bound."""
        return _BOUNDS.get(self.meaning or "", (-math.inf, math.inf))

    @model_validator(mode="after")
    def _argmax_is_an_integer(self) -> "OutputContract":
        function, _ = self.source("")
        if function == "argmax" and self.dtype not in ("int32", "int64"):
            raise ValueError(f"argmax gives int64 (or int32), got dtype {self.dtype}")
        return self

    def source(self, name: str) -> tuple[Literal["softmax", "sigmoid", "argmax"] | None, str]:
        """Split `from` into function and argument; without it, *name* is the argument."""
        found = re.fullmatch(r"(?:(softmax|sigmoid|argmax)\()?(\w+)\)?", self.from_ or name)
        return (found[1], found[2]) if found else (None, name)  # type: ignore[return-value]  # the pattern's own words


def example_dtype(dtype: str) -> Literal["float32", "int64", "string"]:
    """Name the kind of tf.Example feature that carries *dtype*; there are three (example/feature.proto)."""
    if dtype == "string":
        return "string"
    return "float32" if dtype.startswith("float") else "int64"
