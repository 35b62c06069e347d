"""Graphs of a few nodes, as messages: no TensorFlow."""

import numpy as np

from slipway_wire import dtypes, messages, tensors


def node(name, op, *inputs, **attributes):
    made = messages.NodeDef(name=name, op=op, input=inputs, device="/device:GPU:0")
    for key, value in attributes.items():
        attribute = made.attr[key]
        if key in {"dtype", "DstT", "key_dtype", "value_dtype"}:
            attribute.type = dtypes.from_name(value).number
        elif key == "value":
            attribute.tensor.CopyFrom(tensors.to_proto(value, as_content=False))
        elif key == "shape":
            attribute.shape.unknown_rank = value is None
            for size in value or ():
                attribute.shape.dim.add(size=-1 if size is None else size)
        elif key == "f":
            attribute.func.name = value
        else:
            attribute.s = value.encode()
    return made


def const(name, value, *inputs):
    array = np.asarray(value)
    array = array.astype(np.float32) if array.dtype == np.float64 else array
    return node(name, "Const", *inputs, dtype=dtypes.from_numpy(array.dtype).name, value=array)


def placeholder(name, dtype="float32", shape=(None, 3), op="Placeholder"):
    return node(name, op, dtype=dtype, shape=shape)


def graph(*nodes, producer=100, functions=None):
    made = messages.GraphDef()
    made.versions.producer = producer
    made.node.extend(nodes)
    for name, body in (functions or {}).items():
        function = made.library.function.add()
        function.signature.name = name
        function.node_def.extend(body)
    return made


def names(made):
    return [found.name for found in made.node]


def uniform(name, like):
    """Random numbers in 0..1 of the shape of *like*, as tf.random_uniform writes them."""
    return [
        node(f"{name}/shape", "Shape", like),
        node(f"{name}/draw", "RandomUniform", f"{name}/shape", dtype="float32"),
        const(f"{name}/one", 1.0),
        const(f"{name}/zero", 0.0),
        node(f"{name}/mul", "Mul", f"{name}/draw", f"{name}/one"),
        node(name, "Add", f"{name}/mul", f"{name}/zero"),
    ]


def old_dropout(x="x", keep="keep"):
    """Y = x / keep * floor(keep + u)."""
    return [
        placeholder(keep, shape=()),
        *uniform("u", x),
        node("sum", "Add", keep, "u"),
        node("mask", "Floor", "sum"),
        node("scaled", "RealDiv", x, keep),
        node("y", "Mul", "scaled", "mask"),
    ]


def new_dropout(x="x", keep="keep"):
    """Y = x * (1 / keep) * (u >= 1 - keep)."""
    return [
        placeholder(keep, shape=()),
        *uniform("u", x),
        const("whole", 1.0),
        node("rate", "Sub", "whole", keep),
        node("kept", "GreaterEqual", "u", "rate"),
        node("mask", "Cast", "kept", DstT="float32"),
        node("scale", "RealDiv", "whole", keep),
        node("scaled", "Mul", x, "scale"),
        node("y", "Mul", "scaled", "mask"),
    ]


def select_dropout(x="x", keep="keep"):
    """Y = where(u < keep, x, 0)."""
    return [
        placeholder(keep, shape=()),
        *uniform("u", x),
        const("none", 0.0),
        node("kept", "Less", "u", keep),
        node("y", "SelectV2", "kept", x, "none"),
    ]


def branches(op="RandomStandardNormal"):
    """Y = cond(training, x + noise, x), as TensorFlow 1 writes it."""
    return [
        placeholder("training", "bool", ()),
        node("switch", "Switch", "training", "training"),
        node("t", "Identity", "switch:1"),
        node("f", "Identity", "switch"),
        node("to_noise", "Switch", "x", "training"),
        const("sizes", np.array([3], np.int32), "^t"),
        node("noise", op, "sizes", dtype="float32"),
        node("noisy", "Add", "to_noise:1", "noise"),
        node("plain", "Switch", "x", "training"),
        const("offset", 0.5, "^f"),
        node("other", "Add", "plain", "offset"),
        node("y", "Merge", "other", "noisy"),
    ]
