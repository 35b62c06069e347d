"""
What a new contract takes from those who call the model by the old one: every difference, judged.

Pure: two contracts in, a list of changes out. A key that no rule here knows counts as breaking where it differs:
better a question too many than a client that stops working.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from slipway.contract.tensors import ROWS, InputContract, OutputContract, TensorContract
from slipway.contract.whole import Contract

Kind = Literal["breaking", "compatible", "documentation"]
# Worst first, as they are told.
KINDS: tuple[Kind, ...] = ("breaking", "compatible", "documentation")

# What only people read, or only Slipway's own tests use: no caller notices.
_FOR_PEOPLE = frozenset({"doc", "values"})
_FOR_TESTS = ("probe", "forbid_ops", "allow_ops", "format")
# Of a signature: told by rules of their own.
_TOLD_APART = frozenset(
    {"inputs", "outputs", "method", "doc", "deterministic", "row_independent", "features", "classes"}
)
_STRENGTH = {"bitwise": 2, "within_tolerance": 1, False: 0}


@dataclass(frozen=True, slots=True)
class Change:
    """
    One difference between two contracts.

    Attributes:
        kind: What it does to callers: breaking, compatible, or nothing (documentation).
        path: Where it is, as in the file.
        what: What happened there.
        old: The old value, as people write it; empty where there was none.
        new: The new value; empty where there is none.
    """

    kind: Kind
    path: str
    what: str
    old: str = ""
    new: str = ""

    def line(self) -> str:
        """Say it in one line."""
        values = f": {self.old or 'none'} → {self.new or 'none'}" if self.old or self.new else ""
        return f"{self.kind}: {self.path}: {self.what}{values}"


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
    yield from _text("doc", old.doc, new.doc)
    yield from _number(
        "golden.min_accuracy", old.golden.min_accuracy, new.golden.min_accuracy, "least accuracy", worse_if="less"
    )
    yield from _number("max_rows", old.max_rows, new.max_rows, "most rows at once", worse_if="less", none_is="most")
    if old.golden.label != new.golden.label:
        kind: Kind = "breaking" if old.golden.min_accuracy is not None else "documentation"
        yield Change(
            kind,
            "golden.label",
            "output that labels are compared with",
            _said(old.golden.label),
            _said(new.golden.label),
        )
    before, after = (contract.model_dump(mode="json", by_alias=True) for contract in (old, new))
    told = {"label", "min_accuracy", "atol", "rtol"}
    for key in sorted(before["golden"].keys() | after["golden"].keys()):
        if key not in told and before["golden"].get(key) != after["golden"].get(key):
            values = _said(before["golden"].get(key)), _said(after["golden"].get(key))
            yield Change("documentation", f"golden.{key}", "how it is tested", *values)
    for key in _FOR_TESTS:
        if before.get(key) != after.get(key):
            yield Change("documentation", key, "how it is tested")


def _of_signatures(path: str, name: str, old: Contract, new: Contract) -> Iterator[Change]:
    before, after = old.signatures[name], new.signatures[name]
    dumped = [signature.model_dump(mode="json", by_alias=True) for signature in (before, after)]
    methods = [one.get("method") for one in dumped]
    if methods[0] != methods[1]:
        yield Change("breaking", f"{path}.method", "method changed", _said(methods[0]), _said(methods[1]))
        return
    yield from _text(f"{path}.doc", dumped[0].get("doc", ""), dumped[1].get("doc", ""))
    yield from _promises(path, name, old, new)
    inputs = [*_of_tensors(f"{path}.inputs", old.inputs_of(name), new.inputs_of(name))]
    # Those of classify and regress are texts of ours.
    yield from (change for change in inputs if methods[0] == "predict" or not change.path.endswith(".doc"))
    yield from _of_tensors(f"{path}.outputs", old.outputs_of(name), new.outputs_of(name))
    yield from _symbols(path, *({**c.inputs_of(name), **c.outputs_of(name)} for c in (old, new)))
    for output in sorted(old.outputs_of(name).keys() & new.outputs_of(name).keys()):
        pairs = zip(("atol", "rtol"), old.tolerance(name, output), new.tolerance(name, output), strict=True)
        for key, was, is_ in pairs:
            yield from _number(f"{path}.outputs.{output}.{key}", was, is_, "tolerance", worse_if="more")
    yield from _features(f"{path}.features", dumped[0].get("features"), dumped[1].get("features"))
    yield from _classes(f"{path}.classes", dumped[0].get("classes"), dumped[1].get("classes"))
    for key in sorted((dumped[0].keys() | dumped[1].keys()) - _TOLD_APART):
        if dumped[0].get(key) != dumped[1].get(key):
            yield Change("breaking", f"{path}.{key}", "changed", _said(dumped[0].get(key)), _said(dumped[1].get(key)))


def _promises(path: str, name: str, old: Contract, new: Contract) -> Iterator[Change]:
    was, is_ = old.determinism_of(name), new.determinism_of(name)
    if was != is_:
        kind: Kind = "breaking" if _STRENGTH[is_] < _STRENGTH[was] else "compatible"
        yield Change(kind, f"{path}.deterministic", "what the same question gets twice", _said(was), _said(is_))
    apart = old.rows_are_apart(name), new.rows_are_apart(name)
    if apart[0] != apart[1]:
        what = "whether rows are answered apart"
        yield Change("breaking" if apart[0] else "compatible", f"{path}.row_independent", what, *map(_said, apart))


# --- tensors ---------------------------------------------------------------------------------------


def _of_tensors(path: str, old: Mapping[str, TensorContract], new: Mapping[str, TensorContract]) -> Iterator[Change]:
    is_input = path.endswith("inputs")
    side = "input" if is_input else "output"
    for name in sorted(old.keys() | new.keys()):
        where = f"{path}.{name}"
        if name not in new:
            yield Change("breaking", where, f"{side} removed")
        elif name not in old:
            optional = not is_input or getattr(new[name], "default", None) is not None
            what = f"{side} added" + (", which callers must send" if not optional else "")
            yield Change("compatible" if optional else "breaking", where, what)
        else:
            yield from _of_tensor(where, old[name], new[name], is_input=is_input)


def _of_tensor(path: str, old: TensorContract, new: TensorContract, *, is_input: bool) -> Iterator[Change]:
    if old.dtype != new.dtype:
        yield Change("breaking", f"{path}.dtype", "dtype changed", old.dtype, new.dtype)
    yield from _shape(f"{path}.shape", old, new, is_input=is_input)
    if old.range != new.range:
        # Who calls may send less than is taken, and expects no more than was promised.
        kind: Kind = (
            "compatible"
            if _is_inside(*((old.range, new.range) if is_input else (new.range, old.range)))
            else "breaking"
        )
        what = "range of what is taken" if is_input else "range of answers"
        yield Change(kind, f"{path}.range", what, _said(old.range), _said(new.range))
    if old.units != new.units:
        yield Change("documentation" if not old.units else "breaking", f"{path}.units", "units", old.units, new.units)
    told = {"dtype", "shape", "range", "units", "atol", "rtol", "default"}
    if isinstance(old, OutputContract) and isinstance(new, OutputContract):
        told |= {"row_sum", "meaning", "from"}
        yield from _of_output(path, old, new)
    if is_input:
        yield from _default(path, old, new)
    before, after = (tensor.model_dump(mode="json", by_alias=True) for tensor in (old, new))
    for key in sorted((before.keys() | after.keys()) - told):
        if before.get(key) != after.get(key):
            kind = "documentation" if key in _FOR_PEOPLE else "breaking"
            yield Change(kind, f"{path}.{key}", "changed", _said(before.get(key)), _said(after.get(key)))


def _of_output(path: str, old: OutputContract, new: OutputContract) -> Iterator[Change]:
    if old.row_sum != new.row_sum:
        kind: Kind = "compatible" if old.row_sum is None else "breaking"
        yield Change(kind, f"{path}.row_sum", "sum of the last axis", _said(old.row_sum), _said(new.row_sum))
    if old.meaning != new.meaning:
        kind = "documentation" if old.meaning is None else "breaking"
        yield Change(kind, f"{path}.meaning", "meaning", _said(old.meaning), _said(new.meaning))
    if old.from_ != new.from_:
        # Another tensor of another training may well be the same thing; another function is not.
        name = path.rpartition(".")[2]
        same = _function(old.from_ or name) == _function(new.from_ or name)
        yield Change(
            "compatible" if same else "breaking", f"{path}.from", "made otherwise", _said(old.from_), _said(new.from_)
        )


def _default(path: str, old: TensorContract, new: TensorContract) -> Iterator[Change]:
    was, is_ = (
        getattr(tensor, "default", None) if isinstance(tensor, InputContract) else None for tensor in (old, new)
    )
    if was != is_:
        kind: Kind = "compatible" if was is None else "breaking"
        yield Change(kind, f"{path}.default", "value where a caller sends none", _said(was), _said(is_))


def _shape(path: str, old: TensorContract, new: TensorContract, *, is_input: bool) -> Iterator[Change]:
    if len(old.shape) != len(new.shape):
        yield Change("breaking", path, "rank changed", _said(old.shape), _said(new.shape))
        return
    pairs = [(was, is_) for was, is_ in zip(old.shape, new.shape, strict=True) if was != is_]
    changed = [(was, is_) for was, is_ in pairs if not (isinstance(was, str) and isinstance(is_, str))]
    if not changed:
        return
    # A size that becomes free is more for a caller to send, and more for him to expect.
    freed = all(isinstance(is_, str) for _, is_ in changed)
    fixed = all(isinstance(was, str) for was, _ in changed)
    kind: Kind = "compatible" if (freed if is_input else fixed) else "breaking"
    yield Change(kind, path, "sizes changed", _said(old.shape), _said(new.shape))


def _symbols(path: str, old: Mapping[str, TensorContract], new: Mapping[str, TensorContract]) -> Iterator[Change]:
    """Compare which sizes must agree: a symbol may be called otherwise, two must not become one."""
    meant: dict[str, dict[str, None]] = {}
    for name in sorted(old.keys() & new.keys()):
        for was, is_ in zip(old[name].shape, new[name].shape, strict=False):
            if isinstance(was, str) and isinstance(is_, str):
                meant.setdefault(is_, {})[was] = None
    for symbol, before in meant.items():
        olds = ", ".join(before)
        if len(before) > 1:
            yield Change("breaking", f"{path}.{symbol}", "sizes that were free must agree", olds, symbol)
        elif olds != symbol and ROWS not in {olds, symbol}:
            yield Change("documentation", f"{path}.{symbol}", "size called otherwise", olds, symbol)
        elif olds != symbol:
            yield Change("breaking", f"{path}.{symbol}", "rows", olds, symbol)


# --- values ----------------------------------------------------------------------------------------


def _features(path: str, old: Any, new: Any) -> Iterator[Change]:
    if old == new or not isinstance(old, dict | None) or not isinstance(new, dict | None):
        return
    old, new = old or {}, new or {}
    for name in sorted(old.keys() | new.keys()):
        if old.get(name, name) != new.get(name, name):
            what = "feature that carries the input"
            yield Change("breaking", f"{path}.{name}", what, _said(old.get(name, name)), _said(new.get(name, name)))


def _classes(path: str, old: Any, new: Any) -> Iterator[Change]:
    if old == new:
        return
    if isinstance(old, list) and isinstance(new, list):
        if sorted(old) == sorted(new):
            moved = next(index for index, (was, is_) in enumerate(zip(old, new, strict=True)) if was != is_)
            yield Change("breaking", f"{path}[{moved}]", "classes reordered", old[moved], new[moved])
            return
        gone = [name for name in old if name not in new]
        extra = [name for name in new if name not in old]
        yield Change("breaking", path, f"classes changed ({len(old)} → {len(new)})", ", ".join(gone), ", ".join(extra))
        return
    yield Change("breaking", path, "classes changed", _said(old), _said(new))


def _text(path: str, old: str, new: str) -> Iterator[Change]:
    if old != new:
        yield Change("documentation", path, "text changed", old, new)


def _number(
    path: str,
    old: float | None,
    new: float | None,
    what: str,
    *,
    worse_if: Literal["less", "more"],
    none_is: Literal["least", "most"] = "least",
) -> Iterator[Change]:
    """Judge a promise in numbers; without one it counts as the least or the most."""
    if old == new:
        return
    missing = float("-inf") if none_is == "least" else float("inf")
    was, is_ = missing if old is None else old, missing if new is None else new
    worse = is_ < was if worse_if == "less" else is_ > was
    yield Change("breaking" if worse else "compatible", path, what, _said(old), _said(new))


def _is_inside(inner: tuple[float, float] | None, outer: tuple[float, float] | None) -> bool:
    """Say whether every value of *inner* is one of *outer*; None is every value."""
    if outer is None:
        return True
    return inner is not None and outer[0] <= inner[0] and inner[1] <= outer[1]


def _function(expression: str) -> str:
    """Give the outermost function of an expression with the names in it left out; empty for a name alone."""
    return expression.partition("(")[0] if "(" in expression else ""


def _said(value: Any) -> str:
    """Write a value as a contract's file has it, in one line."""
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case float():
            return f"{value:g}"
        case list() | tuple():
            return f"[{', '.join(_said(one) for one in value)}]"
        case dict():
            return f"{{{', '.join(f'{key}: {_said(one)}' for key, one in value.items())}}}"
    return str(value)
