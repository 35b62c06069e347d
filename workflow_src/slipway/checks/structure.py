"""
Hold a SavedModel's file against its contract: signatures, names, dtypes, shapes, wiring, ops, assets.

Reads saved_model.pb, runs nothing. What `is_safe_to_run` finds wrong must not be loaded either.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from slipway import graph_ops, op_policy
from slipway.contract import ROWS, Contract, TensorContract
from slipway.records import Check
from slipway.rows import format_shape
from slipway_wire import dtypes, signatures
from slipway_wire.signatures import Signature, TensorSpec
from slipway_wire.status import WireError

_METHODS = {"predict": signatures.PREDICT, "classify": signatures.CLASSIFY, "regress": signatures.REGRESS}
# TF2 keeps its initialiser among the signatures.
_INTERNAL_PREFIX = "__"
_POLICY = ".op_policy"
_PLACEHOLDERS = ("Placeholder", "PlaceholderV2")


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
        checks += _check_wiring(contract, name, meta_graph, signature)
        if contract.determinism_of(name) is not False:
            forbidden = [op for op in contract.forbid_ops if op not in contract.allow_ops]
            checks.append(_check_ops(name, forbidden, graph_ops.signature_ops(meta_graph, name)))
    checks.append(_check_assets(meta_graph, directory))
    return [*checks, *check_policy(meta_graph, contract.allow_ops)]


def check_policy(meta_graph: Any, allowed: Mapping[str, str]) -> list[Check]:
    """Judge what every signature of *meta_graph* reaches, and what loading it runs, by the op policy: one check each."""
    names = [name for name in sorted(meta_graph.signature_def) if not name.startswith(_INTERNAL_PREFIX)]
    judged = op_policy.meta_graph_refusals(meta_graph, allowed, names)
    return [
        _check(f"{place}{_POLICY}", not lines, "no op that reaches outside the model", "; ".join(lines) or "none")
        for place, lines in judged.items()
    ]


def is_safe_to_run(checks: Iterable[Check]) -> bool:
    """Say whether the op policy has seen the model and has nothing against it."""
    judged = [check for check in checks if check.subject.endswith(_POLICY)]
    return bool(judged) and all(check.ok for check in judged)


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


def _check_wiring(contract: Contract, name: str, meta_graph: Any, signature: Signature) -> Iterator[Check]:
    """Check that outputs are computed from what callers send, and from nothing that they do not."""
    nodes = {node.name: node for node in meta_graph.graph_def.node}
    fed = {graph_ops.node_name(spec.graph_name) for spec in signature.inputs.values()}
    unfed: dict[str, None] = {}
    for output, tensor in contract.outputs_of(name).items():
        spec = signature.outputs.get(output)
        if spec is None or not spec.graph_name:
            continue
        start = graph_ops.node_name(spec.graph_name)
        reached = graph_ops.upstream(nodes, [spec.graph_name], stop=fed)
        subject, expected = f"{name}.outputs.{output}.computed", "computed from an input"
        if start not in nodes:
            yield _check(subject, False, expected, f"the graph has no node {start}")
        elif nodes[start].op in _PLACEHOLDERS and start not in fed:
            yield _check(subject, False, expected, f"it is fed, not computed: {start} is a placeholder")
        elif tensor.shape[:1] == (ROWS,):
            found = expected if fed & reached else f"{start} depends on no input: it has the same rows whatever is sent"
            yield _check(subject, bool(fed & reached), expected, found)
        waiting = (node for node in sorted(reached - fed) if nodes[node].op in _PLACEHOLDERS and node != start)
        unfed |= dict.fromkeys(waiting)
    needed = f"needs {', '.join(unfed)}, which no caller sends: fold it (`freeze_inputs`) or make it an input"
    yield _check(
        f"{name}.placeholders", not unfed, "none beside the inputs", needed if unfed else "none beside the inputs"
    )


def _check_assets(meta_graph: Any, directory: Path) -> Check:
    wanted = sorted({asset.filename for asset in meta_graph.asset_file_def})
    odd = [name for name in wanted if Path(name).name != name]
    missing = [name for name in wanted if not (directory / "assets" / name).is_file()]
    found = f"names outside assets/: {_list(odd)}" if odd else f"missing in assets/: {_list(missing)}"
    return _check("assets", not odd and not missing, _list(wanted), found if odd or missing else _list(wanted))


def _check_ops(name: str, forbidden: Sequence[str], found: Mapping[str, str]) -> Check:
    bad = [f"{op} ({found[op]})" for op in sorted(forbidden) if op in found]
    return _check(
        f"{name}.ops", not bad, "no forbidden op", _list(bad) if bad else f"{len(found)} kinds of ops, none forbidden"
    )
