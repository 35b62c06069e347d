"""
The settings of a version's source: what is on disk, by kind, and what is needed to make a model of it.

Part of `slipway.settings`, as frozen values; here because each kind has keys of its own. `files()` says what a source
is made of, for Snakemake; whether those files are good is judged in `slipway.source_files`.
"""

import glob
import re
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Discriminator, Field, PositiveInt, Tag, model_validator

from slipway.train_settings import TrainSettings

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Builder = Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]
# As in a contract: tensor names become Python argument names inside TensorFlow.
TensorName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
# The grammar of op names (tensorflow/core/framework/node_def_util.cc, IsValidNodeName) and an output's number.
GraphTensor = Annotated[str, Field(pattern=r"^[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*(:[0-9]+)?$")]
Scalar = bool | int | float | str
FrozenValue = Scalar | list[Scalar] | list[list[Scalar]]

# Object stores and servers by which a source is fetched.
SCHEMES = ("https", "http", "s3", "gs")
ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.zst", ".zip")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_MOST_STATE_BYTES = 1 << 20
_LATEST = re.compile(r'^\s*model_checkpoint_path:\s*"([^"]+)"', re.MULTILINE)


class Section(BaseModel):
    """A part of the settings: unknown keys are faults, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class BuiltinSource(Section):
    """A model that Slipway trains itself, on real data that ships with scikit-learn."""

    kind: Literal["builtin"]
    name: Literal["digits"] = "digits"
    seed: int = Field(0, ge=0, description="Seed of every random number in the training.")
    epochs: PositiveInt = Field(15, description="Passes over the training rows.")

    def files(self) -> list[str]:
        """List the files it is made from: none."""
        return []


class FileSource(Section):
    """What a user has on disk."""

    path: Path = Field(
        description="The file (or checkpoint prefix), relative to the working directory; an archive (.tar, .tar.gz, .tgz, "
        ".tar.zst, .zip) around it; or the URL of a file or an archive (https://, s3://, gs://), which needs sha256."
    )
    url: str | None = Field(
        None, description="Where `path` is fetched from; written by itself where `path` is a URL.", min_length=1
    )
    sha256: Annotated[
        Annotated[Sha256, Tag("file")] | Annotated[dict[str, Sha256], Tag("files")],
        Discriminator(lambda given: "file" if isinstance(given, str) else "files"),
    ] = Field(
        default_factory=dict,
        description="SHA-256 that the file must have; or, for a source of several files, file name -> SHA-256, where "
        "files that are not named are not checked.",
    )
    inside: str | None = Field(
        None,
        pattern=r"^[^/].*$",
        description="The source in the archive, as a path in it; without it, the one source that the archive holds.",
    )
    golden: Path | None = Field(
        None,
        description="A .npz with golden input rows (and `labels`), named as the inputs of the default signature. "
        "Without it, rows are drawn at random within the contract's ranges.",
    )
    train: TrainSettings | None = Field(
        None, description="A script that makes the files; `path` and `golden` are looked up in what it leaves."
    )

    @model_validator(mode="before")
    @classmethod
    def _a_path_may_be_a_url(cls, given: Any) -> Any:
        """Keep the URL apart: from here on `path` is what the file is called."""
        if isinstance(given, dict) and isinstance(path := given.get("path"), str) and _URL.match(path):
            return given | {"path": url_name(path), "url": path}
        return given

    @model_validator(mode="after")
    def _what_is_fetched_is_known(self) -> "FileSource":
        if self.url is not None:
            scheme = urlsplit(self.url).scheme.lower()
            if scheme not in SCHEMES:
                there = ", ".join(f"{name}://" for name in SCHEMES)
                raise ValueError(f"path: {scheme}:// is not fetched; there are: {there}")
            if self.train is not None:
                raise ValueError(f"train: makes the files that `path` names, but that is a URL, {self.url}")
            if not self.path.name:
                raise ValueError(f"path: {self.url} names no file")
            if not isinstance(self.sha256, str):
                raise ValueError(f"sha256: the SHA-256 of the file is needed where it is fetched ({self.url})")
        if self.inside is not None and not self.is_archive:
            raise ValueError(f"inside: {self.path.name} is no archive; archives end in {', '.join(ARCHIVES)}")
        return self

    @property
    def is_archive(self) -> bool:
        """Whether the source is in an archive, by its name."""
        return self.path.name.lower().endswith(ARCHIVES)

    @property
    def digests(self) -> dict[str, str]:
        """Give file name -> SHA-256 of the files that are checked."""
        return {self.path.name: self.sha256} if isinstance(self.sha256, str) else self.sha256

    def model_files(self) -> list[str]:
        """List the files that the model is in; all that share the prefix, for a checkpoint in several files."""
        found = sorted(str(path) for path in self.path.parent.glob(f"{glob.escape(self.path.name)}.*"))
        return [str(self.path)] if self.path.exists() or not found else found

    def files(self) -> list[str]:
        """List the files it is made from, as far as they lie here: what is fetched or trained does not."""
        if self.train:
            return self.train.files()
        local = [] if self.url else [str(self.path)] if self.is_archive else self.model_files()
        return [*local, str(self.golden)] if self.golden else local


class _KerasFileSource(FileSource):
    loader: Literal["auto", "keras", "keras2"] = Field(
        "auto",
        description="Which Keras reads the file: keras (3), keras2 (tf_keras, `pip install slipway[keras2]`), or auto: "
        "the first of them that can.",
    )
    unsafe: bool = Field(
        default=False,
        description="Allow a file that carries Python code (Lambda layers) or reaches out of the graph: it is executed.",
    )


class KerasSource(_KerasFileSource):
    """A whole model in one file: `.keras`, or `.h5` written by Keras 2 or 3."""

    kind: Literal["keras"]


class _BuiltSource(FileSource):
    builder: Builder = Field(
        description="`module:function` that returns the model; imported from the working directory. "
        "A Keras model, or for a checkpoint a `tf.Module`."
    )

    def files(self) -> list[str]:
        """List the files it is made from; the builder's module too, where it lies below the working directory."""
        return [*super().files(), *_module_files(self.builder)]


class WeightsSource(_BuiltSource, _KerasFileSource):
    """Weights only (`.weights.h5`, or `.h5` of Keras 2), and the function that builds the model."""

    kind: Literal["weights"]
    by_name: bool = Field(
        default=False,
        description="Match layers by name, not by order; for `.h5` of Keras 2. Every layer with weights must be found.",
    )


class CheckpointSource(_BuiltSource):
    """A `tf.train.Checkpoint` prefix, and the function that builds what it restores."""

    kind: Literal["checkpoint"]
    root: str = Field("model", description="Name under which the checkpoint holds the model.")


# --- graphs: inputs and outputs are tensors with names ---------------------------------------------


class GraphSource(FileSource):
    """A graph whose inputs and outputs are tensors in it."""

    inputs: dict[TensorName, GraphTensor] = Field(
        default_factory=dict,
        description="The contract's name -> tensor in the graph (`Placeholder:0`; `:0` may be left out). Any tensor may "
        "be an input: what lies in front of it is cut off.",
    )
    outputs: dict[TensorName, GraphTensor] = Field(
        default_factory=dict, description="The contract's name -> tensor in the graph."
    )
    freeze_inputs: dict[GraphTensor, FrozenValue] = Field(
        default_factory=dict,
        description="Tensor that only training feeds -> the value it has for good, such as `Dropout: 1.0`.",
    )
    assets: list[Path] = Field(
        default_factory=list,
        description="Files that lookup tables of the graph are filled from; a graph names them by paths of the machine that "
        "made it, of which the file's name counts.",
    )

    def files(self) -> list[str]:
        """List the files it is made from, as far as they lie here; its assets, too."""
        return [*super().files(), *map(str, self.assets)]

    @model_validator(mode="after")
    def _an_input_is_fed_or_frozen(self) -> "GraphSource":
        tensors = [full_name(tensor) for tensor in self.inputs.values()]
        both = [tensor for tensor in self.freeze_inputs if full_name(tensor) in tensors]
        if both:
            raise ValueError(f"freeze_inputs: {both[0]} is among the inputs, too; it is fed or frozen, not both")
        if twice := sorted({tensor for tensor in tensors if tensors.count(tensor) > 1}):
            raise ValueError(f"inputs: {twice[0]} stands there twice")
        return self


class Tf1CheckpointSource(GraphSource):
    """
    A checkpoint of TensorFlow 1: `PREFIX.index` and `PREFIX.data-…` (or one file, before 2017), and its graph.

    The graph comes from `PREFIX.meta`, or from a function that builds it.
    """

    kind: Literal["tf1_checkpoint"]
    builder: Builder | None = Field(
        None,
        description="`module:function` that builds the graph in TensorFlow 1's default graph; imported from the working "
        "directory. Without it, PREFIX.meta is imported.",
    )
    moving_average: bool = Field(
        default=False,
        description="Take the ExponentialMovingAverage of each weight that has one, as evaluation does, instead of its "
        "last value.",
    )

    @property
    def prefix(self) -> Path:
        """The checkpoint: *path*, or the latest one where *path* is a directory with a `checkpoint` state file."""
        return latest_checkpoint(self.path) or self.path

    def model_files(self) -> list[str]:
        """List the files of the checkpoint, and the state file where that is what chooses it."""
        prefix = self.prefix
        beside = prefix.parent.glob(f"{glob.escape(prefix.name)}.*")
        found = sorted(path for path in beside if is_part_of(path, prefix))
        # A checkpoint of before 2017 is a file of the prefix's own name.
        files = [prefix, *found] if prefix.is_file() or not found else found
        state = [] if prefix == self.path else [self.path / "checkpoint"]
        return [str(path) for path in (*files, *state)]

    def files(self) -> list[str]:
        """List the files it is made from; the builder's module too, where it lies below the working directory."""
        return [*super().files(), *(_module_files(self.builder) if self.builder else [])]


class FrozenGraphSource(GraphSource):
    """A GraphDef with its weights as constants (`.pb`)."""

    kind: Literal["frozen_graph"]


class SavedModelSource(FileSource):
    """A SavedModel, of TensorFlow 1 or 2 or an Estimator, that gets other signatures; its weights stay as they are."""

    kind: Literal["saved_model"]
    path: Path = Field(
        description="The directory with `saved_model.pb`, relative to the working directory; an archive (.tar, .tar.gz, "
        ".tgz, .tar.zst, .zip) with it; or the URL of an archive (https://, s3://, gs://), which needs sha256."
    )
    tags: list[str] = Field(["serve"], description="Tags of the meta graph: all that it has.")
    signature: str = Field("serving_default", description="Signature that is the model.")
    inputs: dict[TensorName, str] = Field(
        default_factory=dict, description="The contract's name -> the signature's; without it, the same names."
    )
    outputs: dict[TensorName, str] = Field(
        default_factory=dict, description="The contract's name -> the signature's; without it, the same names."
    )
    freeze_inputs: dict[str, FrozenValue] = Field(
        default_factory=dict,
        description="Input of the signature -> the value it has for good, such as `dropout: 1.0`. In a SavedModel of "
        "TensorFlow 1 also a tensor in the graph.",
    )

    def model_files(self) -> list[str]:
        """List every file of the SavedModel that counts: not the requests it may hold for warm-up."""
        found = [str(path) for path in saved_model_files(self.path)]
        return found or [str(self.path)]


Source = Annotated[
    BuiltinSource
    | KerasSource
    | WeightsSource
    | CheckpointSource
    | Tf1CheckpointSource
    | FrozenGraphSource
    | SavedModelSource,
    Field(discriminator="kind"),
]


def url_name(url: str) -> str:
    """Give what the file at *url* is called: the last part of its path."""
    return PurePosixPath(unquote(urlsplit(url).path)).name


def training_of(source: Source) -> TrainSettings | None:
    """Give what makes the files of *source*; None where they are there."""
    return None if isinstance(source, BuiltinSource) else source.train


def located(source: Source, directory: Path) -> Source:
    """Give *source* as it is once its training, if it has one, has left its files in *directory*."""
    if isinstance(source, BuiltinSource) or source.train is None:
        return source
    golden = directory / source.golden if source.golden else None
    return source.model_copy(update={"train": None, "path": directory / source.path, "golden": golden})


def full_name(tensor: str) -> str:
    """Give the tensor that people mean by an op's name: its first output."""
    return tensor if ":" in tensor else f"{tensor}:0"


def latest_checkpoint(directory: Path) -> Path | None:
    """
    Give the checkpoint that the state file in *directory* names as the latest; None where there is none.

    A path in it that was absolute means a place on the machine of the training: the file's name counts.
    """
    state = directory / "checkpoint"
    try:
        # A file of that name may be anything, and of any size.
        if not state.is_file():
            return None
        with state.open("rb") as file:
            found = _LATEST.search(file.read(_MOST_STATE_BYTES).decode(errors="replace"))
    except OSError:
        return None
    return directory / (Path(found[1]).name if Path(found[1]).is_absolute() else found[1]) if found else None


def is_part_of(path: Path, prefix: Path) -> bool:
    """Tell whether *path* is a file of the checkpoint *prefix*; `model.ckpt-1.meta` is none of `model.ckpt`."""
    ending = path.name.removeprefix(prefix.name)
    return ending in {".index", ".meta"} or ending.startswith(".data-")


def saved_model_files(directory: Path) -> list[Path]:
    """List the files of the SavedModel in *directory* that make the model: graph, variables, assets; sorted."""
    parts = [directory / "saved_model.pb", directory / "saved_model.pbtxt"]
    inner = [path for part in ("variables", "assets") for path in sorted((directory / part).rglob("*"))]
    return [path for path in (*parts, *inner) if path.is_file()]


def _module_files(builder: str) -> list[str]:
    module = Path(*builder.split(":", maxsplit=1)[0].split("."))
    return [str(path) for path in (module.with_suffix(".py"), module / "__init__.py") if path.is_file()]
