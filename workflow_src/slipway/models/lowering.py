"""
A SavedModel's signatures as StableHLO, by TensorFlow's own compiler: one program for each number of rows, weights apart.

Weights are arguments of a program, not constants in it: all numbers of rows share one copy, on disk and in memory. (ResNet50,
as constants: 102 MB in each program, against 27 kB.)
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.python.framework import op_def_registry

from slipway import graph_ops
from slipway.errors import SourceError, one_line
from slipway_wire import dtypes, signatures
from slipway_wire.signatures import Signature

Array = npt.NDArray[Any]

# What XLA's messages say of an op that it has not, or of one whose arguments it must know when it compiles.
_UNSUPPORTED = re.compile(r"on XLA_\w+: ([A-Za-z0-9]+) \(No registered")
_NOT_CONSTANT = re.compile(r"Input (\d+) to node `([^`]*)` with op (\w+) must be a compile-time constant")
_NODE = re.compile(r"\{\{node ([^}]*)\}\}")
# Ops that hand on what others made.
_PLUMBING = ("Placeholder", "Identity", "IdentityN", "Const", "NoOp", "PartitionedCall", "StatefulPartitionedCall")


@dataclass(frozen=True, slots=True)
class RawProgram:
    """
    What TensorFlow made for one number of rows.

    Attributes:
        rows: None where the signature knows none.
        bytecode: MLIR of StableHLO, as this TensorFlow's compiler writes it: for a jaxlib of the same age to read.
        weights: Which weights follow the inputs.
    """

    rows: int | None
    bytecode: bytes
    weights: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RawSignature:
    """One signature and its programs, the fewest rows first."""

    signature: Signature
    programs: tuple[RawProgram, ...]


def lower(
    directory: Path, names: Sequence[str], sizes: Mapping[str, Sequence[int]]
) -> tuple[list[RawSignature], list[Array]]:
    """
    Compile signatures of the SavedModel in *directory* as far as StableHLO; in a fresh process, for equal bytes.

    Args:
        directory: The SavedModel's.
        names: Keys of its signatures.
        sizes: Signature -> numbers of rows, ascending.

    Returns:
        The signatures, and the weights that their programs take.

    Raises:
        SourceError: With one line for each signature that XLA cannot compile: the op, and what to do.
    """
    meta_graph = signatures.find_meta_graph(signatures.read_saved_model(directory))
    wire = signatures.from_meta_graph(meta_graph)
    try:
        loaded = tf.saved_model.load(str(directory), tags=["serve"])
    except Exception as error:
        raise SourceError(f"{directory}: cannot be loaded: {one_line(error)}. Export it again.") from error
    weights = _Weights()
    made, faults = [], []
    for name in names:
        try:
            _check(wire[name])
            programs = [
                _program(loaded.signatures[name], wire[name], rows, weights)
                for rows in (sizes[name] if has_rows(wire[name]) else [None])
            ]
            made.append(RawSignature(wire[name], tuple(programs)))
        except _Refused as refused:
            what = refused.what or _culprit(meta_graph, name)
            faults.append(
                f"signature {name}: XLA cannot compile {what}. Leave the signature out of the contract, or serve it "
                "with server.backend: saved_model"
            )
        except SourceError as error:
            faults.append(f"signature {name}: {error}")
    if faults:
        raise SourceError("\n".join(faults))
    return made, weights.arrays


def has_rows(signature: Signature) -> bool:
    """Say whether a signature's inputs have any number of rows; their other axes have the sizes that they have."""
    return any(spec.shape and spec.shape[0] is None for spec in signature.inputs.values())


def _check(signature: Signature) -> None:
    """Raise SourceError for shapes that a program cannot be made for: XLA needs every size but that of the rows."""
    for kind, specs in (("input", signature.inputs), ("output", signature.outputs)):
        for alias, spec in specs.items():
            if spec.dtype is dtypes.STRING:
                raise _Refused
            if spec.dtype.numpy is None:
                raise SourceError(f"{kind} {alias} is of type {spec.dtype.enum_name}, which no array can hold")
            if spec.shape is None or any(size is None for size in spec.shape[1:]):
                raise SourceError(
                    f"{kind} {alias} has shape {signatures.format_shape(spec.shape)}, and XLA needs the size of every axis "
                    "but the rows. Promise it in the contract, or serve it with server.backend: saved_model"
                )
    if not has_rows(signature):
        for alias, spec in signature.outputs.items():
            if spec.shape and spec.shape[0] is None:
                raise SourceError(f"output {alias} has any number of rows, which no input says")


class _Refused(SourceError):
    """XLA does not compile it; `what` names the op, or is empty where its message does not."""

    def __init__(self, what: str = "") -> None:
        super().__init__(what)
        self.what = what


class _Weights:
    """Every weight once, by the tensor that holds it."""

    def __init__(self) -> None:
        self.arrays: list[Array] = []
        self._places: dict[int, int] = {}
        self._kept: list[Any] = []

    def place(self, tensor: Any, variables: Sequence[Any]) -> int:
        """Give the place of what a function captured as *tensor*: a variable's handle, or a constant."""
        variable = next((one for one in variables if one.handle is tensor), None)
        if variable is None and tensor.dtype == tf.resource:
            raise _Refused
        known = id(tensor)
        if known not in self._places:
            self._kept.append(tensor)  # or another object might get its id
            self._places[known] = len(self.arrays)
            array = (tensor if variable is None else variable).numpy()
            self.arrays.append(np.asarray(array))
        return self._places[known]


def _program(function: Any, signature: Signature, rows: int | None, weights: _Weights) -> RawProgram:
    specs = [
        tf.TensorSpec(
            [rows if size is None else size for size in spec.shape or ()], tf.as_dtype(spec.dtype.number), alias
        )
        for alias, spec in signature.inputs.items()
    ]

    def call(*tensors: tf.Tensor) -> list[tf.Tensor]:
        found = function(**dict(zip(signature.inputs, tensors, strict=True)))
        return [found[alias] for alias in signature.outputs]

    compiled = tf.function(call, jit_compile=True, autograph=False)
    try:
        captured = compiled.get_concrete_function(*specs)
        # Before the compiler, which has no words for a table.
        used = tuple([weights.place(tensor, captured.graph.variables) for tensor in captured.captured_inputs])
        bytecode = compiled.experimental_get_compiler_ir(*specs)(stage="stablehlo_serialized", platform_name="CPU")
    except _Refused:
        raise
    except Exception as error:
        raise _Refused(_what(str(error))) from error
    return RawProgram(rows, bytecode, used)


def _what(message: str) -> str:
    """Find in XLA's *message* the op that it refuses; empty if that is none of the model's."""
    node = _NODE.findall(message)
    if found := _UNSUPPORTED.search(message):
        return f"the op {found[1]} (node {node[0]})" if node else f"the op {found[1]}"
    if found := _NOT_CONSTANT.search(message):
        return (
            f"the op {found[3]} (node {found[2]}), whose input {found[1]}, a shape or an axis, depends on what is sent"
        )
    if "RET_CHECK" in message or "Arg (No registered" in message or "Retval (No registered" in message:
        return ""
    said = message.removeprefix("Failed getting HLO text: ").strip("'\"")
    return f"it: {said.splitlines()[0]}"


def _culprit(meta_graph: Any, name: str) -> str:
    """Find an op that a signature needs and that works on strings or tables, which XLA does not have."""
    outputs = [info.name for info in meta_graph.signature_def[name].outputs.values()]
    for node, _ in graph_ops.reached(meta_graph.graph_def, outputs):
        # Not the table, but the op that looks something up in it.
        if node.op not in _PLUMBING and "HashTable" not in node.op and ("Table" in node.op or _has_strings(node)):
            return f"the op {node.op} (node {node.name})"
    return "strings"


def _has_strings(node: Any) -> bool:
    definition = op_def_registry.get(node.op)
    if definition is None:
        return False
    for argument in (*definition.input_arg, *definition.output_arg):
        attribute = node.attr[argument.type_attr].type if argument.type_attr in node.attr else argument.type
        if attribute == dtypes.STRING.number:
            return True
    return False
