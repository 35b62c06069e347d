"""What a contract says of one signature: its method, and the tensors in and out."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator
from pydantic.json_schema import SkipJsonSchema

from slipway.contract.forms import FeatureForm
from slipway.contract.sections import Section
from slipway.contract.tensors import ROWS, InputContract, OutputContract, TensorName
from slipway.contract.words import Words, WordsDigest

# Where a request names no signature, this one is called: TensorFlow's DEFAULT_SERVING_SIGNATURE_DEF_KEY.
DEFAULT_SIGNATURE = "serving_default"

SignatureName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]


# bitwise: equal bits each time. within_tolerance: as near as the probe's tolerances. false: answers are drawn by chance.
Determinism = Literal["bitwise", "within_tolerance", False]


class _Promising(Section):
    doc: str = ""
    deterministic: Determinism | None = Field(None, description="Other than the whole contract's, for this signature.")
    row_independent: bool | None = Field(None, description="Other than the whole contract's, for this signature.")


class PredictSignature(_Promising):
    """Tensors in, tensors out: REST `:predict`, gRPC `Predict`."""

    method: Literal["predict"]
    batched: bool = Field(
        True, description="Whether outputs have a row for each row; if not, they have no N and a server must not batch."
    )
    inputs: dict[TensorName, InputContract] = Field(
        default_factory=dict,
        description="By name; a model with one input takes it under any name. Without them, those of the model's own "
        "form (serving_default, or golden.signature).",
    )
    outputs: dict[TensorName, OutputContract] = Field(
        default_factory=dict, description="By name; without them, those of the model's own form."
    )

    @model_validator(mode="after")
    def _rows_come_first(self) -> "PredictSignature":
        if missing := [side for side in ("inputs", "outputs") if not getattr(self, side)]:
            raise ValueError(f"{missing[0]}: there are none")
        wrong = [
            f"outputs.{name}: shape must begin with N, the rows of a batch, got {list(output.shape)}"
            if self.batched
            else f"outputs.{name}: a signature that is not batched has no N, got {list(output.shape)}"
            for name, output in self.outputs.items()
            if (output.shape[:1] == (ROWS,)) is not self.batched
        ]
        if wrong:
            raise ValueError("\n".join(wrong))
        return self

    @property
    def is_own_form(self) -> bool:
        """Whether the model takes all inputs as they come."""
        return not any(tensor.is_form for tensor in self.inputs.values())


class _ExampleSignature(_Promising):
    features: dict[TensorName, str | FeatureForm] = Field(
        default_factory=dict,
        description="Input of the model -> feature of the tf.Example that carries it, flattened; an input that is not "
        "named is carried by the feature of its own name.",
    )


class ClassifySignature(_ExampleSignature):
    """tf.Examples in, classes and scores out: REST `:classify`, gRPC `Classify`."""

    method: Literal["classify"]
    scores: TensorName = Field(description="Output of the model's own form, of shape [N, classes].")
    classes: Annotated[tuple[str, ...], Field(min_length=1)] | Words | SkipJsonSchema[WordsDigest] | None = Field(
        None, description="What each score stands for: a list, or a file with one a line; without them 0, 1, …"
    )
    top_k: PositiveInt | None = Field(None, description="Give only so many, the highest first; without it, all.")


class RegressSignature(_ExampleSignature):
    """tf.Examples in, one number a row out: REST `:regress`, gRPC `Regress`."""

    method: Literal["regress"]
    value: TensorName = Field(description="Output of the model's own form, of shape [N] or [N, 1].")


class Alias(Section):
    """Another name of a signature; only in the file: what was read has the signature itself in its place."""

    alias: SignatureName = Field(description="The signature that it is.")


Signature = Annotated[PredictSignature | ClassifySignature | RegressSignature, Field(discriminator="method")]
