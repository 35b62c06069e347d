"""What a path holds, in the words of its users, and which `kind` of source imports it."""

import glob
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from slipway import files
from slipway.archives import kind_of_archive
from slipway.detection import graphs, keras_files, tensor_bundle
from slipway.detection.graphs import GraphFile
from slipway.errors import SourceError
from slipway.source_settings import is_part_of, latest_checkpoint
from slipway_wire import signatures
from slipway_wire.signatures import SAVED_MODEL_FILE
from slipway_wire.status import WireError

Kind = Literal["keras", "weights", "checkpoint", "tf1_checkpoint", "frozen_graph", "saved_model"]

_HUB_FILE = "tfhub_module.pb"
_SAVED_MODEL_TEXT = "saved_model.pbtxt"
_ESTIMATOR_KEYS = {"predict", "classification", "regression"}
_STEP = re.compile(r"-(\d+)\Z")
_SHARD = re.compile(r"(.+)\.data-\d{5}-of-\d{5}\Z")
_LEVELS = ("here", "one level down", "two levels down", "three levels down")
_MOST_ENTRIES = 5000
# Ends of a training graph that nobody serves.
_TRAINING = re.compile(
    r"^(save|init|gradients|report_uninitialized|group_deps|concat_\d)|(^|/)(Adam|Momentum|Assign|Initializer|Is(Variable)?Initialized|VarIsInitialized|cond|Merge/MergeSummary)",
    re.IGNORECASE,
)
_LFS = b"version https://git-lfs"
# What a file is by its first bytes, where no kind of source reads it.
_OTHERS = (
    (_LFS, "a pointer of Git LFS, and not the file itself", "Run `git lfs pull`."),
    (b"<!DOCTYPE", "a web page, and not a model", "Was it downloaded from a page instead of a file?"),
    (b"<html", "a web page, and not a model", "Was it downloaded from a page instead of a file?"),
    (b"\x80\x02", "a Python pickle", "Slipway reads no pickles: they run code. Save the model in a format of TensorFlow."),
    (b"\x80\x04", "a Python pickle", "Slipway reads no pickles: they run code. Save the model in a format of TensorFlow."),
    (b"\x93NUMPY", "an array of numpy", "Golden data are a .npz; a model is something else."),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Found:
    """
    What a path holds.

    Attributes:
        words: What it is, such as `a TF1 checkpoint without .meta: model.ckpt-157585 (3 tensors, step 157585)`.
        path: What a source names as `path`: a file, a directory, or the prefix of a checkpoint.
        kind: The kind of source that imports it; None if none does.
        advice: What to do with it, a sentence; "" where its kind says all.
        step: Step of the training, where the name tells it.
        keys: More keys that its source needs, key -> an example or a value found.
        is_damaged: Whether it is known, and something of it is missing.
    """

    words: str
    path: Path
    kind: Kind | None = None
    advice: str = ""
    step: int | None = None
    keys: dict[str, object] = field(default_factory=dict)
    is_damaged: bool = False

    def next_step(self) -> str:
        """Say what to do with it, in one clause."""
        if self.advice:
            return self.advice
        needs = [key for key, value in self.keys.items() if isinstance(value, str) and value.endswith("…")]
        wanted = f" with {' and '.join(needs)}" if needs else ""
        return f"Write kind: {self.kind}{wanted}, path: {self.path}."


def detect(path: Path) -> Found:
    """
    Tell what is at *path*, whatever it is; None of its code is executed.

    Raises:
        SourceError: If nothing is there, it cannot be read, or is damaged so that it is nothing any more.
    """
    try:
        if path.is_dir():
            return _directory(path)
        if not path.exists():
            return _prefix(path)
        files.refuse_special(path)
        return _file(path)
    except OSError as error:
        raise SourceError(f"{error.filename or path}: cannot be read ({error.strerror}). Correct the path.") from error
    except WireError as error:
        raise SourceError(str(error)) from error


def find_all(directory: Path) -> list[Found]:
    """List every source below *directory*, such as an archive that was unpacked; those of SavedModels are not told twice."""
    found: list[Found] = []
    for place in sorted({directory, *(path for path in _below(directory) if path.is_dir())}):
        if any(one.path in place.parents for one in found if one.kind == "saved_model"):
            continue
        if _saved_model_file(place):
            found.append(detect(place))
            continue
        found += [_checkpoint(prefix) for prefix in _prefixes(place)]
        for path in sorted(place.iterdir()):
            if path.is_file() and not _is_part_of_a_checkpoint(path):
                one = detect(path)
                found += [one] if one.kind else []
    return found


def misfit(expected: str, path: Path) -> str:
    """Say in one line that *path* is not what was *expected*, what it is instead, and what to do."""
    found = detect(path)
    if found.is_damaged:
        return f"{path}: this is {found.words}. {found.next_step()}"
    return f"{path}: expected {expected}; this is {found.words}. {found.next_step()}"


# --- directories -----------------------------------------------------------------------------------


def _directory(path: Path) -> Found:
    if _saved_model_file(path):
        return _saved_model(path)
    if prefixes := _prefixes(path):
        return _checkpoints(path, prefixes)
    versions = sorted((int(p.name), p) for p in _children(path) if p.name.isdigit() and _saved_model_file(p))
    if versions:
        newest = _saved_model(versions[-1][1])
        listed = ", ".join(str(number) for number, _ in versions)
        return Found(
            f"a base path with versions {listed}; the newest is {newest.words}",
            newest.path,
            newest.kind,
            advice=f"Write kind: saved_model, path: {newest.path}.",
            keys=newest.keys,
        )
    children = _children(path)
    if not children:
        return Found("an empty directory", path, advice="Is it the right path?")
    files = [child for child in children if child.is_file() and not child.name.startswith(".")]
    told = [(file, one) for file in files if (one := _told(file)).kind]
    if len(told) == 1:
        return told[0][1]
    if told:
        names = ", ".join(f"{file.name} ({one.kind})" for file, one in told[:5])
        return Found(f"a directory with {len(told)} sources: {names}", path, advice="Give one of them as `path`.")
    if deeper := _deeper(path):
        return deeper
    if _is_alone(path, "keras_metadata.pb"):
        return Found("a SavedModel of Keras without its saved_model.pb", path, advice="Copy all files of it.")
    names = ", ".join(child.name for child in children[:5])
    what = files[0] if len(files) == 1 else None
    if what is not None and (one := _told(what)).words:
        return one
    return Found(
        f"a directory with {names}{' …' if len(children) > 5 else ''}", path, advice="It holds no model known here."
    )


def _told(path: Path) -> Found:
    try:
        return detect(path)
    except SourceError as error:
        return Found(str(error), path)


def _children(path: Path) -> list[Path]:
    return sorted(path.iterdir())


def _is_alone(path: Path, name: str) -> bool:
    return (path / name).is_file()


def _below(directory: Path) -> Iterator[Path]:
    """Walk what is below *directory*, nearest first, up to a number that no model has."""
    pending, count = [directory], 0
    while pending:
        place = pending.pop(0)
        for child in _children(place):
            count += 1
            if count > _MOST_ENTRIES:
                return
            yield child
            if child.is_dir() and not child.is_symlink():
                pending.append(child)


def _deeper(path: Path) -> Found | None:
    for child in _below(path):
        depth = len(child.relative_to(path).parts)
        if depth > len(_LEVELS) - 1:
            return None
        if not child.is_dir():
            continue
        found = None
        if _saved_model_file(child):
            found = _saved_model(child)
        elif prefixes := _prefixes(child):
            found = _checkpoints(child, prefixes)
        if found:
            what = "a SavedModel" if found.kind == "saved_model" else found.words
            words = f"a directory without a model of its own; found {what} {_LEVELS[depth]} at {found.path}"
            advice = f"Give {found.path} as `path`; to be served it must lie at MODEL/VERSION, no deeper."
            return Found(words, found.path, found.kind, advice, found.step, found.keys)
    return None


# --- checkpoints -----------------------------------------------------------------------------------


def _prefixes(directory: Path) -> list[Path]:
    """List the checkpoints in *directory*, by step; `variables` of a SavedModel is none that anybody imports."""
    found = [path.with_suffix("") for path in directory.glob("*.index")]
    if directory.name == "variables":
        found = [path for path in found if path.name != "variables" or not _saved_model_file(directory.parent)]
    return sorted(found, key=lambda path: (_step(path) or 0, path.name))


def _step(prefix: Path) -> int | None:
    found = _STEP.search(prefix.name)
    return int(found[1]) if found else None


def _is_part_of_a_checkpoint(path: Path) -> bool:
    return path.suffix in {".index", ".meta"} or bool(_SHARD.match(path.name)) or path.name == "checkpoint"


def _checkpoints(directory: Path, prefixes: list[Path]) -> Found:
    latest = latest_checkpoint(directory)
    chosen = latest if latest in prefixes else prefixes[-1]
    found = _checkpoint(chosen)
    if len(prefixes) == 1:
        return found
    others = ", ".join(prefix.name for prefix in prefixes if prefix != chosen)
    return Found(
        f"{found.words}, the latest of {len(prefixes)} (beside {others})",
        found.path, found.kind, found.advice, found.step, found.keys,
    )  # fmt: skip


def _prefix(path: Path) -> Found:
    if path.with_name(f"{path.name}.index").is_file():
        return _checkpoint(path)
    if path.with_name(f"{path.name}.meta").is_file():
        return _checkpoint_without_index(path)
    if list(path.parent.glob(f"{glob.escape(path.name)}.data-*-of-*")):
        return _checkpoint_without_index(path)
    if not path.parent.is_dir():
        raise SourceError(f"{path}: there is nothing at this path, nor a directory {path.parent}. Correct the path.")
    if near := _prefixes(path.parent):
        told = ", ".join(str(prefix) for prefix in near[-5:])
        raise SourceError(f"{path}: there is nothing at this path. Checkpoints beside it: {told}.")
    raise SourceError(f"{path}: there is nothing at this path. Correct it.")


def _checkpoint_without_index(prefix: Path) -> Found:
    missing = f"{prefix.name}.index"
    return Found(
        f"a part of a checkpoint, whose {missing} is missing",
        prefix,
        advice="Copy all files of the checkpoint.",
        is_damaged=True,
    )


def refuse_pointer(path: Path) -> None:
    """Raise SourceError if Git LFS has left a pointer in the place of the file at *path*, as it does without `git lfs pull`."""
    try:
        with path.open("rb") as file:
            head = file.read(len(_LFS))
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror}). Make it readable, or copy it again.") from error
    if head == _LFS:
        raise SourceError(f"{path}: a pointer of Git LFS, and not the file itself. Run `git lfs pull`.")


def _checkpoint(prefix: Path) -> Found:
    for path in sorted(prefix.parent.glob(f"{glob.escape(prefix.name)}.*")):
        if path.is_file() and is_part_of(path, prefix):
            refuse_pointer(path)
    bundle = tensor_bundle.read_index(prefix.with_name(f"{prefix.name}.index"))
    step = _step(prefix)
    told = f"{len(bundle.tensors)} tensors" + (f", step {step}" if step is not None else "")
    if missing := missing_shards(prefix, bundle):
        words = f"a checkpoint of which {missing[0]}: {prefix.name} ({told})"
        return Found(words, prefix, advice="Copy all files of the checkpoint.", step=step, is_damaged=True)
    if bundle.is_object_based:
        roots = sorted({name.split("/")[0] for name in bundle.tensors} - {tensor_bundle.OBJECT_GRAPH, "save_counter"})
        root: dict[str, object] = {} if "model" in roots or not roots else {"root": roots[0]}
        return Found(
            f"a TF2 checkpoint of objects: {prefix.name} ({told}; it holds {', '.join(roots) or 'nothing'})",
            prefix, "checkpoint", step=step, keys={"builder": "module:function that builds the model …"} | root,
        )  # fmt: skip
    meta = prefix.with_name(f"{prefix.name}.meta")
    if not meta.is_file():
        return Found(
            f"a TF1 checkpoint without .meta: {prefix.name} ({told})",
            prefix, "tf1_checkpoint", step=step,
            keys={"builder": "module:function that builds the graph …"} | _ends(GraphFile("graph")),
        )  # fmt: skip
    graph = graphs.read_graph_file(meta)
    if graph is None or graph.kind != "meta graph":
        return Found(
            f"a TF1 checkpoint whose .meta is damaged: {prefix.name} ({told})",
            prefix, "tf1_checkpoint", step=step,
            advice="Copy the .meta again, or write kind: tf1_checkpoint with builder.",
        )  # fmt: skip
    return Found(f"a TF1 checkpoint: {prefix.name} ({told})", prefix, "tf1_checkpoint", step=step, keys=_ends(graph))


def missing_shards(prefix: Path, bundle: tensor_bundle.Bundle) -> list[str]:
    """Say which data files of the checkpoint are missing or cut off, by what its index says of them."""
    faults = []
    for shard in range(bundle.shards):
        path = prefix.with_name(f"{prefix.name}.data-{shard:05}-of-{bundle.shards:05}")
        if not path.is_file():
            faults.append(f"{path.name} is not there")
        elif (size := path.stat().st_size) < (wanted := bundle.shard_bytes(shard)):
            faults.append(f"{path.name} is cut off ({size} of {wanted} bytes)")
    return faults


def _ends(graph: GraphFile) -> dict[str, object]:
    """Guess inputs and outputs: placeholders, and what no other node takes."""
    inputs = {_argument(name): f"{name}:0" for name in graph.placeholders[:8] if not _TRAINING.search(name)}
    outputs = {_argument(name): f"{name}:0" for name in graph.ends if not _TRAINING.search(name)}
    return {
        "inputs": inputs or {"x": "its tensor, such as Placeholder:0 …"},
        "outputs": dict(list(outputs.items())[:4]) or {"y": "its tensor, such as Softmax:0 …"},
    }


def _argument(name: str) -> str:
    """Make a name that a contract can use of one in a graph: its last part."""
    last = re.sub(r"\W", "_", name.rsplit("/", maxsplit=1)[-1])
    return last if re.match(r"[A-Za-z_]", last) else f"x_{last}"


# --- SavedModels -----------------------------------------------------------------------------------


def _saved_model_file(path: Path) -> bool:
    return (path / SAVED_MODEL_FILE).is_file() or (path / _SAVED_MODEL_TEXT).is_file()


def _saved_model(path: Path) -> Found:
    file = path / SAVED_MODEL_FILE
    if not file.is_file():
        return Found("a SavedModel as text (saved_model.pbtxt)", path, "saved_model")
    refuse_pointer(file)
    graph = graphs.read_graph_file(file)
    if graph is None or graph.kind != "saved model":
        raise SourceError(f"{file}: no SavedModel, or damaged ({_size(file)}). Copy or export it again.")
    saved_model = signatures.read_saved_model(path)
    tags = [sorted(meta_graph.meta_info_def.tags) for meta_graph in saved_model.meta_graphs]
    if (path / _HUB_FILE).is_file():
        return Found(
            "a TF-Hub module in the format of TensorFlow 1",
            path, "saved_model",
            keys={"tags": tags[0], "signature": "default"} if tags else {},
        )  # fmt: skip
    wanted = ["serve"] if ["serve"] in tags or not tags else tags[0]
    found = signatures.read_signatures(path, tuple(wanted)) if tags else {}
    names = sorted(name for name in found if not name.startswith("__"))
    told = f"signatures {', '.join(names)}" if names else "no signatures"
    keys: dict[str, object] = {} if wanted == ["serve"] else {"tags": wanted}
    if names and "serving_default" not in names:
        keys["signature"] = names[0]
    inner = _bundle_fault(path)
    if graph.has_objects:
        return Found(f"a SavedModel in the format of TensorFlow 2 ({told}{inner})", path, "saved_model", keys=keys)
    if _ESTIMATOR_KEYS & set(names):
        if "predict" in names:
            keys["signature"] = "predict"
        return Found(
            f"the export of an Estimator, a SavedModel of TensorFlow 1 ({told}{inner})", path, "saved_model", keys=keys
        )
    return Found(f"a SavedModel in the format of TensorFlow 1 ({told}{inner})", path, "saved_model", keys=keys)


def _bundle_fault(path: Path) -> str:
    prefix = path / "variables/variables"
    index = prefix.with_name("variables.index")
    if not index.is_file():
        return ""
    try:
        faults = missing_shards(prefix, tensor_bundle.read_index(index))
    except SourceError:
        return "; its variables.index is damaged"
    return f"; {faults[0]}" if faults else ""


# --- files -----------------------------------------------------------------------------------------


def _file(path: Path) -> Found:
    if path.name == SAVED_MODEL_FILE:
        return _saved_model(path.parent)
    if path.parent.name in {"variables", "assets"} and _saved_model_file(path.parent.parent):
        return _saved_model(path.parent.parent)
    if shard := _SHARD.match(path.name):
        return _prefix(path.with_name(shard[1]))
    if path.suffix in {".index", ".meta"} and _index_of(path).is_file():
        return _checkpoint(path.with_suffix(""))
    with path.open("rb") as file:
        head = file.read(64)
    if not head:
        return Found("an empty file", path, advice="Fetch or save it again.", is_damaged=True)
    if path.name == "checkpoint" and head.lstrip().startswith((b"model_checkpoint_path", b"all_model_checkpoint")):
        return _state(path)
    return _keras(path) or _graph(path) or _v1_checkpoint(path) or _archive(path) or _other(path, head)


def _index_of(path: Path) -> Path:
    return path.with_suffix(".index")


def _state(path: Path) -> Found:
    prefixes = _prefixes(path.parent)
    if prefixes:
        return _checkpoints(path.parent, prefixes)
    latest = latest_checkpoint(path.parent)
    return Found(
        f"a `checkpoint` state file alone, which names {latest.name if latest else 'nothing'}",
        path, advice="Copy the files of the checkpoint (.index, .data-…, and .meta if there is one) beside it.",
    )  # fmt: skip


def _keras(path: Path) -> Found | None:
    found = keras_files.read_keras_file(path)
    if found is None:
        return None
    keys: dict[str, object] = {}
    if found.code:
        keys["unsafe"] = True
    holds = f", which carries code ({', '.join(found.code[:3])})" if found.code else ""
    container = ".keras" if found.container == "keras" else ".h5"
    if found.layout == "whole model":
        return Found(f"a whole model of {found.generation} ({container}){holds}", path, "keras", keys=keys)
    how = " by the names of layers" if found.layout == "weights by layer" else ""
    words = f"weights of {found.generation} alone (.h5{how}), without the model"
    return Found(words, path, "weights", keys=keys | {"builder": "module:function that builds the model …"})


def _graph(path: Path) -> Found | None:
    graph = graphs.read_graph_file(path)
    match graph.kind if graph else None:
        case None:
            return None
        case "saved model":
            words = f"the graph of a SavedModel that is not named {SAVED_MODEL_FILE}"
            return Found(
                words, path, advice=f"Name it {SAVED_MODEL_FILE}, beside its variables/, and give the directory."
            )
        case "saved model text":
            return Found("a SavedModel as text", path, advice="Give its directory as `path`.")
        case "meta graph":
            words = "a MetaGraphDef (.meta): the graph of a TF1 checkpoint, without its weights"
            return Found(words, path, advice="Copy the checkpoint's .index and .data-… beside it.")
        case "graph text":
            return Found("a GraphDef as text", path, "frozen_graph", keys=_ends(GraphFile("graph")))
        case "onnx":
            return Found("a model of ONNX", path, advice="Slipway reads TensorFlow's formats: convert it with onnx2tf.")
        case "tflite":
            return Found(
                "a TFLite model", path, advice="The server loads it as it is: VERSION/model.tflite; no import needed."
            )
        case _:
            assert graph is not None
            size = f"{graph.nodes} nodes, {graph.constants_bytes / 1e6:.3g} MB of constants"
            if graph.variables:
                return Found(
                    f"a GraphDef that is not frozen: its {graph.variables} variables have no values ({size})",
                    path, advice="Give the checkpoint of the same training as kind: tf1_checkpoint.",
                )  # fmt: skip
            return Found(f"a frozen GraphDef ({size})", path, "frozen_graph", keys=_ends(graph))


def _v1_checkpoint(path: Path) -> Found | None:
    with path.open("rb") as file:
        file.seek(0, 2)
        if file.tell() < 48:
            return None
        file.seek(-8, 2)
        if file.read() != tensor_bundle.MAGIC:
            return None
    if path.suffix == ".index":
        return _checkpoint(path.with_suffix(""))
    meta = path.with_name(f"{path.name}.meta").is_file()
    keys = _ends(GraphFile("graph"))
    return Found(
        f"a TF1 checkpoint in one file, as before 2017{'' if meta else ', without .meta'}: {path.name}",
        path, "tf1_checkpoint", step=_step(path),
        keys=keys if meta else {"builder": "module:function that builds the graph …"} | keys,
    )  # fmt: skip


def _archive(path: Path) -> Found | None:
    kind = kind_of_archive(path)
    if kind is None:
        return None
    if kind == "zip":
        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise SourceError(f"{path}: cut off or damaged ({error}). Fetch or save the file again.") from error
        if any(name.endswith("/data.pkl") or name == "data.pkl" for name in names):
            return Found("a model of PyTorch", path, advice="Slipway reads TensorFlow's formats.")
        if names and all(name.endswith(".npy") for name in names):
            return Found("arrays of numpy (.npz)", path, advice="It may be golden data; a model is something else.")
    return Found(f"an archive ({kind})", path, advice="Give it as `path`, and the source in it as `inside`.")


def _other(path: Path, head: bytes) -> Found:
    for magic, words, advice in _OTHERS:
        if head.lower().startswith(magic.lower()):
            return Found(words, path, advice=advice)
    return Found(
        f"a file of {_size(path)} whose first bytes are {head[:8]!r}", path, advice="It is no model known here."
    )


def _size(path: Path) -> str:
    return f"{path.stat().st_size} bytes"
