"""
The contract: what a model promises to whoever calls it, as one YAML file.

It defines the signatures that `slipway export` writes, and the same promises drive validation, warm-up
records, request bodies and the load. It knows no TensorFlow: sizes, dtypes and names are all there is.
`config/contract.schema.json` is generated from `Contract`.
"""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    model_validator,
)

from slipway.errors import SettingsError
from slipway.records import SignatureRecord, TensorRecord
from slipway.settings import fault_lines

# Where a request names no signature, this one is called: TensorFlow's DEFAULT_SERVING_SIGNATURE_DEF_KEY.
DEFAULT_SIGNATURE = "serving_default"
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
SignatureName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]
Dimension = PositiveInt | Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$")]
Expression = Annotated[
    str, Field(pattern=r"^([A-Za-z_][A-Za-z0-9_]*|(softmax|sigmoid|argmax)\([A-Za-z_][A-Za-z0-9_]*\))$")
]
Shape = Annotated[tuple[Dimension, ...], Field(min_length=1)]

# Ops that make an answer depend on chance, on the machine's files or on a Python process; each is what a
# training graph or a careless tf.function leaves behind in an export.
FORBIDDEN_OPS = (
    "EagerPyFunc",
    "Iterator",
    "IteratorV2",
    "Multinomial",
    "OneShotIterator",
    "ParameterizedTruncatedNormal",
    "Print",
    "PrintV2",
    "PyFunc",
    "PyFuncStateless",
    "RandomGamma",
    "RandomShuffle",
    "RandomStandardNormal",
    "RandomUniform",
    "RandomUniformInt",
    "ReadFile",
    "ShuffleAndRepeatDataset",
    "StatelessRandomNormalV2",
    "StatelessRandomUniformV2",
    "StatelessTruncatedNormalV2",
    "StatefulStandardNormalV2",
    "StatefulUniform",
    "TruncatedNormal",
    "WriteFile",
)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TensorContract(_Section):
    """One tensor: what it is called stands in front of it."""

    dtype: Dtype = Field("float32", description="TensorFlow's name of the dtype.")
    shape: Shape = Field(
        description="Sizes; N comes first and is the number of rows. Other capitals (T) are sizes that may vary but "
        "agree between tensors; `probe.dims` gives the sizes they are tried with."
    )
    range: tuple[float, float] | None = Field(
        None, description="Least and greatest value. Inputs are drawn from it, outputs must lie in it."
    )
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
    meaning: Literal["probability", "logits"] | None = Field(None, description="How to read scores.")

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


class PredictSignature(_Section):
    """Tensors in, tensors out: REST `:predict`, gRPC `Predict`."""

    method: Literal["predict"]
    doc: str = ""
    inputs: dict[TensorName, InputContract] = Field(
        min_length=1, description="By name; a model with one input takes it under any name."
    )
    outputs: dict[TensorName, OutputContract] = Field(min_length=1)


class _ExampleSignature(_Section):
    doc: str = ""
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


class GoldenContract(_Section):
    """How close answers must come to those of the model itself."""

    atol: NonNegativeFloat = Field(1e-5, description="Absolute tolerance.")
    rtol: NonNegativeFloat = Field(1e-4, description="Relative tolerance, added to the absolute one.")
    rows: PositiveInt = Field(64, description="Rows that are made up where the source brings none.")
    label: TensorName | None = Field(
        None, description="Output of serving_default that labels are compared with: [N], or [N, classes] (arg max)."
    )
    min_accuracy: float | None = Field(None, ge=0, le=1, description="Least share of rows with the right label.")

    @model_validator(mode="after")
    def _accuracy_of_something(self) -> "GoldenContract":
        if self.min_accuracy is not None and self.label is None:
            raise ValueError("min_accuracy needs `label`, the output that is compared with the labels")
        return self


class ProbeContract(_Section):
    """What the behaviour is tried with."""

    batch_sizes: tuple[PositiveInt, ...] = Field((1, 2, 7, 32), min_length=1, description="Rows to try.")
    dims: dict[str, PositiveInt] = Field(default_factory=dict, description="Symbol other than N -> size to try.")
    atol: NonNegativeFloat = Field(1e-5, description="How far a row's answer may move when its batch changes.")
    rtol: NonNegativeFloat = Field(1e-4, description="The same, relative to the answer.")
    seed: NonNegativeInt = Field(0, description="Seed of rows that are made up.")


class Contract(_Section):
    """Everything in a contract's file."""

    format: Literal[1]
    doc: str = Field("", description="One or two sentences: what the model does, for people who call it.")
    signatures: dict[SignatureName, Signature] = Field(
        description="By name; serving_default (a predict signature) is called where a request names none."
    )
    golden: GoldenContract = Field(default_factory=GoldenContract)
    probe: ProbeContract = Field(default_factory=ProbeContract)
    forbid_ops: tuple[str, ...] = Field(FORBIDDEN_OPS, description="Ops that no signature may reach.")

    @model_validator(mode="after")
    def _parts_agree(self) -> "Contract":
        default = self.signatures.get(DEFAULT_SIGNATURE)
        if default is None or default.method != "predict":
            found = ", ".join(f"{name} ({s.method})" for name, s in self.signatures.items()) or "none"
            raise ValueError(f"signatures: serving_default with method: predict is needed, there are: {found}")
        faults = [
            *_faults_of_dims(self.signatures, self.probe.dims),
            *_faults_of_sources(self.signatures),
            *_faults_of_examples(self.signatures, default),
        ]
        if self.golden.label is not None and self.golden.label not in default.outputs:
            faults.append(f"golden.label: serving_default has no output {self.golden.label}; {_there(default.outputs)}")
        if faults:
            raise ValueError("\n".join(faults))
        return self

    @property
    def default(self) -> PredictSignature:
        """The signature serving_default."""
        signature = self.signatures[DEFAULT_SIGNATURE]
        assert isinstance(signature, PredictSignature)  # as validated
        return signature

    def features(self, signature: ClassifySignature | RegressSignature) -> dict[str, str]:
        """Give the tf.Example feature that carries each input of serving_default."""
        return {name: signature.features.get(name, name) for name in self.default.inputs}

    def classes(self, signature: ClassifySignature) -> tuple[str, ...]:
        """Give what each score of *signature* stands for."""
        count = self.default.outputs[signature.scores].shape[1]
        assert isinstance(count, int)  # as validated
        return signature.classes or tuple(map(str, range(count)))

    def inputs_of(self, name: str) -> Mapping[str, TensorContract]:
        """Give the input tensors of signature *name*, as they stand in its SignatureDef."""
        signature = self.signatures[name]
        if isinstance(signature, PredictSignature):
            return signature.inputs
        return {"inputs": TensorContract(dtype="string", shape=(ROWS,), doc=self._doc_of_examples(signature))}

    def outputs_of(self, name: str) -> Mapping[str, TensorContract]:
        """Give the output tensors of signature *name*, as they stand in its SignatureDef."""
        match self.signatures[name]:
            case PredictSignature() as signature:
                return signature.outputs
            case ClassifySignature() as signature:
                scores = self.default.outputs[signature.scores].model_copy(update={"dtype": "float32"})
                shape = (ROWS, scores.shape[1])
                return {"classes": TensorContract(dtype="string", shape=shape), "scores": scores}
            case RegressSignature() as signature:
                value = self.default.outputs[signature.value]
                return {"outputs": value.model_copy(update={"dtype": "float32", "shape": (ROWS,)})}

    def _doc_of_examples(self, signature: ClassifySignature | RegressSignature) -> str:
        carried = (
            f"{feature} ({math.prod(tensor.sizes({ROWS: 1}))} × {example_dtype(tensor.dtype)})"
            for feature, tensor in zip(self.features(signature).values(), self.default.inputs.values(), strict=True)
        )
        return f"tf.Example with {', '.join(carried)}"

    def signature_records(self) -> list[SignatureRecord]:
        """Tell the signatures as the report shows them."""
        return [
            SignatureRecord(
                name=name,
                method=signature.method,
                inputs=[_record(tensor, t) for tensor, t in self.inputs_of(name).items()],
                outputs=[_record(tensor, t) for tensor, t in self.outputs_of(name).items()],
            )
            for name, signature in self.signatures.items()
        ]

    def golden_part(self) -> str:
        """
        Give, as JSON, all that golden data depend on: changed tolerances or texts must not train again.

        A change of `doc`, of what outputs must look like, or of other signatures is not in it.
        """
        default = self.default.model_dump(
            mode="json",
            by_alias=True,
            include={"inputs": {"__all__": {"dtype", "shape", "range", "values"}}, "outputs": {"__all__": {"from_"}}},
        )
        parts = {
            "signature": default,
            "rows": self.golden.rows,
            "label": self.golden.label,
            "dims": self.probe.dims,
            "seed": self.probe.seed,
        }
        return json.dumps(parts, sort_keys=True)


def example_dtype(dtype: str) -> Literal["float32", "int64", "string"]:
    """Name the kind of tf.Example feature that carries *dtype*; there are three (example/feature.proto)."""
    if dtype == "string":
        return "string"
    return "float32" if dtype.startswith("float") else "int64"


def _record(name: str, tensor: TensorContract) -> TensorRecord:
    notes = [tensor.doc] if tensor.doc else []
    if tensor.range:
        notes.append(f"{tensor.range[0]:g} … {tensor.range[1]:g}")
    if isinstance(tensor, OutputContract):
        notes += [tensor.from_] if tensor.from_ else []
        notes += [tensor.meaning] if tensor.meaning else []
        notes += [f"rows sum to {tensor.row_sum:g}"] if tensor.row_sum is not None else []
    return TensorRecord(name=name, dtype=tensor.dtype, shape=list(tensor.shape), note="; ".join(notes))


def _there(names: Mapping[str, object]) -> str:
    return f"there are: {', '.join(names)}"


def _faults_of_dims(signatures: Mapping[str, Signature], dims: Mapping[str, int]) -> list[str]:
    used = {
        size: f"{name}.{side}.{tensor}"
        for name, signature in signatures.items()
        if isinstance(signature, PredictSignature)
        for side, tensors in (("inputs", signature.inputs), ("outputs", signature.outputs))
        for tensor, contract in tensors.items()
        for size in contract.shape
        if isinstance(size, str) and size != ROWS
    }
    missing = [
        f"probe.dims: no size to try for {size} (in {where})" for size, where in used.items() if size not in dims
    ]
    return missing + [f"probe.dims: no tensor has {size} in its shape" for size in dims if size not in used]


def _faults_of_sources(signatures: Mapping[str, Signature]) -> list[str]:
    return [
        f"signatures.{name}.outputs.{output}.from: is made from itself"
        for name, signature in signatures.items()
        if isinstance(signature, PredictSignature)
        for output in signature.outputs
        if _is_made_from_itself(output, signature.outputs)
    ]


def _is_made_from_itself(output: str, outputs: Mapping[str, OutputContract]) -> bool:
    seen = {output}
    function, argument = outputs[output].source(output)
    while function and argument in outputs:
        if argument in seen:
            return True
        seen.add(argument)
        function, argument = outputs[argument].source(argument)
    return False


def _faults_of_examples(signatures: Mapping[str, Signature], default: PredictSignature) -> list[str]:
    faults = []
    for name, signature in signatures.items():
        if isinstance(signature, PredictSignature):
            continue
        where = f"signatures.{name}"
        faults += [
            f"{where}.features: serving_default has no input {i}; {_there(default.inputs)}"
            for i in signature.features
            if i not in default.inputs
        ]
        faults += [
            f"{where}: input {i} has shape {list(t.shape)}, but a tf.Example carries fixed sizes only"
            for i, t in default.inputs.items()
            if any(isinstance(size, str) for size in t.shape[1:])
        ]
        key, output = ("scores", signature.scores) if signature.method == "classify" else ("value", signature.value)
        made_from = default.outputs.get(output)
        if made_from is None:
            faults.append(f"{where}.{key}: serving_default has no output {output}; {_there(default.outputs)}")
        elif isinstance(signature, ClassifySignature):
            classes = made_from.shape[1] if len(made_from.shape) == 2 else None
            if not isinstance(classes, int):
                faults.append(f"{where}.scores: {output} must have shape [N, classes], got {list(made_from.shape)}")
            elif signature.classes and len(signature.classes) != classes:
                faults.append(f"{where}.classes: {output} has {classes} scores, got {len(signature.classes)} classes")
        elif made_from.shape[1:] not in ((), (1,)):
            faults.append(f"{where}.value: {output} must have shape [N] or [N, 1], got {list(made_from.shape)}")
    return faults


def read_contract(path: Path) -> Contract:
    """
    Read the contract at *path*.

    Raises:
        SettingsError: If it is not there, is not YAML, or has faults: one line each.
    """
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        msg = f"{path}: no contract there ({error.strerror}). models.<name>.contract in the config names it."
        raise SettingsError(msg) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    try:
        return Contract.model_validate(found)
    except ValidationError as error:
        raise SettingsError("\n".join(fault_lines(error, str(path), "config/contract.schema.json"))) from error
