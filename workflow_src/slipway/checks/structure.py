"""
Hold a SavedModel's file against its contract: signatures, names, dtypes, shapes, wiring, ops, assets.

Reads saved_model.pb, runs nothing. What `is_safe_to_run` finds wrong must not be loaded either.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from slipway import graph_flow, graph_ops, op_policy
from slipway.contract import ROWS, Contract, TensorContract
from slipway.errors import SourceError
from slipway.graphs import soundness
from slipway.records import Check
from slipway.rows import format_shape
from slipway_wire import dtypes, signatures
from slipway_wire.signatures import Signature, TensorSpec
from slipway_wire.status import WireError

_METHODS = {"predict": signatures.PREDICT, "classify": signatures.CLASSIFY, "regress": signatures.REGRESS}
_POLICY = ".op_policy"
_PLACEHOLDERS = ("Placeholder", "PlaceholderV2")
# What fails here would fail again when TensorFlow loads it, in other words; or lead it to files of others.
_BEFORE_LOADING = ("assets", "functions")


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
    try:
        soundness.check(signatures.SAVED_MODEL_FILE, meta_graph.graph_def)
    except SourceError as error:
        # What the other checks say of such a graph would be of no use, and TensorFlow must not see it.
        return [_check("graph", ok=False, expected="names of their own for all nodes, and an end", found=str(error))]
    names = sorted(name for name in found if name not in graph_ops.INIT_SIGNATURES)
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
    checks += _check_use(contract, meta_graph, found)
    checks += [_check_functions(meta_graph), _check_assets(meta_graph, directory)]
    return [*checks, *check_policy(meta_graph, contract.allow_ops)]


def check_policy(meta_graph: Any, allowed: Mapping[str, str]) -> Iterator[Check]:
    """Judge what every signature of *meta_graph* reaches, and what loading it runs, by the op policy: one check each."""
    names = [name for name in sorted(meta_graph.signature_def) if name not in graph_ops.INIT_SIGNATURES]
    run = graph_ops.run_ops(meta_graph, names)
    expected = "no op that reaches outside the model"
    for place, lines in op_policy.run_refusals(meta_graph, run, allowed).items():
        let = [
            f"{op} ({allowed[op]})" for op in sorted(run[place]) if op in allowed and op_policy.refused_in(op, [place])
        ]
        none = f"none but what is allowed: {', '.join(let)}" if let else "none"
        yield _check(f"{place}{_POLICY}", not lines, expected, "; ".join(lines) or none)


def is_safe_to_run(checks: Iterable[Check]) -> bool:
    """Say whether the op policy has seen the model and has nothing against it, and all that it needs is in its place."""
    seen = list(checks)
    judged = [check for check in seen if check.subject.endswith(_POLICY) or check.subject in _BEFORE_LOADING]
    return any(check.subject.endswith(_POLICY) for check in seen) and all(check.ok for check in judged)


def can_be_called(name: str, checks: Iterable[Check]) -> bool:
    """Say whether signature *name* takes what the contract promises, and gives all that it promises by name."""
    seen = [check for check in checks if check.subject.startswith(f"{name}.")]
    failed = {check.subject.removeprefix(f"{name}.") for check in seen if not check.ok}
    unfit = {"inputs", "outputs", "placeholders"} & failed or [
        subject
        for subject in failed
        if subject.endswith(".tensor") or (subject.startswith("inputs.") and subject.endswith((".dtype", ".shape")))
    ]
    return bool(seen) and not unfit


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
    for side, specs in (("inputs", signature.inputs), ("outputs", signature.outputs)):
        yield from (_check_tensor(f"{name}.{side}.{key}.tensor", spec, nodes) for key, spec in specs.items())
    for output, tensor in contract.outputs_of(name).items():
        spec = signature.outputs.get(output)
        start = graph_ops.node_name(spec.graph_name) if spec else ""
        if spec is None or start not in nodes:
            continue
        reached = graph_ops.upstream(nodes, [spec.graph_name], stop=fed)
        subject, expected = f"{name}.outputs.{output}.computed", "computed from an input"
        if nodes[start].op in _PLACEHOLDERS and start not in fed:
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


def _check_tensor(subject: str, spec: TensorSpec, nodes: Mapping[str, Any]) -> Check:
    if not spec.graph_name:
        return _check(subject, False, "one dense tensor", "a sparse or composite one, which no request carries")
    found = graph_ops.node_name(spec.graph_name)
    expected = "a tensor of the graph"
    return _check(subject, found in nodes, expected, expected if found in nodes else f"no node {found}")


def _check_use(contract: Contract, meta_graph: Any, found: Mapping[str, Signature]) -> Iterator[Check]:
    """
    Check that what callers must send is looked at.

    A signature that gives one part of a model takes all its inputs nevertheless; so an input counts as used if
    any signature uses one of its name.
    """
    used: dict[str, set[str]] = {}
    for name in contract.signatures:
        if name in found:
            inputs = {key: spec.graph_name for key, spec in found[name].inputs.items() if spec.graph_name}
            outputs = [spec.graph_name for spec in found[name].outputs.values() if spec.graph_name]
            reached = graph_flow.used_inputs(meta_graph.graph_def, list(inputs.values()), outputs)
            used[name] = {key for key, tensor in inputs.items() if tensor in reached}
    anywhere = set().union(*used.values())
    for name in used:
        if any(tensor.shape[:1] == (ROWS,) for tensor in contract.outputs_of(name).values()):
            for key in contract.inputs_of(name).keys() & found[name].inputs.keys():
                expected = "an output that depends on it"
                yield _check(
                    f"{name}.inputs.{key}.used", key in anywhere, expected, expected if key in anywhere else "none"
                )


def _check_functions(meta_graph: Any) -> Check:
    missing = graph_ops.missing_functions(meta_graph.graph_def)
    unknown = [f"{name} (called by node {node})" for name, node in missing.items() if name not in op_policy.known_ops()]
    found = f"not in the library: {_list(unknown)}" if unknown else "all that are called"
    return _check("functions", not unknown, "all that are called", found)


def _check_assets(meta_graph: Any, directory: Path) -> Check:
    wanted = sorted(set(graph_ops.assets_of(meta_graph).values()))
    odd = [name for name in wanted if Path(name).name != name]
    missing = [name for name in wanted if not (directory / "assets" / name).is_file()]
    found = f"names outside assets/: {_list(odd)}" if odd else f"missing in assets/: {_list(missing)}"
    return _check("assets", not odd and not missing, _list(wanted), found if odd or missing else _list(wanted))


def _check_ops(name: str, forbidden: Sequence[str], found: Mapping[str, str]) -> Check:
    bad = [f"{op} ({found[op]})" for op in sorted(forbidden) if op in found]
    return _check(
        f"{name}.ops", not bad, "no forbidden op", _list(bad) if bad else f"{len(found)} kinds of ops, none forbidden"
    )
