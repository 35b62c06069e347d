"""One signature of a SavedModel as a model: which of its names the contract means."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from slipway.errors import SourceError
from slipway.graphs.frozen import to_constant
from slipway.graphs.names import near
from slipway.source_settings import SavedModelSource
from slipway_wire import signatures
from slipway_wire.signatures import Signature

# TF2 keeps its initialiser among the signatures.
_INTERNAL_PREFIX = "__"


@dataclass(frozen=True, slots=True)
class Chosen:
    """
    What of a signature is the model.

    Attributes:
        signature: The signature.
        inputs: The contract's name -> the signature's.
        outputs: The contract's name -> the signature's.
        frozen: The signature's name of an input -> TensorProto message of its value.
        frozen_tensors: Tensor in the graph, none of the signature's -> value.
    """

    signature: Signature
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    frozen: Mapping[str, Any]
    frozen_tensors: Mapping[str, Any]


def choose(source: SavedModelSource, meta_graph: Any) -> Chosen:
    """
    Find what *source* names in its meta graph.

    Raises:
        SourceError: With a line for each name that is not there, naming those that are.
    """
    where = source.path.name
    found = signatures.from_meta_graph(meta_graph)
    there = [name for name in found if not name.startswith(_INTERNAL_PREFIX)]
    if source.signature not in there:
        raise SourceError(f"{where}: no signature {source.signature}; {_there(source.signature, there)}.")
    signature = found[source.signature]
    frozen = {name: value for name, value in source.freeze_inputs.items() if name in signature.inputs}
    inputs = source.inputs or {name: name for name in signature.inputs if name not in frozen}
    outputs = source.outputs or {name: name for name in signature.outputs}
    faults = [
        f"{where}: {key}: signature {source.signature} has no {key[:-1]} {name}; {_there(name, known)}."
        for key, names, known in (("inputs", inputs, signature.inputs), ("outputs", outputs, signature.outputs))
        for name in names.values()
        if name not in known
    ]
    faults += [f"{where}: {name} is among the inputs and in freeze_inputs; it is fed or frozen, not both." for name in inputs.values() if name in frozen]  # fmt: skip
    used = [*inputs.values(), *frozen, *signature.defaults]
    faults += [
        f"{where}: signature {source.signature} needs the input {name}, too. Name it in `inputs`, or give it the value "
        f"it has when the model is used: freeze_inputs: {{{name}: …}}."
        for name in signature.inputs
        if name not in used
    ]
    faults += [
        f"{where}: {name} of signature {source.signature} is no single tensor, but a sparse or composite one."
        for name, spec in {**signature.inputs, **signature.outputs}.items()
        if not spec.graph_name and name in {*used, *outputs.values()}
    ]
    if faults:
        raise SourceError("\n".join(faults))
    return Chosen(
        signature,
        inputs,
        outputs,
        {name: to_constant(where, name, signature.inputs[name].dtype, value) for name, value in frozen.items()},
        {name: value for name, value in source.freeze_inputs.items() if name not in frozen},
    )


def _there(name: str, names: Iterable[str]) -> str:
    known = list(names)
    close = near(name, known)
    hint = f"; near it: {', '.join(close)}" if close and len(known) > len(close) else ""
    return f"it has: {', '.join(known) or 'none'}{hint}"
