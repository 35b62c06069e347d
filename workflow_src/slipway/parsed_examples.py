"""
What tf.Examples a graph parses, and what it calls its classes: read from its nodes, without TensorFlow.

The messages are those of `slipway_wire.messages` or TensorFlow's own; both have the same fields.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from slipway import graph_ops
from slipway_wire import dtypes, tensors
from slipway_wire.status import WireError

# Examples carry these three alone (example/feature.proto).
_KINDS = {"float": "float32", "int64": "int64", "string": "string"}
# Longer ones are no values that anybody writes into a contract.
_MOST_VALUES = 10_000
_MOST_STEPS = 10


@dataclass(frozen=True, slots=True)
class Feature:
    """
    One feature of the tf.Examples that a graph parses.

    Attributes:
        name: Its name in an Example.
        dtype: float32, int64 or string.
        shape: Sizes without rows; None where there may be any number of values.
        default: What an Example without it means, flattened; None: it must be there, or there may be any number.
    """

    name: str
    dtype: str
    shape: tuple[int, ...] | None
    default: tuple[Any, ...] | None = None


def parsed_features(meta_graph: Any, name: str) -> tuple[Feature, ...]:
    """List the features of the tf.Examples that signature *name* parses, by name; () where it parses none."""
    found: dict[str, Feature] = {}
    for node, nodes in _nodes_of(meta_graph, name):
        if node.op == "ParseExampleV2":
            made = _of_version_2(node, nodes)
        elif node.op == "ParseExample":
            made = _of_version_1(node, nodes)
        else:
            continue
        found |= {feature.name: feature for feature in made}
    return tuple(found[key] for key in sorted(found))


def class_names(meta_graph: Any, name: str, output: str, count: int) -> tuple[str, ...]:
    """
    Find what the *count* classes of a signature are called, if its graph has exactly one list of so many strings.

    Returns:
        Their names; () where there is no such list, or more than one.
    """
    graph = meta_graph.graph_def
    starts = [meta_graph.signature_def[name].outputs[output].name]
    found = {
        values
        for node, _ in graph_ops.reached(graph, starts)
        if node.op == "Const" and node.attr["dtype"].type == dtypes.STRING.number
        if (values := _constant(node)) is not None and len(values) == count > 1
    }
    return next(iter(found)) if len(found) == 1 else ()


def _nodes_of(meta_graph: Any, name: str) -> Iterator[tuple[Any, Mapping[str, Any]]]:
    starts = [info.name for info in meta_graph.signature_def[name].outputs.values() if info.name]
    return graph_ops.reached(meta_graph.graph_def, starts)


def _of_version_1(node: Any, nodes: Mapping[str, Any]) -> Iterator[Feature]:
    """Read a ParseExample: serialized, names, each sparse key, each dense key, each dense default."""
    sparse, dense = node.attr["Nsparse"].i, node.attr["Ndense"].i
    keys = [_key(nodes, tensor) for tensor in node.input[2 : 2 + sparse + dense]]
    defaults = node.input[2 + sparse + dense : 2 + sparse + 2 * dense]
    return _features(node, nodes, keys[:sparse], keys[sparse:], defaults)


def _of_version_2(node: Any, nodes: Mapping[str, Any]) -> Iterator[Feature]:
    """Read a ParseExampleV2: serialized, names, the sparse keys, the dense ones, the ragged ones, each dense default."""
    sparse, dense, ragged = (_values(nodes, tensor) or () for tensor in node.input[2:5])
    yield from _features(node, nodes, sparse, dense, node.input[5:])
    for name, dtype in zip(ragged, node.attr["ragged_value_types"].list.type, strict=False):
        yield from _feature(name, dtype, None, None)


def _features(node: Any, nodes: Mapping[str, Any], sparse: Any, dense: Any, defaults: Any) -> Iterator[Feature]:
    for name, dtype in zip(sparse, node.attr["sparse_types"].list.type, strict=False):
        yield from _feature(name, dtype, None, None)
    described = zip(dense, node.attr["Tdense"].list.type, node.attr["dense_shapes"].list.shape, defaults, strict=False)
    for name, dtype, shape, default in described:
        sizes = tuple(dim.size for dim in shape.dim)
        # The first size varies where any number of values is taken and padded; the default is then one value of them.
        varies = any(size < 0 for size in sizes)
        yield from _feature(name, dtype, None if varies else sizes, None if varies else _values(nodes, default) or None)


def _feature(name: str | None, dtype: int, shape: tuple[int, ...] | None, default: Any) -> Iterator[Feature]:
    kind = _KINDS.get(dtypes.from_number(dtype).name)
    if name is not None and kind is not None:
        yield Feature(name, kind, shape, default)


def _key(nodes: Mapping[str, Any], tensor: str) -> str | None:
    return next(iter(_values(nodes, tensor) or ()), None)


def _values(nodes: Mapping[str, Any], tensor: str) -> tuple[Any, ...] | None:
    """Give the values of a constant, flattened; None if *tensor* is none."""
    node = nodes.get(graph_ops.node_name(tensor))
    for _ in range(_MOST_STEPS):
        # TensorFlow brings defaults into their shape in the graph.
        if node is None or node.op not in ("Identity", "Reshape") or not node.input:
            break
        node = nodes.get(graph_ops.node_name(node.input[0]))
    return None if node is None or node.op != "Const" else _constant(node)


def _constant(node: Any) -> tuple[Any, ...] | None:
    proto = node.attr["value"].tensor
    size = 1
    for dim in proto.tensor_shape.dim:
        size *= max(dim.size, 0)
    if size > _MOST_VALUES:
        return None
    try:
        values = tensors.from_proto(proto).ravel()
    except WireError:
        return None
    if values.dtype.kind == "f":
        # 0.35 as people write it, not the double nearest to the float32 nearest to it.
        return tuple(float(str(value)) for value in values)
    return tuple(value.decode(errors="replace") if isinstance(value, bytes) else value for value in values.tolist())
