"""The whole contract, as its YAML file has it."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    model_validator,
)

from slipway.contract.faults import (
    faults_of_dims,
    faults_of_examples,
    faults_of_forms,
    faults_of_own_form,
    faults_of_sources,
    there,
)
from slipway.contract.forms import FeatureForm
from slipway.contract.sections import Section
from slipway.contract.signatures import (
    DEFAULT_SIGNATURE,
    Alias,
    ClassifySignature,
    Determinism,
    PredictSignature,
    RegressSignature,
    Signature,
    SignatureName,
)
from slipway.contract.tensors import ROWS, InputContract, OutputContract, TensorContract, TensorName, example_dtype
from slipway.contract.words import DIRECTORY, KNOWN, PUBLISHED, Vocabulary, Words, lines_of
from slipway.contract.written import written_out
from slipway.errors import SettingsError
from slipway.records import SignatureRecord, TensorRecord
from slipway.settings import fault_lines

# libyaml, where it is there: with a contract for each of a thousand models the pure parser takes eight seconds.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# Ops that draw by chance; each is what a training graph leaves behind in an export, such as a Dropout that stays live. Those
# that are given their seed are among them: what they draw depends on a row's place in its batch.
# What reaches outside the model (files, processes, other hosts) is for `slipway.op_policy` to refuse.
FORBIDDEN_OPS = (
    "AllCandidateSampler",
    "ExperimentalRandomDataset",
    "FixedUnigramCandidateSampler",
    "GlobalShuffleDataset",
    "LearnedUnigramCandidateSampler",
    "LogUniformCandidateSampler",
    "Multinomial",
    "ParameterizedTruncatedNormal",
    "RandomCrop",
    "RandomDataset",
    "RandomDatasetV2",
    "RandomGamma",
    "RandomPoisson",
    "RandomPoissonV2",
    "RandomShuffle",
    "RandomStandardNormal",
    "RandomUniform",
    "RandomUniformInt",
    "RiscRandomUniform",
    "RngReadAndSkip",
    "RngSkip",
    "ShuffleAndRepeatDataset",
    "ShuffleAndRepeatDatasetV2",
    "ShuffleDataset",
    "ShuffleDatasetV2",
    "ShuffleDatasetV3",
    "StatefulRandomBinomial",
    "StatefulStandardNormal",
    "StatefulStandardNormalV2",
    "StatefulTruncatedNormal",
    "StatefulUniform",
    "StatefulUniformFullInt",
    "StatefulUniformInt",
    "StatelessMultinomial",
    "StatelessParameterizedTruncatedNormal",
    "StatelessRandomBinomial",
    "StatelessRandomGammaV2",
    "StatelessRandomGammaV3",
    "StatelessRandomNormal",
    "StatelessRandomNormalV2",
    "StatelessRandomPoisson",
    "StatelessRandomUniform",
    "StatelessRandomUniformFullInt",
    "StatelessRandomUniformFullIntV2",
    "StatelessRandomUniformInt",
    "StatelessRandomUniformIntV2",
    "StatelessRandomUniformV2",
    "StatelessShuffle",
    "StatelessTruncatedNormal",
    "StatelessTruncatedNormalV2",
    "ThreadUnsafeUnigramCandidateSampler",
    "TruncatedNormal",
    "UniformCandidateSampler",
    "XlaRngBitGenerator",
)


class GoldenContract(Section):
    """How close answers must come to those of the model itself."""

    atol: NonNegativeFloat = Field(1e-5, description="Absolute tolerance.")
    rtol: NonNegativeFloat = Field(1e-4, description="Relative tolerance, added to the absolute one.")
    rows: PositiveInt = Field(64, description="Rows that are made up where the source brings none.")
    signature: SignatureName = Field(
        DEFAULT_SIGNATURE, description="The predict signature that golden data are about: the model's own form."
    )
    label: TensorName | None = Field(
        None, description="Output of that signature that labels are compared with: [N], or [N, classes] (arg max)."
    )
    min_accuracy: float | None = Field(None, ge=0, le=1, description="Least share of rows with the right label.")

    @model_validator(mode="after")
    def _accuracy_of_something(self) -> "GoldenContract":
        if self.min_accuracy is not None and self.label is None:
            raise ValueError("min_accuracy needs `label`, the output that is compared with the labels")
        return self


class ProbeContract(Section):
    """What the behaviour is tried with."""

    batch_sizes: tuple[NonNegativeInt, ...] = Field(
        (1, 2, 7, 32), min_length=1, description="Rows to try; 0 is a request without rows."
    )
    dims: dict[str, PositiveInt] = Field(default_factory=dict, description="Symbol other than N -> size to try.")
    atol: NonNegativeFloat = Field(1e-5, description="How far a row's answer may move when its batch changes.")
    rtol: NonNegativeFloat = Field(1e-4, description="The same, relative to the answer.")
    seed: NonNegativeInt = Field(0, description="Seed of rows that are made up.")


# Aliases are in the file and in its JSON Schema only: `written_out` puts signatures in their place.
Signatures = Annotated[
    dict[SignatureName, Signature],
    BeforeValidator(lambda value: value, json_schema_input_type=dict[SignatureName, Signature | Alias]),
]


class Contract(Section):
    """Everything in a contract's file."""

    format: Literal[1]
    doc: str = Field("", description="One or two sentences: what the model does, for people who call it.")
    signatures: Signatures = Field(
        description="By name; serving_default is called where a request names none. An alias gives another name."
    )
    golden: GoldenContract = Field(default_factory=GoldenContract)
    probe: ProbeContract = Field(default_factory=ProbeContract)
    deterministic: Determinism = Field(
        "within_tolerance",
        description="What the same question gets twice: the same bits (bitwise), answers as near as the probe's "
        "tolerances (within_tolerance), or others by chance (false; then forbid_ops is not asked).",
    )
    row_independent: bool = Field(
        default=True,
        description="Whether a row's answer is the same whoever shares its batch. false: the server must not put "
        "requests together, so `server.batching` must be null.",
    )
    max_rows: PositiveInt | None = Field(
        None, description="Most rows that the model takes at once; `server.batching.max_batch_size` must not be more."
    )
    forbid_ops: tuple[str, ...] = Field(FORBIDDEN_OPS, description="Ops that no deterministic signature may reach.")
    allow_ops: dict[str, Annotated[str, Field(min_length=1)]] = Field(
        default_factory=dict,
        description="Op that the policy refuses -> why this model needs it. /job:NAME stands for a device elsewhere.",
    )

    @model_validator(mode="before")
    @classmethod
    def _written_out(cls, contract: Any) -> Any:
        return written_out(contract)

    @model_validator(mode="after")
    def _parts_agree(self) -> "Contract":
        faults_of_form = faults_of_own_form(self.signatures, self.golden.signature)
        if faults_of_form:
            raise ValueError("\n".join(faults_of_form))
        default, own = self.default, self.golden.signature
        faults = [
            *faults_of_dims(self.signatures, self.probe.dims),
            *faults_of_sources(self.signatures),
            *faults_of_forms(self.signatures, own, default),
            *faults_of_examples(self.signatures, own, default),
        ]
        if self.golden.label is not None and self.golden.label not in default.outputs:
            faults.append(f"golden.label: {own} has no output {self.golden.label}; {there(default.outputs)}")
        if faults:
            raise ValueError("\n".join(faults))
        return self

    @property
    def default(self) -> PredictSignature:
        """The model's own form: the predict signature that golden data are about."""
        signature = self.signatures[self.golden.signature]
        assert isinstance(signature, PredictSignature)  # as validated
        return signature

    def determinism_of(self, name: str) -> Determinism:
        """Give what the same question to signature *name* gets twice."""
        own = self.signatures[name].deterministic
        return self.deterministic if own is None else own

    def rows_are_apart(self, name: str) -> bool:
        """Say whether a row's answer of signature *name* is the same whoever shares its batch."""
        own = self.signatures[name].row_independent
        return self.row_independent if own is None else own

    @property
    def batch_sizes(self) -> list[int]:
        """Rows to try, least first: the probe's, as far as the model takes them; and the most that it takes."""
        sizes = set(self.probe.batch_sizes)
        return sorted({size for size in sizes if size <= self.max_rows} | {self.max_rows} if self.max_rows else sizes)

    def tolerance(self, name: str, output: str) -> tuple[float, float]:
        """Give how close *output* of signature *name* must come to golden answers: absolute, relative."""
        own = self.outputs_of(name)[output]
        atol, rtol = (own.atol, own.rtol) if isinstance(own, OutputContract) else (None, None)
        return self.golden.atol if atol is None else atol, self.golden.rtol if rtol is None else rtol

    def takes_examples(self) -> bool:
        """Whether the model itself parses tf.Examples."""
        return any(tensor.example for tensor in self.default.inputs.values())

    def feature_forms(self, features: Mapping[str, str | FeatureForm]) -> dict[str, FeatureForm]:
        """Give how each input of the model's own form is carried by tf.Examples, where *features* names some."""
        if self.takes_examples():
            return {}
        return {
            name: FeatureForm(feature=form) if isinstance(form, str) else form
            for name, form in ((name, features.get(name, name)) for name in self.default.inputs)
        }

    def features(self, signature: ClassifySignature | RegressSignature) -> dict[str, str]:
        """Give the tf.Example feature that carries each input of the model's own form."""
        return {name: form.feature or name for name, form in self.feature_forms(signature.features).items()}

    def classes(self, signature: ClassifySignature) -> tuple[str, ...]:
        """Give what each score of *signature* stands for."""
        count = self.default.outputs[signature.scores].shape[1]
        assert isinstance(count, int)  # as validated
        return lines_of(signature.classes) if signature.classes else tuple(map(str, range(count)))

    def word_files(self) -> list[Path]:
        """List the text files that it names: class names and vocabularies."""
        return sorted({words.path for words in words_in(self) if words.path is not None})

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
                made_from = self.default.outputs[signature.scores]
                shape = (ROWS, signature.top_k or made_from.shape[1])
                scores = made_from.model_copy(update={"dtype": "float32", "shape": shape})
                return {"classes": TensorContract(dtype="string", shape=shape), "scores": scores}
            case RegressSignature() as signature:
                value = self.default.outputs[signature.value]
                return {"outputs": value.model_copy(update={"dtype": "float32", "shape": (ROWS,)})}

    def _doc_of_examples(self, signature: ClassifySignature | RegressSignature) -> str:
        if self.takes_examples():
            return next(_doc_of_example(t) for t in self.default.inputs.values() if t.example)
        return self._doc_of_features(signature.features)

    def _doc_of_features(self, features: Mapping[str, str | FeatureForm]) -> str:
        carried = (
            f"{form.feature or name} ({_doc_of_feature(form, self.default.inputs[name])})"
            for name, form in self.feature_forms(features).items()
        )
        return f"tf.Example with {', '.join(carried)}"

    def _told(self, tensor: TensorContract) -> TensorContract:
        """Give an input with what its strings hold in its `doc`, where its user has not said."""
        if not isinstance(tensor, InputContract) or tensor.doc:
            return tensor
        if tensor.example:
            return tensor.model_copy(update={"doc": _doc_of_example(tensor)})
        if tensor.features is not None:
            return tensor.model_copy(update={"doc": self._doc_of_features(tensor.features)})
        if tensor.vocabulary is not None:
            return tensor.model_copy(update={"doc": f"words of a vocabulary of {len(tensor.vocabulary.lines):,}"})
        return tensor.model_copy(update={"doc": "an encoded picture"}) if tensor.image is not None else tensor

    def signature_records(self) -> list[SignatureRecord]:
        """Tell the signatures as the report shows them."""
        return [
            SignatureRecord(
                name=name,
                method=signature.method,
                inputs=[_record(tensor, self._told(t)) for tensor, t in self.inputs_of(name).items()],
                outputs=[_record(tensor, t) for tensor, t in self.outputs_of(name).items()],
            )
            for name, signature in self.signatures.items()
        ]

    def published(self) -> dict[str, Any]:
        """
        Give it as JSON that stands by itself, for the next one to be compared with: lists of words are in it, not their files.

        Long lists are in it by count and digest: `read_contract` takes those where it is told that the contract is known.
        """
        left_out = {"forbid_ops"} if self.forbid_ops == FORBIDDEN_OPS else set()
        return self.model_dump(
            mode="json", by_alias=True, exclude_none=True, exclude=left_out, context={PUBLISHED: True}
        )

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
        if self.max_rows is not None:
            # The batches in which golden rows are answered.
            parts["max_rows"] = self.max_rows
        if forms := self._forms_part():
            parts["forms"] = forms
        return json.dumps(parts, sort_keys=True)

    def _forms_part(self) -> list[Any]:
        """What else golden data depend on: Examples that are drawn, class names, and what other forms can carry."""
        own = self.default
        parts: list[Any] = [t.model_dump(mode="json", include={"example"}) for t in own.inputs.values() if t.example]
        parts += [_digest(output.class_names) for output in own.outputs.values() if output.class_names]
        for signature in self.signatures.values():
            parts += [
                form.model_dump(mode="json", include={"to", "image", "vocabulary", "features"})
                for form in (signature.inputs.values() if isinstance(signature, PredictSignature) else [signature])
                if not isinstance(form, InputContract) or form.is_form
            ]
        parts = [part for part in parts if part != {"features": {}}]
        parts += [_digest(words.lines) for words in words_in(self) if isinstance(words, Vocabulary)]
        return parts


def _digest(lines: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def words_in(part: Any) -> Iterator[Words | Vocabulary]:
    """Find all lists of words that a contract, or a part of it, names or has."""
    if isinstance(part, Words | Vocabulary):
        yield part
    elif isinstance(part, BaseModel):
        for name in type(part).model_fields:
            yield from words_in(getattr(part, name))
    elif isinstance(part, Mapping):
        for value in part.values():
            yield from words_in(value)


def _doc_of_feature(form: FeatureForm, tensor: TensorContract) -> str:
    if form.image is not None:
        return "1 × string: a picture"
    kind = "string" if form.vocabulary is not None else example_dtype(tensor.dtype)
    if form.pad is not None:
        return f"any × {kind}"
    return f"{math.prod(tensor.sizes({ROWS: 1}))} × {kind}"


def _doc_of_example(tensor: InputContract) -> str:
    """Say what is in the tf.Examples that the model parses itself."""
    told = []
    for name, feature in (tensor.example or {}).items():
        count = f"{feature.count[0]} to {feature.count[1]}" if feature.count else str(math.prod(feature.shape))
        told.append(f"{name} ({count} × {feature.dtype}{', may be absent' if feature.default is not None else ''})")
    return f"tf.Example with {', '.join(told)}"


def _record(name: str, tensor: TensorContract) -> TensorRecord:
    notes = [tensor.doc] if tensor.doc else []
    if tensor.range:
        notes.append(f"{tensor.range[0]:g} … {tensor.range[1]:g}" + (f" {tensor.units}" if tensor.units else ""))
    elif tensor.units:
        notes.append(f"in {tensor.units}")
    if isinstance(tensor, OutputContract):
        notes += [tensor.from_] if tensor.from_ else []
        notes += [tensor.meaning] if tensor.meaning else []
        notes += [f"rows sum to {tensor.row_sum:g}"] if tensor.row_sum is not None else []
    return TensorRecord(name=name, dtype=tensor.dtype, shape=list(tensor.shape), note="; ".join(notes))


def read_contract(path: Path, *, known: bool = False) -> Contract:
    """
    Read the contract at *path*.

    Args:
        path: The file.
        known: Whether it is only compared with: then lists may be there by count and digest, as they are published.

    Raises:
        SettingsError: If it is not there, is not YAML, or has faults: one line each.
    """
    try:
        found = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506 - a safe loader, in C
    except OSError as error:
        msg = f"{path}: no contract there ({error.strerror}). models.<name>.contract in the config names it."
        raise SettingsError(msg) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    try:
        return Contract.model_validate(found, context={DIRECTORY: path.parent, KNOWN: known})
    except ValidationError as error:
        raise SettingsError("\n".join(fault_lines(error, str(path), "config/contract.schema.json"))) from error
