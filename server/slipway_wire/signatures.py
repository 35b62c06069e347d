"""SignatureDef <-> Signature, from `saved_model.pb` and without TensorFlow; does a request fit?"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from slipway_wire import dtypes, messages, tensors
from slipway_wire.dtypes import DataType
from slipway_wire.status import DataLoss, FailedPrecondition, InvalidArgument, NotFound
from slipway_wire.tensors import Array

SAVED_MODEL_FILE = "saved_model.pb"

PREDICT = "tensorflow/serving/predict"
CLASSIFY = "tensorflow/serving/classify"
REGRESS = "tensorflow/serving/regress"

Shape = tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """
    One input or output.

    Attributes:
        name: Alias by which callers know it.
        dtype: Element type.
        shape: One entry per axis, None where any size goes; None altogether if the rank is unknown.
        graph_name: Tensor in the graph, e.g. `x:0`; empty for sparse and composite tensors.
    """

    name: str
    dtype: DataType
    shape: Shape | None
    graph_name: str

    def __str__(self) -> str:
        """Say it as people write it, e.g. `images: float [?, 28, 28]`."""
        return f"{self.name}: {self.dtype.name} {format_shape(self.shape)}"


@dataclass(frozen=True, slots=True)
class Signature:
    """
    A callable of a SavedModel.

    Attributes:
        name: Its key, e.g. `serving_default`.
        method: `method_name`, e.g. PREDICT; may be anything, also empty.
        inputs: Alias -> spec, sorted by alias.
        outputs: Alias -> spec, sorted by alias.
        defaults: Alias -> value of an input that a caller may leave out.
    """

    name: str
    method: str
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    defaults: Mapping[str, Array] = field(default_factory=dict)


def format_shape(shape: Iterable[int | None] | None) -> str:
    """Write a shape as `[?, 28, 28]`, or `[…]` for an unknown rank."""
    return "[…]" if shape is None else "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"


def read_saved_model(directory: Path) -> Any:
    """
    Read the SavedModel message of a version directory.

    Raises:
        NotFound: If the directory has no `saved_model.pb`.
        DataLoss: If the file is no SavedModel.
    """
    path = Path(directory) / SAVED_MODEL_FILE
    try:
        saved_model = messages.SavedModel.FromString(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f"{path}: not there; a SavedModel directory holds {SAVED_MODEL_FILE}") from None
    except DecodeError as error:
        raise DataLoss(f"{path}: not a SavedModel, or damaged") from error
    if not saved_model.meta_graphs:
        raise DataLoss(f"{path}: holds no meta graph; the file is empty or damaged")
    return saved_model


def find_meta_graph(saved_model: Any, tags: Collection[str] = ("serve",)) -> Any:
    """
    Pick the MetaGraphDef whose tags are exactly *tags*.

    Raises:
        NotFound: If there is none; the message lists the tag sets there are.
    """
    for meta_graph in saved_model.meta_graphs:
        if set(meta_graph.meta_info_def.tags) == set(tags):
            return meta_graph
    found = ", ".join("{" + ",".join(sorted(graph.meta_info_def.tags)) + "}" for graph in saved_model.meta_graphs)
    raise NotFound(f"no meta graph with tags {{{','.join(sorted(tags))}}} in the SavedModel; it has {found}")


def read_signatures(directory: Path, tags: Collection[str] = ("serve",)) -> dict[str, Signature]:
    """
    Read all signatures of a SavedModel, TF2's `__saved_model_init_op` included.

    Returns:
        Signature key -> signature, sorted by key.

    Raises:
        NotFound: If there is no SavedModel, or no meta graph with *tags*.
        DataLoss: If the file is damaged.
    """
    return from_meta_graph(find_meta_graph(read_saved_model(directory), tags))


def from_meta_graph(meta_graph: Any) -> dict[str, Signature]:
    """Read all signatures of a MetaGraphDef message, sorted by key."""
    return {name: from_proto(name, meta_graph.signature_def[name]) for name in sorted(meta_graph.signature_def)}


def from_proto(name: str, definition: Any) -> Signature:
    """Read a SignatureDef message."""
    return Signature(
        name=name,
        method=definition.method_name,
        inputs={alias: _tensor_spec(alias, definition.inputs[alias]) for alias in sorted(definition.inputs)},
        outputs={alias: _tensor_spec(alias, definition.outputs[alias]) for alias in sorted(definition.outputs)},
        defaults={alias: tensors.from_proto(definition.defaults[alias]) for alias in sorted(definition.defaults)},
    )


def _tensor_spec(alias: str, info: Any) -> TensorSpec:
    shape = info.tensor_shape
    return TensorSpec(
        name=alias,
        dtype=dtypes.from_number(info.dtype),
        shape=None if shape.unknown_rank else tuple([None if dim.size < 0 else dim.size for dim in shape.dim]),
        graph_name=info.name,
    )


def find_signature(signatures: Mapping[str, Signature], key: str) -> Signature:
    """
    Pick the signature a Predict call over gRPC names.

    Raises:
        FailedPrecondition: If there is none, in TF Serving's words.
    """
    try:
        return signatures[key]
    except KeyError:
        raise FailedPrecondition(f'Serving signature key "{key}" not found.') from None


def check_inputs(signature: Signature, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """
    Match the inputs of a Predict call with its signature, by name only: dtype and shape are the graph's to judge.

    Returns:
        A value for every input of the signature, in its order; what the caller left out comes from the defaults.

    Raises:
        InvalidArgument: If an input is missing or unknown, in TF Serving's words.

    Source: tensorflow_serving/servables/tensorflow/predict_util.cc (VerifyRequestInputsSize),
    tensorflow/cc/saved_model/util.cc (GetInputValues).
    """
    if len(inputs) == len(signature.inputs) and all(map(inputs.__contains__, signature.inputs)):
        # One needs no order, and a dictionary no copy.
        return (
            inputs
            if len(inputs) == 1 and type(inputs) is dict
            else {alias: inputs[alias] for alias in signature.inputs}
        )
    wanted, sent = signature.inputs.keys(), inputs.keys()
    if len(sent) > len(wanted) or (len(sent) < len(wanted) and not signature.defaults):
        raise InvalidArgument(
            f"input size does not match signature: {len(sent)}!={len(wanted)} len({{{_names(sent)}}}) != "
            f"len({{{_names(wanted)}}}). Sent extra: {{{_names(sent - wanted)}}}. "
            f"Missing but required: {{{_names(wanted - sent)}}}."
        )
    matched = {}
    for alias, spec in signature.inputs.items():
        value = inputs.get(alias)
        if value is None:
            value = signature.defaults.get(alias)
        if value is None:
            raise InvalidArgument(
                f"Signature input alias: {alias}(feed name: {spec.graph_name}) not found in request and no default "
                f"value provided. Inputs expected to be in the request {{{_names(sent)}}}, or default input alias "
                f"set: {_names(signature.defaults)}"
            )
        matched[alias] = value
    if sent - wanted:
        raise InvalidArgument(
            f"Inputs contains invalid name. Used request inputs: {_names(sent & wanted)}, request input: {_names(sent)}"
        )
    return matched


def check_output_filter(signature: Signature, output_filter: Iterable[str]) -> tuple[str, ...]:
    """
    Say which outputs a Predict call wants: those it names, or all; in the signature's order, because an answer has none.

    Raises:
        InvalidArgument: If one is unknown or named twice, in TF Serving's words.
    """
    if not output_filter:
        return tuple(signature.outputs)
    wanted: set[str] = set()
    for alias in output_filter:
        if alias not in signature.outputs:
            raise InvalidArgument(
                f"output tensor alias not found in signature: {alias} Outputs expected to be in the set "
                f"{{{_names(signature.outputs)}}}."
            )
        if alias in wanted:
            raise InvalidArgument(f"duplicate output tensor alias: {alias}")
        wanted.add(alias)
    return tuple([alias for alias in signature.outputs if alias in wanted])


def _names(names: Iterable[str]) -> str:
    return ",".join(sorted(names))
