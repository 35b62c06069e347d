"""Files of graphs, told by their first fields: GraphDef, MetaGraphDef, SavedModel, ONNX, TFLite, and text."""

import contextlib
import mmap
import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from slipway.detection.fields import BYTES, VARINT, Malformed, View, fields, first_text
from slipway.errors import SourceError

GraphKind = Literal["graph", "meta graph", "saved model", "onnx", "tflite", "graph text", "saved model text"]

_TFLITE_IDENTIFIER = b"TFL3"  # tensorflow/compiler/mlir/lite/schema/schema.fbs
_OP = re.compile(r"[A-Z_][A-Za-z0-9_>.]*\Z")
_VARIABLES = {"Variable", "VariableV2", "VarHandleOp"}
_TEXT_BYTES = 4096


@dataclass(frozen=True, slots=True)
class GraphFile:
    """
    What a file with a graph holds.

    Attributes:
        kind: Which message it is.
        nodes: Nodes of a GraphDef, those of functions aside.
        placeholders: Names of the nodes that callers must feed.
        ends: Names of nodes whose outputs no other node takes.
        variables: Nodes that hold variables: such a graph has no weights in it.
        constants_bytes: What its constants take.
        has_objects: Whether a SavedModel says how its objects hang together: TensorFlow 2 writes that.
        collections: Names of what TensorFlow 1 kept beside the graph.
    """

    kind: GraphKind
    nodes: int = 0
    placeholders: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()
    variables: int = 0
    constants_bytes: int = 0
    has_objects: bool = False
    collections: tuple[str, ...] = ()


def read_graph_file(path: Path) -> GraphFile | None:
    """
    Tell what graph the file at *path* holds; None if it is none of those known here.

    Raises:
        SourceError: If it cannot be read.
    """
    try:
        with path.open("rb") as file:
            if not path.stat().st_size:
                return None
            # Not closed by hand: that fails while there are views into it.
            return _of_bytes(memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)))
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror}).") from error


def _of_bytes(view: View) -> GraphFile | None:
    if bytes(view[4:8]) == _TFLITE_IDENTIFIER:
        return GraphFile("tflite")
    if text := _text_kind(bytes(view[:_TEXT_BYTES])):
        return GraphFile(text)
    with contextlib.suppress(Malformed):
        top = [(number, wire_type) for number, wire_type, _ in fields(view)]
        counted = Counter(top)
        if counted[1, VARINT] and counted[7, BYTES] and (counted[8, BYTES] or counted[2, BYTES]):
            return GraphFile("onnx")
        if set(counted) == {(1, VARINT), (2, BYTES)} and top[0] == (1, VARINT):
            return _saved_model(view)
        if counted[1, BYTES] == 1 and counted[2, BYTES] == 1 and (graph := _graph_of_meta_graph(view)):
            return replace(graph, kind="meta graph")
        if counted[1, BYTES] and set(counted) <= {(1, BYTES), (2, BYTES), (3, VARINT), (4, BYTES), (5, BYTES)}:
            return _graph(view)
    return None


def _text_kind(head: bytes) -> GraphKind | None:
    if b"\0" in head:
        return None
    text = re.sub(r"(?m)^\s*#.*$", "", head.decode(errors="replace")).lstrip()
    if re.match(r"(saved_model_schema_version\s*:|meta_graphs\s*[{:])", text):
        return "saved model text"
    return "graph text" if re.match(r"(node|library|versions)\s*:?\s*\{", text) else None


def _graph_of_meta_graph(view: View) -> GraphFile | None:
    """Read field 2 as a GraphDef; a GraphDef itself has functions there, whose first field is no node."""
    for number, _, value in fields(view):
        if number == 2 and isinstance(value, memoryview):
            graph = _graph(value)
            return graph if graph and graph.nodes else None
    return None


def _graph(view: View) -> GraphFile | None:
    names: list[tuple[str, str]] = []
    taken: set[str] = set()
    placeholders: list[str] = []
    variables = constants = 0
    for number, wire_type, value in fields(view):
        if number != 1 or wire_type != BYTES or not isinstance(value, memoryview):
            continue
        name, op, inputs = _node(value)
        if not (name and op and _OP.match(op)):
            return None
        names.append((name, op))
        taken.update(one.removeprefix("^").split(":")[0] for one in inputs)
        variables += op in _VARIABLES
        constants += len(value) if op == "Const" else 0
        if op == "Placeholder":
            placeholders.append(name)
    ends = [name for name, op in names if name not in taken and op not in {"NoOp", "Assert", "Const", "SaveV2"}]
    return GraphFile("graph", len(names), tuple(placeholders), tuple(ends), variables, constants)


def _node(message: View) -> tuple[str, str, list[str]]:
    name = op = ""
    inputs = []
    for number, wire_type, value in fields(message):
        if wire_type != BYTES or number > 3:
            continue
        text = bytes(value).decode(errors="replace")
        if number == 1:
            name = text
        elif number == 2:
            op = text
        else:
            inputs.append(text)
    return name, op, inputs


def _saved_model(view: View) -> GraphFile:
    has_objects, collections = False, []
    for number, _, meta_graph in fields(view):
        if number != 2 or not isinstance(meta_graph, memoryview):
            continue
        for inner, wire_type, value in fields(meta_graph):
            if wire_type != BYTES or not isinstance(value, memoryview):
                continue
            if inner == 7 and any(n == 1 for n, _, _ in fields(value)):
                has_objects = True
            elif inner == 4:
                collections.append(first_text(value, 1) or "")
    return GraphFile("saved model", has_objects=has_objects, collections=tuple(sorted(collections)))
