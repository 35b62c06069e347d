"""What a contract says of one tensor: its name, dtype, shape and values."""

import math
from collections.abc import Mapping
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator
from pydantic.json_schema import SkipJsonSchema

from slipway.contract import expressions
from slipway.contract.expressions import Expression
from slipway.contract.forms import ExampleFeature, FeatureForm, ImageForm
from slipway.contract.sections import Section
from slipway.contract.words import Vocabulary, Words, WordsDigest, lines_of

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
Shape = tuple[Dimension, ...]

Meaning = Literal["probability", "log_probability", "logits", "score", "distance", "embedding", "class_index"]
_BOUNDS = {
    "probability": (0.0, 1.0),
    "log_probability": (-math.inf, 0.0),
    "distance": (0.0, math.inf),
    "class_index": (0.0, math.inf),
}


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
    """One tensor that a caller sends; a string says what its strings are."""

    values: tuple[str, ...] | None = Field(
        None, min_length=1, description="Strings to draw from where rows are made up, if the model reads any strings."
    )
    example: dict[str, ExampleFeature] | None = Field(
        None,
        min_length=1,
        description="The strings are serialized tf.Examples that the model parses: what they hold, by feature.",
    )
    features: dict[TensorName, str | FeatureForm] | None = Field(
        None,
        description="The strings are serialized tf.Examples, parsed in the graph: input of the model -> feature that "
        "carries it; an input that is not named is carried by the feature of its own name.",
    )
    image: ImageForm | None = Field(None, description="The strings are encoded pictures: JPEG, PNG, GIF or BMP.")
    vocabulary: Vocabulary | None = Field(None, description="The strings are words that stand for integers.")
    to: TensorName | None = Field(
        None, description="Input of the model that an image or a vocabulary becomes; an only one needs no name."
    )

    @model_validator(mode="after")
    def _can_be_drawn(self) -> "InputContract":
        if self.shape[:1] != (ROWS,):
            raise ValueError(_ROWS_FIRST.format(list(self.shape)))
        said = [key for key in _STRINGS if getattr(self, key) is not None]
        if self.dtype == "string" and not said:
            raise ValueError(
                "a string input needs `values`: some strings that the model accepts; "
                f"or what the strings are: {', '.join(_STRINGS[1:])}"
            )
        if self.dtype != "string" and said:
            raise ValueError(f"`{said[0]}` is for strings; a {self.dtype} input has a range")
        if len(said) > 1:
            raise ValueError(f"strings are one thing only, got {' and '.join(said)}")
        if said and said[0] not in ("values", "vocabulary") and len(self.shape) > 1:
            raise ValueError(f"`{said[0]}` is one string a row, shape [N], got {list(self.shape)}")
        if self.to is not None and not (self.image or self.vocabulary):
            raise ValueError("`to` says what an `image` or a `vocabulary` becomes; there is neither")
        return self

    @property
    def is_form(self) -> bool:
        """Whether the graph makes inputs of the model from it; else the model takes it as it comes."""
        return self.image is not None or self.vocabulary is not None or self.features is not None


class OutputContract(TensorContract):
    """One tensor that a caller gets."""

    from_: str | None = Field(
        None,
        alias="from",
        description="How it is made: the name of an output of the model, or an expression such as softmax(x), argmax(x) "
        "or top_k_classes(x, 5); docs/contract.md has them all. Without it: the model's output of this name. "
        "A model with one output gives it under any name.",
    )
    classes: tuple[str, ...] | Words | SkipJsonSchema[WordsDigest] | None = Field(
        None, description="What the numbers of lookup or top_k_classes stand for: a list, or a file with one a line."
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
    def _can_be_made(self) -> "OutputContract":
        made = self.expression("")
        function = expressions.FUNCTIONS[made.function] if isinstance(made, expressions.Call) else None
        if function and function.dtypes and self.dtype not in function.dtypes:
            kinds = " or ".join(function.dtypes)
            raise ValueError(f"{function.usage} gives {kinds}, got dtype {self.dtype}")
        if expressions.needs_classes(made) and not self.classes:
            raise ValueError(f"{self.from_} needs `classes`: what the numbers stand for")
        return self

    def expression(self, name: str) -> Expression:
        """Read `from`; without it, the output of the model that is called *name*."""
        return expressions.Name(name) if self.from_ is None else expressions.parse(self.from_)

    @property
    def class_names(self) -> tuple[str, ...]:
        """What the numbers stand for; empty if the contract does not say."""
        return lines_of(self.classes or ())


_ROWS_FIRST = "shape must begin with N, the rows of a batch, got {}"
_STRINGS = ("values", "example", "features", "image", "vocabulary")


def example_dtype(dtype: str) -> Literal["float32", "int64", "string"]:
    """Name the kind of tf.Example feature that carries *dtype*; there are three (example/feature.proto)."""
    if dtype == "string":
        return "string"
    return "float32" if dtype.startswith("float") else "int64"
