"""In what form a signature carries the inputs of a model: encoded pictures, words, features of tf.Examples."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from slipway.contract.sections import Section
from slipway.contract.words import Vocabulary

Number = float | Annotated[tuple[float, ...], Field(min_length=1)]
Value = bool | int | float | str
# 32 MiB of grey, 96 MiB of colour: larger than any camera of a telephone makes, far below what a bomb claims.
_MAX_PIXELS = 1 << 25


class ImageForm(Section):
    """How an encoded picture becomes a tensor [height, width, channels]."""

    size: tuple[PositiveInt, PositiveInt] | None = Field(
        None, description="Height and width; without it, those of the model's input."
    )
    resize: Literal["bilinear", "bicubic", "area", "nearest", "lanczos3"] = Field(
        "bilinear", description="How pixels between pixels are found, as in tf.image.resize."
    )
    fit: Literal["stretch", "crop", "pad"] = Field(
        "stretch", description="What becomes of another aspect ratio: stretched; cut to the middle; black borders."
    )
    range: tuple[float, float] | None = Field(
        None, description="What black (0) and white (255) become; without it, the range of the model's input."
    )
    scale: Number | None = Field(None, description="value = pixel * scale + offset; a number, or one each channel.")
    offset: Number | None = Field(None, description="See scale.")
    order: Literal["rgb", "bgr"] = Field("rgb", description="Order of the channels that the model wants.")
    max_pixels: PositiveInt = Field(
        _MAX_PIXELS, description="Height times width; a picture that claims more is refused before it is decoded."
    )

    @model_validator(mode="after")
    def _one_scale(self) -> "ImageForm":
        if self.range is not None and (self.scale is not None or self.offset is not None):
            raise ValueError("image: either `range`, or `scale` and `offset`")
        if self.offset is not None and self.scale is None:
            raise ValueError("image: `offset` needs `scale`")
        scales = self.scale if isinstance(self.scale, tuple) else (self.scale,)
        if 0 in scales or (self.range and self.range[0] == self.range[1]):
            raise ValueError("image: a scale of 0 makes all pictures alike")
        return self


class FeatureForm(Section):
    """The feature of a tf.Example that carries an input of the model, flattened."""

    feature: str | None = Field(None, min_length=1, description="Its name; without it, that of the input.")
    default: Value | tuple[Value, ...] | None = Field(
        None, description="What an Example without it means: one value for all, or each; without it, it must be there."
    )
    pad: Value | None = Field(
        None, description="For an input [N, T, …]: what fills rows up to the longest of the batch."
    )
    image: ImageForm | None = Field(None, description="The feature is one encoded picture.")
    vocabulary: Vocabulary | None = Field(None, description="The feature is words.")

    @model_validator(mode="after")
    def _one_way(self) -> "FeatureForm":
        if self.default is not None and self.pad is not None:
            raise ValueError("a feature has `default` (of fixed size) or `pad` (of any), not both")
        if self.image is not None and (self.vocabulary or self.default is not None or self.pad is not None):
            raise ValueError("a feature that is an `image` has no vocabulary, default or pad")
        return self


class ExampleFeature(Section):
    """A feature of the tf.Examples that a model parses by itself."""

    dtype: Literal["float32", "int64", "string"] = Field("float32", description="What the feature holds.")
    shape: tuple[PositiveInt, ...] = Field((), description="Sizes, without rows; [] is one value.")
    count: tuple[NonNegativeInt, NonNegativeInt] | None = Field(
        None, description="Instead of shape: from how many values to how many there may be (VarLen)."
    )
    range: tuple[float, float] | None = Field(None, description="Least and greatest value; rows are drawn from it.")
    values: tuple[Value, ...] | None = Field(None, min_length=1, description="Values to draw from, instead of range.")
    default: Value | tuple[Value, ...] | None = Field(
        None, description="What an Example without it means to the model; some rows that are made up leave it out."
    )
    doc: str = Field("", description="One sentence for people who call the model.")

    @model_validator(mode="after")
    def _can_be_drawn(self) -> "ExampleFeature":
        if self.dtype == "string" and not self.values:
            raise ValueError("a string feature needs `values`: some strings that the model accepts")
        if self.range and (self.values or self.range[0] > self.range[1]):
            raise ValueError(f"a feature has `values`, or range: [least, greatest], got range {list(self.range)}")
        if self.count and (self.shape or self.count[0] > self.count[1]):
            raise ValueError(f"count is [least, most] and stands instead of shape, got {list(self.count)}")
        kinds = {"string": str, "int64": int, "float32": (int, float)}[self.dtype]
        given = [*(self.values or ()), *(self.default if isinstance(self.default, tuple) else [self.default])]
        if wrong := [value for value in given if value is not None and not isinstance(value, kinds)]:  # type: ignore[arg-type]
            raise ValueError(f"{wrong[0]!r} is no {self.dtype}")
        return self
