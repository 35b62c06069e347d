"""SavedModels written by hand, node by node: every dtype, several inputs, and one whose answers wait until told."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from slipway_wire import dtypes, messages, tensors

# All that REST and gRPC can be asked for; the signature of each is named after it.
TYPES = (
    *("float", "double", "int32", "int16", "int8", "uint8", "int64", "uint32", "uint64", "bool", "string"),
    *("half", "bfloat16", "uint16", "complex64"),
)
PREDICT, CLASSIFY, REGRESS = (f"tensorflow/serving/{verb}" for verb in ("predict", "classify", "regress"))

Ends = Mapping[str, tuple[str, str]]
"""Alias -> tensor name, dtype."""


class Graph:
    """A MetaGraph under construction."""

    def __init__(self, tag="serve"):
        self.meta = messages.MetaGraphDef()
        self.meta.meta_info_def.tags.append(tag)
        self.meta.meta_info_def.tensorflow_version = "2.21.0"
        self.meta.graph_def.versions.producer = 2000

    def node(self, op: str, name: str, inputs: Sequence[str] = (), **attributes) -> str:
        """Add a node; a dtype is written by its name, ints as ints, a shape as a list, a tensor as an array."""
        node = self.meta.graph_def.node.add(op=op, name=name, input=inputs)
        for key, value in attributes.items():
            attribute = node.attr[key]
            if isinstance(value, str):
                attribute.type = dtypes.from_name(value).number
            elif isinstance(value, bool):
                attribute.b = value
            elif isinstance(value, int):
                attribute.i = value
            elif isinstance(value, bytes):
                attribute.s = value
            elif value is None:
                attribute.shape.unknown_rank = True
            elif isinstance(value, tuple):
                attribute.list.type.extend(dtypes.from_name(one).number for one in value)
            elif isinstance(value, list):
                for size in value:
                    attribute.shape.dim.add(size=size)
                attribute.shape.SetInParent()
            else:
                attribute.tensor.CopyFrom(tensors.to_proto(np.asarray(value), as_content=False))
        return f"{name}:0"

    def placeholder(self, name: str, dtype: str) -> str:
        """Add an input of unknown rank."""
        return self.node("Placeholder", name, dtype=dtype, shape=None)

    def signature(self, key: str, inputs: Ends, outputs: Ends, method: str = PREDICT) -> None:
        """Offer *inputs* -> *outputs* under *key*; ranks are left open."""
        definition = self.meta.signature_def[key]
        definition.method_name = method
        for ends, found in ((inputs, definition.inputs), (outputs, definition.outputs)):
            for alias, (name, dtype) in ends.items():
                found[alias].name = name
                found[alias].dtype = dtypes.from_name(dtype).number
                found[alias].tensor_shape.unknown_rank = True

    def write(self, directory: Path) -> Path:
        """Write a version directory and return it."""
        return write(directory, self)


def write(directory: Path, *graphs: Graph) -> Path:
    """Write *graphs* as one SavedModel."""
    directory.mkdir(parents=True)
    model = messages.SavedModel(saved_model_schema_version=1, meta_graphs=[graph.meta for graph in graphs])
    (directory / "saved_model.pb").write_bytes(model.SerializeToString())
    return directory


def half_plus(constant: float, tag: str = "serve") -> Graph:
    """Make `y = x / 2 + constant`, as quick to load as a model can be."""
    graph = Graph(tag)
    x = graph.placeholder("x", "float")
    half = graph.node("Const", "half", dtype="float", value=np.float32(0.5))
    plus = graph.node("Const", "plus", dtype="float", value=np.float32(constant))
    halved = graph.node("Mul", "halved", [x, half], T="float")
    y = graph.node("Add", "y", [halved, plus], T="float")
    graph.signature("serving_default", {"x": (x, "float")}, {"y": (y, "float")})
    return graph


def every_type(directory: Path) -> Path:
    """
    Write a model that gives back what it is given.

    Signatures: one a dtype (`x` -> `y`, and `x_bytes` for strings as `bytes`); `two` (float `a`, string `b` -> `a`, `b`);
    `none` (no input -> int32 7); `scalar` (float `x` -> float scalar `y`); `uneven` (float `x` -> `y` and a `z` of one row).
    """
    graph = Graph()
    for name in TYPES:
        x = graph.placeholder(f"x_{name}", name)
        y = graph.node("Identity", f"y_{name}", [x], T=name)
        graph.signature(name, {"x": (x, name)}, {"y": (y, name)})
    graph.signature("bytes", {"x": ("x_string:0", "string")}, {"y_bytes": ("y_string:0", "string")})
    graph.signature(
        "two",
        {"a": ("x_float:0", "float"), "b": ("x_string:0", "string")},
        {"a": ("y_float:0", "float"), "b": ("y_string:0", "string")},
    )
    seven = graph.node("Const", "seven", dtype="int32", value=np.int32([7]))
    graph.signature("none", {}, {"y": (seven, "int32")})
    scalar = graph.node("Const", "scalar", dtype="float", value=np.float32(0.5))
    graph.signature("scalar", {"x": ("x_float:0", "float")}, {"y": (scalar, "float")})
    one_row = graph.node("Const", "one_row", dtype="float", value=np.float32([0.5]))
    graph.signature("uneven", {"x": ("x_float:0", "float")}, {"y": ("y_float:0", "float"), "z": (one_row, "float")})
    graph.signature("no_outputs", {"x": ("x_float:0", "float")}, {})
    return graph.write(directory)


def labelled(directory: Path) -> Path:
    """
    Write a model that shows what it was fed.

    `classify`: the label is the serialized Example, the score its length. `regress`: the length.
    """
    graph = Graph()
    examples = graph.placeholder("examples", "string")
    axis = graph.node("Const", "axis", dtype="int32", value=np.int32(1))
    labels = graph.node("ExpandDims", "labels", [examples, axis], T="string", Tdim="int32")
    length = graph.node("StringLength", "length", [examples], unit=b"BYTE")
    value = graph.node("Cast", "value", [length], SrcT="int32", DstT="float")
    scores = graph.node("ExpandDims", "scores", [value, axis], T="float", Tdim="int32")
    inputs = {"inputs": (examples, "string")}
    graph.signature("classify", inputs, {"classes": (labels, "string"), "scores": (scores, "float")}, CLASSIFY)
    graph.signature("classes_only", inputs, {"classes": (labels, "string")}, CLASSIFY)
    graph.signature("flat", inputs, {"scores": (value, "float")}, CLASSIFY)
    graph.signature("regress", inputs, {"outputs": (value, "float")}, REGRESS)
    graph.signature("regress_column", inputs, {"outputs": (scores, "float")}, REGRESS)
    same = graph.node("Identity", "same", [examples], T="string")
    graph.signature("regress_strings", inputs, {"outputs": (same, "string")}, REGRESS)
    graph.signature("serving_default", inputs, {"outputs": (value, "float")}, REGRESS)
    graph.signature("odd_method", inputs, {"outputs": (value, "float")}, "somebody/else")
    return graph.write(directory)


def gated(directory: Path) -> Path:
    """
    Write a model whose `wait` answers only when `open` has been called as often: the queue is in the graph.

    `wait`: float `x` -> `y` = x; `open`: float `x` -> `y` = x, and lets one call of `wait` pass; `left`: no input ->
    int32 `y`, how many passes are left. `hold`: string `x` -> `y` = x once the file that x names can be written; a
    named pipe can while somebody reads it. `x.began` is written before.
    """
    graph = Graph()
    queue = graph.node("FIFOQueueV2", "gate", component_types=("float",), capacity=1000, shared_name=b"gate")
    x = graph.placeholder("x", "float")
    graph.node("QueueDequeueV2", "pass", [queue], component_types=("float",))
    passed = graph.node("Identity", "passed", [x, "^pass"], T="float")
    graph.node("QueueEnqueueV2", "let", [queue, x], Tcomponents=("float",))
    opened = graph.node("Identity", "opened", [x, "^let"], T="float")
    left = graph.node("QueueSizeV2", "left", [queue])
    graph.signature("wait", {"x": (x, "float")}, {"y": (passed, "float")})
    graph.signature("open", {"x": (x, "float")}, {"y": (opened, "float")})
    graph.signature("left", {}, {"y": (left, "int32")})
    names = graph.placeholder("names", "string")
    zero = graph.node("Const", "zero", dtype="int32", value=np.int32(0))
    first = graph.node(
        "GatherV2", "first", [names, zero, zero], Tparams="string", Tindices="int32", Taxis="int32", batch_dims=0
    )
    suffix = graph.node("Const", "suffix", dtype="string", value=np.array(b".began", object))
    marker = graph.node("StringJoin", "marker", [first, suffix], N=2)
    graph.node("WriteFile", "began", [marker, first])
    graph.node("WriteFile", "written", [first, first, "^began"])
    held = graph.node("Identity", "held", [names, "^written"], T="string")
    graph.signature("hold", {"x": (names, "string")}, {"y": (held, "string")})
    graph.signature(
        "serving_default", {"x": (x, "float")}, {"y": (graph.node("Identity", "y", [x], T="float"), "float")}
    )
    return graph.write(directory)
