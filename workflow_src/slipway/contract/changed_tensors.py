"""What becomes of callers where the tensors of a signature change."""

from collections.abc import Iterator, Mapping

from slipway.contract.change import Change, Kind, differing, is_inside, said, taken, text
from slipway.contract.changed_forms import examples, images, lists, vocabularies
from slipway.contract.expressions import Expression, Name
from slipway.contract.tensors import ROWS, InputContract, OutputContract, TensorContract

_STRINGS = ("example", "features", "image", "vocabulary")


def tensors(path: str, old: Mapping[str, TensorContract], new: Mapping[str, TensorContract]) -> Iterator[Change]:
    """Judge the inputs, or the outputs, of a signature; *path* ends with which of them."""
    is_input = path.endswith("inputs")
    side = "input" if is_input else "output"
    for name in sorted(old.keys() | new.keys()):
        where = f"{path}.{name}"
        if name not in new:
            yield Change("breaking", where, f"{side} removed")
        elif name not in old:
            what = f"{side} added" + (", which callers must send" if is_input else "")
            yield Change("breaking" if is_input else "compatible", where, what)
        else:
            yield from _tensor(where, old[name], new[name], is_input=is_input)


def _tensor(path: str, old: TensorContract, new: TensorContract, *, is_input: bool) -> Iterator[Change]:
    yield from differing("breaking", f"{path}.dtype", "dtype changed", old.dtype, new.dtype)
    yield from _shape(f"{path}.shape", old, new, is_input=is_input)
    # Who calls may send less than is taken, and expects no more than was promised.
    if is_input:
        yield from taken(f"{path}.range", old.range, new.range)
    else:
        wider = not is_inside(new.range, old.range)
        why = "answers may lie where none did" if wider else ""
        kind: Kind = "breaking" if wider else "compatible"
        yield from differing(kind, f"{path}.range", "range of answers", old.range, new.range, why)
    kind = "breaking" if old.units else "documentation"
    why = "the same number means another amount" if old.units else "they were not said before"
    yield from differing(kind, f"{path}.units", "units", old.units, new.units, why)
    yield from text(f"{path}.doc", old.doc, new.doc)
    if isinstance(old, InputContract) and isinstance(new, InputContract):
        yield from _input(path, old, new)
    if isinstance(old, OutputContract) and isinstance(new, OutputContract):
        yield from _output(path, old, new)


def _input(path: str, old: InputContract, new: InputContract) -> Iterator[Change]:
    was, is_ = (next((key for key in _STRINGS if getattr(one, key) is not None), "values") for one in (old, new))
    if was != is_:
        yield Change("breaking", path, "what the strings are", was, is_, "callers must send something else")
        return
    yield from differing("documentation", f"{path}.values", "values to draw from", old.values, new.values)
    yield from images(f"{path}.image", old.image, new.image)
    yield from vocabularies(f"{path}.vocabulary", old.vocabulary, new.vocabulary)
    yield from examples(f"{path}.example", old.example, new.example)
    # `features` need the whole contract, and so does `to` where it is not said: `slipway.contract.changes` tells them.


def _output(path: str, old: OutputContract, new: OutputContract) -> Iterator[Change]:
    kind: Kind = "compatible" if old.row_sum is None else "breaking"
    yield from differing(kind, f"{path}.row_sum", "sum of the last axis", old.row_sum, new.row_sum)
    kind = "documentation" if old.meaning is None else "breaking"
    why = "it was not said before" if old.meaning is None else "the same number must be read otherwise"
    yield from differing(kind, f"{path}.meaning", "meaning", old.meaning, new.meaning, why)
    if old.from_ != new.from_:
        name = path.rpartition(".")[2]
        was, is_ = old.expression(name), new.expression(name)
        same = outline(was) == outline(is_)
        why = (
            "another tensor of another training may be the same thing"
            if same
            else "another function gives other values"
        )
        kind = "compatible" if same else "breaking"
        yield Change(kind, f"{path}.from", "made otherwise", said(old.from_), said(new.from_), why)
    yield from lists(
        f"{path}.classes", "classes", old.classes, new.classes, none_is="numbers are not called so any more"
    )


def outline(expression: Expression) -> str:
    """Write an expression with the names in it left out: functions and numbers must stay, names of tensors need not."""
    if isinstance(expression, Name):
        return "·"
    inner = [outline(one) for one in expression.arguments]
    return f"{expression.function}({', '.join([*inner, *map(str, expression.numbers)])})"


def _shape(path: str, old: TensorContract, new: TensorContract, *, is_input: bool) -> Iterator[Change]:
    if len(old.shape) != len(new.shape):
        yield Change("breaking", path, "rank changed", said(old.shape), said(new.shape))
        return
    pairs = [(was, is_) for was, is_ in zip(old.shape, new.shape, strict=True) if was != is_]
    changed = [(was, is_) for was, is_ in pairs if not (isinstance(was, str) and isinstance(is_, str))]
    if not changed:
        return
    # A size that becomes free is more for a caller to send, and more for him to expect.
    freed = all(isinstance(is_, str) for _, is_ in changed)
    fixed = all(isinstance(was, str) for was, _ in changed)
    kind: Kind = "compatible" if (freed if is_input else fixed) else "breaking"
    yield Change(kind, path, "sizes changed", said(old.shape), said(new.shape))


def symbols(path: str, old: Mapping[str, TensorContract], new: Mapping[str, TensorContract]) -> Iterator[Change]:
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
