"""Hold a SavedModel's answers against its contract and the golden answers; knows only a function that runs a signature."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from slipway import comparable, forms, rows
from slipway.answers import expected as expected_answers
from slipway.contract import (
    ROWS,
    Contract,
    OutputContract,
    PredictSignature,
    TensorContract,
)
from slipway.errors import SourceError
from slipway.golden import Golden
from slipway.parity import accuracy, compare, difference
from slipway.records import Check, Parity
from slipway_wire import dtypes

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]
Run = Callable[[str, Arrays], Arrays]

PATH = "checkpoint→SavedModel"
# Rounding of a float32 sum of rows or of a bound; both are promises about mathematics, not about bits.
_RANGE_SLACK = 1e-6
_ROW_SUM_SLACK = 1e-4
# Of a string that is no text.
_SHOWN = 40


def check_behaviour(contract: Contract, name: str, golden: Golden, run: Run) -> list[Check]:
    """
    Check how signature *name* behaves: every batch size, every output, alone and among others, in any order, twice.

    Args:
        contract: What is promised.
        name: Key of the signature.
        golden: Rows to ask about, where the signature takes them.
        run: Signature and inputs -> outputs; SourceError if the model fails.
    """
    sizes = contract.batch_sizes
    asked = rows.rows_for(contract, name, sizes[-1], golden)
    answers: dict[int, Arrays] = {}
    checks: list[Check] = []
    for size in sizes:
        try:
            answers[size] = run(name, {key: array[:size] for key, array in asked.items()})
            checks.append(_check(f"{name}.batch_size.{size}", True, "answers", "answers"))
        except SourceError as error:
            checks.append(_check(f"{name}.batch_size.{size}", False, "answers", str(error)))
    if not answers:
        return checks
    try:
        answered = [*answers.values(), run(name, rows.edges_for(contract, name))]
    except SourceError as error:
        checks.append(_check(f"{name}.edges", False, "answers to rows at the edges of the ranges", str(error)))
        answered = list(answers.values())
    dims = _dims(contract, name, asked)
    for output, tensor in contract.outputs_of(name).items():
        if all(output in found for found in answers.values()):
            checks += _check_output(f"{name}.outputs.{output}", output, tensor, answers, answered, dims)
    if contract.determinism_of(name) is False:
        return checks
    if contract.rows_are_apart(name):
        checks.append(_check_rows_apart(contract, name, answers))
        checks.append(_check_row_order(contract, name, asked, answers, run))
    return [*checks, _check_repeats(contract, name, asked, answers, run)]


def _check(
    subject: str, ok: bool, expected: str, found: str, kind: Literal["behaviour", "golden"] = "behaviour"
) -> Check:
    return Check(kind=kind, subject=subject, ok=ok, expected=expected, found=found)


def _dims(contract: Contract, name: str, asked: Arrays) -> dict[str, int]:
    """Give the sizes that symbols other than N have in what was asked, or else the probe's."""
    dims = dict(contract.probe.dims)
    for key, tensor in contract.inputs_of(name).items():
        sizes = zip(tensor.shape, asked[key].shape, strict=True)
        dims |= {symbol: size for symbol, size in sizes if isinstance(symbol, str) and symbol != ROWS}
    return dims


def _check_output(
    subject: str,
    output: str,
    tensor: TensorContract,
    answers: Mapping[int, Arrays],
    answered: list[Arrays],
    dims: Mapping[str, int],
) -> Iterator[Check]:
    wanted = {size: list(tensor.sizes({**dims, ROWS: size})) for size in answers}
    odd = {
        size: list(found[output].shape) for size, found in answers.items() if list(found[output].shape) != wanted[size]
    }
    size = next(iter(odd), max(answers))
    yield _check(f"{subject}.shape", not odd, str(wanted[size]), str(odd.get(size, wanted[size])))
    dtype = dtypes.from_name(tensor.dtype).enum_name
    found = dtypes.from_numpy(answers[max(answers)][output].dtype).enum_name
    yield _check(f"{subject}.dtype", dtype == found, dtype, found)
    if tensor.dtype == "string" and not output.endswith("_bytes"):
        yield _check_text(f"{subject}.text", [array[output] for array in answered])
    values = [array[output] for array in answered if array[output].size and array[output].dtype.kind in "fiu"]
    if not values:
        return
    if values[0].dtype.kind == "f":
        wrong = sum(int((~np.isfinite(array)).sum()) for array in values)
        yield _check(
            f"{subject}.finite", not wrong, "finite values", f"{wrong} NaN or infinite" if wrong else "finite values"
        )
    bounds = tensor.range or (tensor.bounds if isinstance(tensor, OutputContract) else None)
    if bounds and bounds != (-np.inf, np.inf):
        least, greatest = min(float(a.min()) for a in values), max(float(a.max()) for a in values)
        ok = bounds[0] - _RANGE_SLACK <= least and greatest <= bounds[1] + _RANGE_SLACK
        meant = (
            "" if tensor.range or not isinstance(tensor, OutputContract) else f", for its meaning is {tensor.meaning}"
        )
        yield _check(f"{subject}.range", ok, _interval(*bounds) + meant, _interval(least, greatest))
    if isinstance(tensor, OutputContract) and tensor.row_sum is not None and all(array.ndim for array in values):
        sums = np.concatenate([array.astype(np.float64).sum(axis=-1).ravel() for array in values])
        ok = bool(np.allclose(sums, tensor.row_sum, rtol=0, atol=_ROW_SUM_SLACK))
        yield _check(f"{subject}.row_sum", ok, f"{tensor.row_sum:g}", _interval(float(sums.min()), float(sums.max())))


def _check_text(subject: str, answered: Sequence[Array]) -> Check:
    """Check that strings are text: what is not makes an answer over REST that is no JSON."""
    odd = next((value for array in answered for value in array.flat if not _is_text(value)), None)
    found = "UTF-8" if odd is None else f"{odd[:_SHOWN]!r}; a name that ends in _bytes would say that these are bytes"
    return _check(subject, odd is None, "UTF-8", found)


def _is_text(value: Any) -> bool:
    try:
        return not isinstance(value, bytes) or value.decode() is not None
    except UnicodeDecodeError:
        return False


def _interval(least: float, greatest: float) -> str:
    return f"{least:.6g} … {greatest:.6g}"


def _check_rows_apart(contract: Contract, name: str, answers: Mapping[int, Arrays]) -> Check:
    """Check that a row's answer does not depend on who shares its batch: a server puts strangers together."""
    largest = max(answers)
    apart = [
        f"{parity.output} moves by {parity.max_abs:.3g} from {size} to {largest} rows"
        for size, found in answers.items()
        for parity in _parities(contract, name, _first(contract, name, answers[largest], size), found)
        if not parity.ok
    ]
    expected = f"the same answers within {contract.probe.atol:g} + {contract.probe.rtol:g}·|answer| in every batch"
    return _check(f"{name}.batch_invariance", not apart, expected, "; ".join(apart) or "the same answers")


def _check_row_order(contract: Contract, name: str, asked: Arrays, answers: Mapping[int, Arrays], run: Run) -> Check:
    """Check that a row's answer depends neither on its place nor on the rows in front of it: the same rows, backwards."""
    largest = max(answers)
    expected = "the same answers wherever a row stands"
    backwards = {key: array[:largest][::-1] for key, array in asked.items()}
    try:
        found = run(name, backwards)
    except SourceError as error:
        return _check(f"{name}.row_order", False, expected, str(error))
    turned = {output: array[::-1] if array.shape[:1] == (largest,) else array for output, array in found.items()}
    apart = [
        f"{parity.output} moves by {parity.max_abs:.3g} when the rows come the other way round"
        for parity in _parities(contract, name, answers[largest], turned)
        if not parity.ok
    ]
    return _check(f"{name}.row_order", not apart, expected, "; ".join(apart) or expected)


def _check_repeats(contract: Contract, name: str, asked: Arrays, answers: Mapping[int, Arrays], run: Run) -> Check:
    largest = max(answers)
    bitwise = contract.determinism_of(name) == "bitwise"
    expected = "the same bits twice" if bitwise else "the same answer twice"
    try:
        again = run(name, {key: array[:largest] for key, array in asked.items()})
    except SourceError as error:
        return _check(f"{name}.repeatable", False, expected, str(error))
    apart = [
        f"{parity.output} moves by {parity.max_abs:.3g}: a Dropout or another random op is live, or the model counts"
        for parity in _parities(contract, name, answers[largest], again)
        if not parity.ok
    ]
    if bitwise and not apart:
        apart = [
            f"{output} has other bits"
            for output, array in answers[largest].items()
            if array.dtype.kind != "O" and array.tobytes() != again[output].tobytes()
        ]
    return _check(f"{name}.repeatable", not apart, expected, "; ".join(apart) or expected)


def _parities(contract: Contract, name: str, expected: Arrays, found: Arrays) -> list[Parity]:
    probe = contract.probe
    return [
        compare("probe", name, output, array, found[output], atol=probe.atol, rtol=probe.rtol)
        for output, array in expected.items()
    ]


def _first(contract: Contract, name: str, answers: Arrays, size: int) -> Arrays:
    signature = contract.signatures[name]
    if isinstance(signature, PredictSignature) and not signature.batched:
        return answers
    # An output without rows has another size; its shape check says so, here it is compared as it is.
    return {name: array[:size] if array.ndim else array for name, array in answers.items()}


def check_golden(
    contract: Contract, names: Sequence[str], golden: Golden, run: Run
) -> tuple[list[Check], list[Parity], float | None]:
    """
    Compare the answers of those signatures among *names* that take golden rows with the golden answers.

    Returns:
        Checks, how far each output lies from the model's own answer, and the accuracy (0..1) if labels are known.
    """
    checks: list[Check] = []
    parities: list[Parity] = []
    measured = None
    for name in names:
        signature = contract.signatures[name]
        expected = expected_answers(contract, name, golden) if rows.has_golden_rows(contract, name, golden) else {}
        if not expected:
            checks += _check_same(contract, name, golden, run)
            continue
        asked = rows.rows_for(contract, name, golden.rows, golden)
        try:
            found = _run_in_parts(contract, name, asked, run)
        except SourceError as error:
            checks.append(_check(f"{name}.golden", False, "answers to golden rows", str(error), "golden"))
            continue
        for output, array in expected.items():
            if output in found:
                atol, rtol = contract.tolerance(name, output)
                why = comparable.why_not(contract, name)
                parity = compare(PATH, name, output, array, found[output], atol=atol, rtol=rtol, why_not=why)
                parities.append(parity)
                if not parity.ok and np.isinf(parity.max_abs):
                    what = difference(array, found[output])
                    checks.append(_check(f"{name}.{output}.values", False, "the golden answers", what, "golden"))
        label = contract.golden.label
        # A model that leaves rows out has failed above; its answers are nobody's.
        labels = golden.labels if signature is contract.default and label in found else None
        if label and labels is not None and found[label].shape[:1] == labels.shape:
            measured = accuracy(found[label], labels)
    # Why it was not asked has been told.
    if contract.golden.min_accuracy is not None and contract.golden.signature in names:
        missing = (
            "no labels in the golden data"
            if golden.labels is None
            else f"no answers of {contract.golden.signature} to judge"
        )
        checks.append(_check_accuracy(contract.golden.min_accuracy, measured, missing))
    return checks, parities, measured


def _run_in_parts(contract: Contract, name: str, asked: Arrays, run: Run) -> Arrays:
    """Run as many rows at once as the model takes."""
    rows_asked = len(next(iter(asked.values())))
    found = [
        run(name, {key: array[part] for key, array in asked.items()}) for part in comparable.parts(contract, rows_asked)
    ]
    signature = contract.signatures[name]
    has_rows = not isinstance(signature, PredictSignature) or signature.batched
    return {key: _joined([part[key] for part in found]) if has_rows else found[0][key] for key in found[0]}


def _joined(parts: Sequence[Array]) -> Array:
    """Put rows together again; what has none, or has others in each part, is left for its comparison to tell."""
    alike = parts[0].ndim and all(part.shape[1:] == parts[0].shape[1:] for part in parts)
    return np.concatenate(parts) if alike else parts[0]


def _check_same(contract: Contract, name: str, golden: Golden, run: Run) -> Iterator[Check]:
    """Check that a signature whose form loses something of the golden rows answers as the model does to what is left."""
    own = rows.own_form(contract, name)
    signature = contract.signatures[name]
    if (
        own is signature
        or contract.determinism_of(name) is False
        or contract.determinism_of(contract.golden.signature) is False
        or not isinstance(signature, PredictSignature)
        or not rows.has_golden_rows(contract, name, golden)
    ):
        return
    subject = f"{name}.same_as.{contract.golden.signature}"
    left = forms.carried(contract, name, {key: golden.inputs[key] for key in own.inputs})
    try:
        expected = _run_in_parts(contract, contract.golden.signature, left, run)
        found = _run_in_parts(contract, name, forms.encode(contract, name, left), run)
    except SourceError as error:
        yield _check(subject, False, "the same answers", str(error), "golden")
        return
    shared = {key: array for key, array in expected.items() if signature.outputs.get(key) == own.outputs[key]}
    apart = [
        f"{parity.output} departs by {parity.max_abs:.3g}"
        for parity in _parities(contract, name, shared, found)
        if not parity.ok
    ]
    yield _check(subject, not apart, "the same answers", "; ".join(apart) or "the same answers", "golden")


def _check_accuracy(least: float, measured: float | None, missing: str) -> Check:
    found = missing if measured is None else f"{measured:.4f}"
    ok = measured is not None and measured >= least
    return _check("golden.accuracy", ok, f"at least {least:g}", found, "golden")
