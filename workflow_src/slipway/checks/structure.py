"""Hold a SavedModel's file against its contract: signatures, names, dtypes, shapes, ops. Reads saved_model.pb, runs nothing."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from slipway.contract import Contract, TensorContract
from slipway.records import Check
from slipway.rows import format_shape
from slipway_wire import dtypes, signatures
from slipway_wire.signatures import TensorSpec
from slipway_wire.status import WireError

_METHODS = {"predict": signatures.PREDICT, "classify": signatures.CLASSIFY, "regress": signatures.REGRESS}
# TF2 keeps its initialiser among the signatures.
_INTERNAL_PREFIX = "__"


def check_structure(contract: Contract, directory: Path) -> list[Check]:
    """
    Check the SavedModel in *directory*.

    Returns:
        One check per thing looked at; a single failed one if the file cannot be read.
    """
    try:
        meta_graph = signatures.find_meta_graph(signatures.read_saved_model(directory))
        found = signatures.from_meta_graph(meta_graph)
    except WireError as error:
        return [_check("saved_model", ok=False, expected="a SavedModel with tags {serve}", found=str(error))]
    names = sorted(name for name in found if not name.startswith(_INTERNAL_PREFIX))
    checks = [
        _check("signatures", names == sorted(contract.signatures), _list(sorted(contract.signatures)), _list(names))
    ]
    for name, promised in contract.signatures.items():
        if name not in found:
            continue
        signature = found[name]
        method = _METHODS[promised.method]
        checks.append(_check(f"{name}.method", signature.method == method, method, signature.method or "none"))
        checks += _check_tensors(f"{name}.inputs", contract.inputs_of(name), signature.inputs)
        checks += _check_tensors(f"{name}.outputs", contract.outputs_of(name), signature.outputs)
        checks.append(_check_ops(name, contract.forbid_ops, reachable_ops(meta_graph, name)))
    return checks


def _check(subject: str, ok: bool, expected: str, found: str) -> Check:
    return Check(kind="structure", subject=subject, ok=ok, expected=expected, found=found)


def _list(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


def _check_tensors(
    where: str, promised: Mapping[str, TensorContract], found: Mapping[str, TensorSpec]
) -> Iterator[Check]:
    yield _check(where, sorted(promised) == sorted(found), _list(sorted(promised)), _list(sorted(found)))
    for name, tensor in promised.items():
        if spec := found.get(name):
            dtype = dtypes.from_name(tensor.dtype)
            yield _check(f"{where}.{name}.dtype", spec.dtype is dtype, dtype.enum_name, spec.dtype.enum_name)
            shape = signatures.format_shape(spec.shape)
            yield _check(f"{where}.{name}.shape", _shape_fits(tensor, spec), format_shape(tensor), shape)


def _shape_fits(tensor: TensorContract, spec: TensorSpec) -> bool:
    wanted = tuple(None if isinstance(size, str) else size for size in tensor.shape)
    return spec.shape == wanted


def _check_ops(name: str, forbidden: Sequence[str], found: Mapping[str, str]) -> Check:
    bad = [f"{op} ({found[op]})" for op in sorted(forbidden) if op in found]
    return _check(
        f"{name}.ops", not bad, "no forbidden op", _list(bad) if bad else f"{len(found)} kinds of ops, none forbidden"
    )


def reachable_ops(meta_graph: Any, name: str) -> dict[str, str]:
    """
    Find every op that signature *name* can run, through functions and the functions that those call.

    Args:
        meta_graph: A MetaGraphDef message.
        name: Key of the signature.

    Returns:
        Kind of op -> name of one node of that kind.
    """
    nodes = {node.name: node for node in meta_graph.graph_def.node}
    library = {function.signature.name: function for function in meta_graph.graph_def.library.function}
    found: dict[str, str] = {}
    functions: set[str] = set()

    def use(node: Any) -> None:
        if node.op not in library:
            found.setdefault(node.op, node.name)
        for called in _called_functions(node, library):
            if called not in functions:
                functions.add(called)
                for inner in library[called].node_def:
                    use(inner)

    waiting = [_node_name(info.name) for info in meta_graph.signature_def[name].outputs.values()]
    seen: set[str] = set()
    while waiting:
        current = waiting.pop()
        if current not in seen and current in nodes:
            seen.add(current)
            use(nodes[current])
            waiting += map(_node_name, nodes[current].input)
    return found


def _called_functions(node: Any, library: Mapping[str, Any]) -> Iterator[str]:
    """Name the functions that *node* calls: as its op, or as attributes (PartitionedCall, If, While, MapDataset)."""
    names = [node.op]
    for key in sorted(node.attr):
        value = node.attr[key]
        names += [value.func.name, *(function.name for function in value.list.func)]
    return (name for name in names if name in library)


def _node_name(tensor: str) -> str:
    """Name the node of a tensor (`x:0`) or of a control input (`^x`)."""
    return tensor.removeprefix("^").split(":")[0]
