"""Faults of a contract that no part of it shows alone: what its signatures say of each other."""

from collections.abc import Mapping

from slipway.contract.signatures import ClassifySignature, PredictSignature, Signature
from slipway.contract.tensors import ROWS, OutputContract


def there(names: Mapping[str, object]) -> str:
    """Name what there is, for a fault that names what there is not."""
    return f"there are: {', '.join(names)}"


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


def faults_of_sources(signatures: Mapping[str, Signature]) -> list[str]:
    """Tell outputs that are made from themselves."""
    return [
        f"signatures.{name}.outputs.{output}.from: is made from itself"
        for name, signature in signatures.items()
        if isinstance(signature, PredictSignature)
        for output in signature.outputs
        if _is_made_from_itself(output, signature.outputs)
    ]


def _is_made_from_itself(output: str, outputs: Mapping[str, OutputContract]) -> bool:
    seen = {output}
    function, argument = outputs[output].source(output)
    while function and argument in outputs:
        if argument in seen:
            return True
        seen.add(argument)
        function, argument = outputs[argument].source(argument)
    return False


def faults_of_examples(signatures: Mapping[str, Signature], default: PredictSignature) -> list[str]:
    """Tell what classify and regress signatures name that the predict signature behind them does not have."""
    faults = []
    for name, signature in signatures.items():
        if isinstance(signature, PredictSignature):
            continue
        where = f"signatures.{name}"
        faults += [
            f"{where}.features: serving_default has no input {i}; {there(default.inputs)}"
            for i in signature.features
            if i not in default.inputs
        ]
        faults += [
            f"{where}: input {i} has shape {list(t.shape)}, but a tf.Example carries fixed sizes only"
            for i, t in default.inputs.items()
            if any(isinstance(size, str) for size in t.shape[1:])
        ]
        key, output = ("scores", signature.scores) if signature.method == "classify" else ("value", signature.value)
        made_from = default.outputs.get(output)
        if made_from is None:
            faults.append(f"{where}.{key}: serving_default has no output {output}; {there(default.outputs)}")
        elif isinstance(signature, ClassifySignature):
            classes = made_from.shape[1] if len(made_from.shape) == 2 else None
            if not isinstance(classes, int):
                faults.append(f"{where}.scores: {output} must have shape [N, classes], got {list(made_from.shape)}")
            elif signature.classes and len(signature.classes) != classes:
                faults.append(f"{where}.classes: {output} has {classes} scores, got {len(signature.classes)} classes")
        elif made_from.shape[1:] not in ((), (1,)):
            faults.append(f"{where}.value: {output} must have shape [N] or [N, 1], got {list(made_from.shape)}")
    return faults
