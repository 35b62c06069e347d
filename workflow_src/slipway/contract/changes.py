"""
What a new contract takes from those who call the model by the old one: every difference, judged.

Pure: two contracts in, a list of changes out. A key of a signature that no rule here knows counts as breaking where it
differs: better a question too many than a client that stops working.
"""

from collections.abc import Iterator

from slipway.contract.change import KINDS, Change, Kind, differing, number, text
from slipway.contract.changed_forms import features, lists
from slipway.contract.changed_tensors import symbols, tensors
from slipway.contract.faults import targets_of
from slipway.contract.forms import FeatureForm
from slipway.contract.signatures import ClassifySignature, PredictSignature, Signature
from slipway.contract.whole import Contract

__all__ = ["KINDS", "Change", "Kind", "breaking", "changes"]

_FOR_TESTS = ("probe", "forbid_ops", "allow_ops", "format")
# Of a signature: told by rules of their own.
_TOLD_APART = frozenset(
    {"inputs", "outputs", "method", "doc", "deterministic", "row_independent", "features", "classes"}
)
_WHY = {
    "batched": "outputs get or lose the rows that callers read them by",
    "scores": "another output is what callers get",
    "value": "another output is what callers get",
    "top_k": "how many classes there are, and in which order",
}
_STRENGTH = {"bitwise": 2, "within_tolerance": 1, False: 0}


def changes(old: Contract, new: Contract) -> list[Change]:
    """List every difference between *old* and *new*, the breaking ones first, then in the order of their paths."""
    found = [*_of_the_whole(old, new)]
    for name in sorted(old.signatures.keys() | new.signatures.keys()):
        path = f"signatures.{name}"
        if name not in new.signatures:
            found.append(Change("breaking", path, "signature removed"))
        elif name not in old.signatures:
            found.append(Change("compatible", path, "signature added"))
        else:
            found += _of_signatures(path, name, old, new)
    return sorted(found, key=lambda change: (KINDS.index(change.kind), change.path))


def breaking(found: list[Change]) -> list[Change]:
    """Pick the breaking ones."""
    return [change for change in found if change.kind == "breaking"]


def _of_the_whole(old: Contract, new: Contract) -> Iterator[Change]:
    yield from text("doc", old.doc, new.doc)
    yield from number(
        "golden.min_accuracy", old.golden.min_accuracy, new.golden.min_accuracy, "least accuracy", worse_if="less"
    )
    yield from number("max_rows", old.max_rows, new.max_rows, "most rows at once", worse_if="less", none_is="most")
    kind: Kind = "breaking" if old.golden.min_accuracy is not None else "documentation"
    what = "output that labels are compared with"
    yield from differing(kind, "golden.label", what, old.golden.label, new.golden.label)
    before, after = (contract.golden.model_dump(mode="json") for contract in (old, new))
    for key in sorted((before.keys() | after.keys()) - {"label", "min_accuracy", "atol", "rtol"}):
        yield from differing("documentation", f"golden.{key}", "how it is tested", before.get(key), after.get(key))
    for key in _FOR_TESTS:
        if getattr(old, key) != getattr(new, key):
            yield Change("documentation", key, "how it is tested")


def _of_signatures(path: str, name: str, old: Contract, new: Contract) -> Iterator[Change]:
    before, after = old.signatures[name], new.signatures[name]
    if before.method != after.method:
        yield Change("breaking", f"{path}.method", "method changed", before.method, after.method)
        return
    yield from text(f"{path}.doc", before.doc, after.doc)
    yield from _promises(path, name, old, new)
    inputs = [*tensors(f"{path}.inputs", old.inputs_of(name), new.inputs_of(name))]
    # Those of classify and regress are texts of ours.
    yield from (change for change in inputs if before.method == "predict" or not change.path.endswith(".doc"))
    yield from tensors(f"{path}.outputs", old.outputs_of(name), new.outputs_of(name))
    yield from symbols(path, *({**c.inputs_of(name), **c.outputs_of(name)} for c in (old, new)))
    for output in sorted(old.outputs_of(name).keys() & new.outputs_of(name).keys()):
        pairs = zip(("atol", "rtol"), old.tolerance(name, output), new.tolerance(name, output), strict=True)
        for key, was, is_ in pairs:
            why = "answers may be further off"
            where = f"{path}.outputs.{output}.{key}"
            yield from number(where, was, is_, "tolerance", worse_if="more", why=why)
    yield from _forms(path, old, new, before, after)
    if isinstance(before, ClassifySignature) and isinstance(after, ClassifySignature):
        why = "without names a class is called by its number"
        yield from lists(f"{path}.classes", "classes", before.classes, after.classes, none_is=why)
    dumped = [signature.model_dump(mode="json", exclude=set(_TOLD_APART)) for signature in (before, after)]
    for key in sorted(dumped[0].keys() | dumped[1].keys()):
        yield from differing(
            "breaking", f"{path}.{key}", "changed", dumped[0].get(key), dumped[1].get(key), _WHY.get(key, "")
        )


def _promises(path: str, name: str, old: Contract, new: Contract) -> Iterator[Change]:
    was, is_ = old.determinism_of(name), new.determinism_of(name)
    weaker = _STRENGTH[is_] < _STRENGTH[was]
    kind: Kind = "breaking" if weaker else "compatible"
    why = "who relied on it cannot any more" if weaker else ""
    yield from differing(kind, f"{path}.deterministic", "what the same question gets twice", was, is_, why)
    apart = old.rows_are_apart(name), new.rows_are_apart(name)
    kind = "breaking" if apart[0] else "compatible"
    why = "an answer depends on what else is in its request" if apart[0] else ""
    what = "whether rows are answered apart"
    yield from differing(kind, f"{path}.row_independent", what, apart[0], apart[1], why)


def _forms(path: str, old: Contract, new: Contract, before: Signature, after: Signature) -> Iterator[Change]:
    """Judge how inputs of the model are carried, where only the whole contract says which there are."""
    if not isinstance(before, PredictSignature) or not isinstance(after, PredictSignature):
        assert not isinstance(before, PredictSignature)  # of one method
        assert not isinstance(after, PredictSignature)
        if old.takes_examples() != new.takes_examples():
            return  # then the model's own form has changed, and its own signature tells
        yield from features(f"{path}.features", old.feature_forms(before.features), new.feature_forms(after.features))
        return
    for name in sorted(before.inputs.keys() & after.inputs.keys()):
        was, is_ = before.inputs[name], after.inputs[name]
        if was.features is not None and is_.features is not None:
            forms: list[dict[str, FeatureForm]] = [
                contract.feature_forms(tensor.features or {}) for contract, tensor in ((old, was), (new, is_))
            ]
            yield from features(f"{path}.inputs.{name}.features", *forms)
        elif was.features is None and is_.features is None and was.is_form and is_.is_form:
            targets = [
                ", ".join(targets_of(name, tensor, contract.default.inputs))
                for contract, tensor in ((old, was), (new, is_))
            ]
            what, why = "input that it becomes", "what callers send goes elsewhere"
            yield from differing("breaking", f"{path}.inputs.{name}.to", what, targets[0], targets[1], why)
