"""Faults of a contract that no part of it shows alone: what its signatures say of each other."""

from collections.abc import Iterator, Mapping

from slipway.contract.expressions import Call, Name, names_in
from slipway.contract.forms import FeatureForm, ImageForm
from slipway.contract.signatures import (
    DEFAULT_SIGNATURE,
    ClassifySignature,
    PredictSignature,
    RegressSignature,
    Signature,
)
from slipway.contract.tensors import ROWS, InputContract, OutputContract, TensorContract
from slipway.contract.words import count_of

_CHANNELS = (1, 3, 4)


def there(names: Mapping[str, object]) -> str:
    """Name what there is, for a fault that names what there is not."""
    return f"there are: {', '.join(names)}"


def faults_of_own_form(signatures: Mapping[str, Signature], own: str) -> list[str]:
    """Tell what hinders that a request without a name is answered, or that golden data are about *own*."""
    found = ", ".join(f"{name} ({s.method})" for name, s in signatures.items()) or "none"
    if DEFAULT_SIGNATURE not in signatures:
        return [f"signatures: serving_default is needed (`alias: …` makes one), there are: {found}"]
    signature = signatures.get(own)
    key = "signatures.serving_default" if own == DEFAULT_SIGNATURE else "golden.signature"
    hint = "name one as golden.signature" if own == DEFAULT_SIGNATURE else "name another"
    if not isinstance(signature, PredictSignature):
        return [f"{key}: golden data are about a predict signature; {hint}, there are: {found}"]
    if not signature.is_own_form or not signature.batched:
        what = "makes the model's inputs from another form" if signature.batched else "has no rows"
        return [
            f"{key}: golden data are about a signature whose inputs the model takes as they come, {own} {what}; {hint}"
        ]
    return []


def faults_of_dims(signatures: Mapping[str, Signature], dims: Mapping[str, int]) -> list[str]:
    """Tell symbols that have no size to be tried with, and sizes of symbols that no tensor has."""
    used = {
        size: f"{name}.{side}.{tensor}"
        for name, signature in signatures.items()
        if isinstance(signature, PredictSignature)
        for side, tensors in (("inputs", signature.inputs), ("outputs", signature.outputs))
        for tensor, contract in tensors.items()
        for size in contract.shape
        if isinstance(size, str) and size != ROWS
    }
    missing = [
        f"probe.dims: no size to try for {size} (in {where})" for size, where in used.items() if size not in dims
    ]
    return missing + [f"probe.dims: no tensor has {size} in its shape" for size in dims if size not in used]


# --- outputs ---------------------------------------------------------------------------------------


def faults_of_sources(signatures: Mapping[str, Signature]) -> list[str]:
    """Tell outputs that are made from themselves, and sizes that an expression cannot give."""
    return [
        f"signatures.{name}.outputs.{output}.{fault}"
        for name, signature in signatures.items()
        if isinstance(signature, PredictSignature)
        for output in signature.outputs
        for fault in _faults_of_source(output, signature.outputs)
    ]


def _faults_of_source(name: str, outputs: Mapping[str, OutputContract]) -> Iterator[str]:
    if _is_made_from_itself(name, outputs):
        yield "from: is made from itself"
        return
    output = outputs[name]
    match output.expression(name):
        case Call(function="top_k_scores" | "top_k_ids" | "top_k_classes", numbers=(k,)) as call:
            if output.shape[-1] != k:
                yield f"shape: the last of {output.from_} is {k}, got {list(output.shape)}"
            known = _last_size(call.arguments[0], outputs)
            if known is not None and known < k:
                yield f"from: there are no {k} of {known}"
            if (
                call.function == "top_k_classes"
                and known is not None
                and (given := count_of(output.classes or ())) != known
            ):
                yield f"classes: {call.arguments[0].name} has {known} scores, got {given} classes"  # type: ignore[union-attr]  # has a size


def _last_size(argument: Name | Call, outputs: Mapping[str, OutputContract]) -> int | None:
    if isinstance(argument, Name) and argument.name in outputs:
        size = outputs[argument.name].shape[-1]
        return size if isinstance(size, int) else None
    return None


def _is_made_from_itself(output: str, outputs: Mapping[str, OutputContract]) -> bool:
    waiting, seen = [output], set[str]()
    while waiting:
        current = waiting.pop()
        made = outputs[current].expression(current)
        if isinstance(made, Name):
            continue  # a plain name is always the model's
        for name in names_in(made):
            if name == output:
                return True
            if name in outputs and name not in seen:
                seen.add(name)
                waiting.append(name)
    return False


# --- forms -----------------------------------------------------------------------------------------


def targets_of(name: str, tensor: InputContract, own: Mapping[str, InputContract]) -> list[str]:
    """Name the inputs of the model that input *name* of a signature carries."""
    if tensor.features is not None:
        return list(own)
    if tensor.is_form:
        return [tensor.to or (next(iter(own)) if len(own) == 1 else name)]
    return [next(iter(own)) if len(own) == 1 else name]


def faults_of_forms(signatures: Mapping[str, Signature], own: str, default: PredictSignature) -> list[str]:
    """Tell what hinders that signatures make the inputs of *default* from another form."""
    return [
        f"signatures.{name}.{fault}"
        for name, signature in signatures.items()
        if isinstance(signature, PredictSignature) and not signature.is_own_form
        for fault in _faults_of_form(signature, own, default.inputs)
    ]


def _faults_of_form(signature: PredictSignature, own: str, inputs: Mapping[str, InputContract]) -> Iterator[str]:
    carried: dict[str, str] = {}
    for name, tensor in signature.inputs.items():
        where = f"inputs.{name}"
        if tensor.features is not None and len(signature.inputs) > 1:
            yield f"{where}: Examples carry all inputs, beside them there is {_others(signature.inputs, name)}"
        for target in targets_of(name, tensor, inputs):
            if target not in inputs:
                key = ".to" if tensor.is_form else ""
                yield f"{where}{key}: {own} has no input {target}; {there(inputs)}"
                continue
            if target in carried:
                yield f"{where}: input {target} of {own} is carried by {carried[target]} already"
            carried[target] = name
            yield from _faults_of_input(where, tensor, target, inputs[target])
        if tensor.features is not None:
            yield from _faults_of_features(f"{where}.features", tensor.features, own, inputs)
    if missing := [name for name in inputs if name not in carried]:
        yield f"inputs: nothing carries input {missing[0]} of {own}"


def _others(inputs: Mapping[str, object], name: str) -> str:
    return ", ".join(other for other in inputs if other != name)


def _faults_of_input(where: str, tensor: InputContract, target: str, into: InputContract) -> Iterator[str]:
    if tensor.image is not None:
        yield from _faults_of_image(f"{where}.image", tensor.image, target, into)
    elif tensor.vocabulary is not None:
        yield from _faults_of_words(f"{where}.vocabulary", target, into)
        if tensor.shape != into.shape:
            yield f"{where}.shape: words take the places of {target}, {list(into.shape)}, got {list(tensor.shape)}"
    elif tensor.features is None and (tensor.dtype, tensor.shape) != (into.dtype, into.shape):
        yield (
            f"{where}: the model's own {target} is {into.dtype} {list(into.shape)}, "
            f"got {tensor.dtype} {list(tensor.shape)}"
        )


def _faults_of_image(where: str, image: ImageForm, target: str, into: InputContract) -> Iterator[str]:
    shape = into.shape
    if len(shape) != 4 or shape[3] not in _CHANNELS:
        yield f"{where}: a picture becomes [N, height, width, 1, 3 or 4], {target} is {list(shape)}"
        return
    if image.size is None and not all(isinstance(size, int) for size in shape[1:3]):
        yield f"{where}: {target} may have any size, {list(shape)}; give `size: [height, width]`"
    elif image.size is not None and any(
        isinstance(want, int) and want != size for want, size in zip(shape[1:3], image.size, strict=True)
    ):
        yield f"{where}.size: {target} is {list(shape)}, got {list(image.size)}"
    if into.dtype in ("string", "bool"):
        yield f"{where}: a picture is numbers, {target} is {into.dtype}"
    elif into.dtype.startswith("float") and image.range is None and image.scale is None and into.range is None:
        yield f"{where}: give `range: [black, white]`; {target} has no range"
    for key in ("scale", "offset"):
        value = getattr(image, key)
        if isinstance(value, tuple) and len(value) != shape[3]:
            yield f"{where}.{key}: {target} has {shape[3]} channels, got {len(value)} numbers"


def _faults_of_words(where: str, target: str, into: InputContract) -> Iterator[str]:
    if into.dtype not in ("int32", "int64"):
        yield f"{where}: words become int32 or int64, {target} is {into.dtype}"


def _faults_of_features(
    where: str, features: Mapping[str, str | FeatureForm], own: str, inputs: Mapping[str, InputContract]
) -> Iterator[str]:
    for name in features:
        if name not in inputs:
            yield f"{where}: {own} has no input {name}; {there(inputs)}"
    for name, tensor in inputs.items():
        if tensor.example is not None:
            yield f"{where}: the model itself takes Examples, as {name}"
            return
        form = features.get(name)
        if isinstance(form, FeatureForm) and form.image is not None:
            yield from _faults_of_image(f"{where}.{name}.image", form.image, name, tensor)
            continue
        if isinstance(form, FeatureForm) and form.vocabulary is not None:
            yield from _faults_of_words(f"{where}.{name}.vocabulary", name, tensor)
        yield from _faults_of_sizes(where, name, tensor, form if isinstance(form, FeatureForm) else FeatureForm())


def _faults_of_sizes(where: str, name: str, tensor: TensorContract, form: FeatureForm) -> Iterator[str]:
    inner = tensor.shape[1:]
    if form.pad is None and any(isinstance(size, str) for size in inner):
        yield (
            f"{where.removesuffix('.features')}: input {name} has shape {list(tensor.shape)}, but a tf.Example carries "
            f"fixed sizes only; give its feature a `pad`"
        )
    elif form.pad is not None and (not inner or not isinstance(inner[0], str)):
        yield f"{where}.{name}.pad: what is padded is [N, T, …], {name} is {list(tensor.shape)}"
    elif form.pad is not None and any(isinstance(size, str) for size in inner[1:]):
        yield f"{where}.{name}: only the size after N may vary, {name} is {list(tensor.shape)}"
    if isinstance(form.default, tuple):
        count = _product(inner)
        if len(form.default) != count:
            yield f"{where}.{name}.default: {name} has {count} values a row, got {len(form.default)}"


def _product(sizes: tuple[int | str, ...]) -> int:
    product = 1
    for size in sizes:
        product *= size if isinstance(size, int) else 1
    return product


# --- classify and regress --------------------------------------------------------------------------


def faults_of_examples(signatures: Mapping[str, Signature], own: str, default: PredictSignature) -> list[str]:
    """Tell what classify and regress signatures name that the predict signature behind them does not have."""
    return [
        fault
        for name, signature in signatures.items()
        if not isinstance(signature, PredictSignature)
        for fault in _faults_of_examples(f"signatures.{name}", signature, own, default)
    ]


def _faults_of_examples(
    where: str, signature: ClassifySignature | RegressSignature, own: str, default: PredictSignature
) -> Iterator[str]:
    takes_examples = [name for name, tensor in default.inputs.items() if tensor.example]
    if takes_examples and len(default.inputs) > 1:
        yield f"{where}: the model takes Examples as {takes_examples[0]}, and beside them other inputs"
    elif signature.features or not takes_examples:
        yield from _faults_of_features(f"{where}.features", signature.features, own, default.inputs)
    key, output = ("scores", signature.scores) if signature.method == "classify" else ("value", signature.value)
    made_from = default.outputs.get(output)
    if made_from is None:
        yield f"{where}.{key}: {own} has no output {output}; {there(default.outputs)}"
    elif isinstance(signature, ClassifySignature):
        count = made_from.shape[1] if len(made_from.shape) == 2 else None
        if not isinstance(count, int):
            yield f"{where}.scores: {output} must have shape [N, classes], got {list(made_from.shape)}"
            return
        if signature.classes and (given := count_of(signature.classes)) != count:
            yield f"{where}.classes: {output} has {count} scores, got {given} classes"
        if signature.top_k and signature.top_k > count:
            yield f"{where}.top_k: {output} has {count} scores, got {signature.top_k}"
    elif made_from.shape[1:] not in ((), (1,)):
        yield f"{where}.value: {output} must have shape [N] or [N, 1], got {list(made_from.shape)}"
