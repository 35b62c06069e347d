"""A graph and what belongs to it, from the files of its source: `.meta`, `.pb`, `saved_model.pb`."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from google.protobuf.message import DecodeError

from slipway import files, graph_ops
from slipway.errors import SourceError
from slipway.graphs import soundness
from slipway_wire import messages, signatures
from slipway_wire.status import WireError

_SHOWN = 20
_LONGEST_NAME = 1000
_MOST_BYTES = 1 << 31  # of a message: protobuf's own limit


@dataclass(frozen=True, slots=True)
class SourceGraph:
    """
    A graph as it was written.

    Attributes:
        where: What errors call it, such as `model.ckpt-100.meta`.
        graph: GraphDef message.
        filename_tensor: Tensor that takes the checkpoint's prefix when `restore_op` is run; empty if there is none.
        restore_op: Op that restores all variables; empty if there is none.
        assets: Tensor that holds a file's path -> the file.
    """

    where: str
    graph: Any
    filename_tensor: str = ""
    restore_op: str = ""
    assets: dict[str, Path] = field(default_factory=dict)


def read_meta_graph(path: Path) -> SourceGraph:
    """
    Read a `.meta` file.

    Raises:
        SourceError: If it is missing, damaged, or something else.
    """
    try:
        found = messages.MetaGraphDef.FromString(_content(path, "the graph of the checkpoint"))
    except DecodeError as error:
        raise SourceError(
            f"{path.name}: not a MetaGraphDef, or damaged. Fetch or save the checkpoint again."
        ) from error
    if not found.graph_def.node:
        raise SourceError(
            f"{path.name}: expected a MetaGraphDef with a graph, found none in {path.stat().st_size} bytes."
        )
    soundness.check(path.name, found.graph_def)
    return from_meta_graph(found, path.name)


def from_meta_graph(meta_graph: Any, where: str, directory: Path | None = None) -> SourceGraph:
    """
    Take the graph out of a MetaGraphDef message.

    Args:
        meta_graph: The message.
        where: What errors call it.
        directory: The SavedModel's, if it is one: its assets are there.
    """
    named = graph_ops.assets_of(meta_graph) if directory else {}
    assets = {tensor: Path(directory or "", "assets", name) for tensor, name in named.items()}
    saver = meta_graph.saver_def
    return SourceGraph(where, meta_graph.graph_def, saver.filename_tensor_name, saver.restore_op_name, assets)


def read_graph_def(path: Path) -> SourceGraph:
    """
    Read a GraphDef, binary (`.pb`) or text (`.pbtxt`).

    Raises:
        SourceError: If it is missing, damaged, or something else.
    """
    content = _content(path, "the frozen graph")
    graph = messages.GraphDef()
    try:
        if path.suffix == ".pbtxt":
            text_format.Parse(content, graph, allow_unknown_field=True)
        else:
            graph.ParseFromString(content)
    except (DecodeError, text_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        raise SourceError(f"{path.name}: {_what_else(content)}. Fetch or save the file again.") from error
    if not any(node.op for node in graph.node):
        raise SourceError(f"{path.name}: {_what_else(content)}.")
    soundness.check(path.name, graph)
    return SourceGraph(path.name, graph)


def read_saved_model(directory: Path, tags: Sequence[str]) -> Any:
    """
    Read the MetaGraphDef with *tags* of the SavedModel in *directory*.

    Raises:
        SourceError: If there is no SavedModel or none with these tags, in which case the line lists those there are.
    """
    _refuse_size(directory / signatures.SAVED_MODEL_FILE)
    try:
        found = signatures.find_meta_graph(signatures.read_saved_model(directory), tags)
    except WireError as error:
        raise SourceError(
            f"{error}. `path` is the directory of a SavedModel, `tags` are all those of one meta graph."
        ) from error
    except OSError as error:
        raise SourceError(f"{directory}: cannot be read ({error.strerror}).") from error
    soundness.check(directory.name, found.graph_def)
    _check_names(directory.name, found)
    return found


def _check_names(where: str, meta_graph: Any) -> None:
    for name, signature in meta_graph.signature_def.items():
        for told in (name, *signature.inputs, *signature.outputs):
            if not told.isprintable() or len(told) > _LONGEST_NAME:
                raise SourceError(f"{where}: damaged, or made to do harm: a signature has the name {told[:100]!r}.")
    for name in graph_ops.assets_of(meta_graph).values():
        # What is named here is read, and copied into the export: a name that leads elsewhere is an attack, or damage.
        if Path(name).name != name or name == "..":
            raise SourceError(f"{where}: asset {name!r} is not a file of assets/.")


def _refuse_size(path: Path) -> None:
    files.refuse_special(path)
    with contextlib.suppress(OSError):
        if (size := path.stat().st_size) > _MOST_BYTES:
            raise SourceError(
                f"{path.name}: {size} bytes are more than a graph can have (2 GiB): damaged, or something else."
            )


def is_tf1(meta_graph: Any) -> bool:
    """Tell a SavedModel of TensorFlow 1 (or an Estimator): it keeps no objects, so there is nothing to track."""
    return not meta_graph.object_graph_def.nodes


def _content(path: Path, what: str) -> bytes:
    _refuse_size(path)
    try:
        return path.read_bytes()
    except IsADirectoryError as error:
        raise SourceError(
            f"{path.name}: expected {what}, found a directory; a SavedModel is kind: saved_model."
        ) from error
    except OSError as error:
        raise SourceError(f"{path.name}: {what} cannot be read ({error.strerror}).") from error


def _what_else(content: bytes) -> str:
    """Say what the bytes are that should have been a GraphDef; both other messages fail to parse as one, or lack nodes."""
    kinds = ((messages.SavedModel, "a SavedModel: its directory is a source of kind: saved_model"),
             (messages.MetaGraphDef, "a MetaGraphDef: with its checkpoint it is a source of kind: tf1_checkpoint"))  # fmt: skip
    for kind, what in kinds:
        try:
            found = kind.FromString(content)
        except DecodeError:
            continue
        graphs = [graph.graph_def for graph in found.meta_graphs] if kind is messages.SavedModel else [found.graph_def]
        if any(node.op for graph in graphs for node in graph.node):
            return f"expected a GraphDef, found {what}"
    return f"not a GraphDef, or damaged ({len(content)} bytes that begin with {content[:_SHOWN]!r})"
