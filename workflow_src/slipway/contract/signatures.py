"""What a contract says of one signature: its method, and the tensors in and out."""

from typing import Annotated, Literal

from pydantic import Field

from slipway.contract.tensors import InputContract, OutputContract, Section, TensorName

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
    inputs: dict[TensorName, InputContract] = Field(
        min_length=1, description="By name; a model with one input takes it under any name."
    )
    outputs: dict[TensorName, OutputContract] = Field(min_length=1)


class _ExampleSignature(_Promising):
    features: dict[TensorName, str] = Field(
        default_factory=dict,
        description="Input of serving_default -> feature of the tf.Example that carries it, flattened; "
        "an input that is not named is carried by the feature of its own name.",
    )


class ClassifySignature(_ExampleSignature):
    """tf.Examples in, classes and scores out: REST `:classify`, gRPC `Classify`."""

    method: Literal["classify"]
    scores: TensorName = Field(description="Output of serving_default, of shape [N, classes].")
    classes: tuple[str, ...] | None = Field(
        None, min_length=1, description="What each score stands for; without them 0, 1, …"
    )


class RegressSignature(_ExampleSignature):
    """tf.Examples in, one number a row out: REST `:regress`, gRPC `Regress`."""

    method: Literal["regress"]
    value: TensorName = Field(description="Output of serving_default, of shape [N] or [N, 1].")


Signature = Annotated[PredictSignature | ClassifySignature | RegressSignature, Field(discriminator="method")]
