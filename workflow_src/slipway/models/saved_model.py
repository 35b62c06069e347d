"""
A model and its contract as a SavedModel: the same bytes each time, for TensorFlow Serving and for `tf.saved_model.load`.

TensorFlow counts functions and draws an identity at random; so equal bytes need one export per fresh process,
weights and signatures in a fixed order, and what is written here.
"""

import hashlib
import re
import tempfile
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import fingerprint_pb2, saved_model_pb2

from slipway.answers import make
from slipway.contract import (
    ClassifySignature,
    Contract,
    PredictSignature,
    RegressSignature,
    Signature,
    TensorContract,
)
from slipway.contract.whole import words_in
from slipway.errors import SourceError, one_line
from slipway.models import receivers
from slipway.models.functions import functions
from slipway.models.model import Model
from slipway.models.tables import Tables
from slipway_wire import signatures as wire

# The attribute by which functions say that they are several implementations of one (tensorflow/core/framework/function.h).
_IMPLEMENTS = "api_implements"
_UUID_AT_END = re.compile(rb"(\w+_)([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")
METHODS = {"predict": wire.PREDICT, "classify": wire.CLASSIFY, "regress": wire.REGRESS}


class _Servable(tf.Module):
    """
    Holds what the signatures need and nothing else.

    Not the model: a Keras 3 model in a tf.Module is stored in a way that the V1 loader, and so TensorFlow
    Serving, does not read; and `keras.Model.export` stores every weight twice (keras issue 23553).
    """

    def __init__(self, model: Model, tables: Tables) -> None:
        super().__init__(name="servable")
        self.weights = model.variables
        self.resources = [*model.resources, *tables.resources]


def write(model: Model, contract: Contract, directory: Path) -> None:
    """
    Write *model* with the signatures of *contract* as a SavedModel into *directory*.

    Raises:
        SourceError: If the model cannot be traced with the contract's inputs, or holds state beside its weights.
    """
    with tempfile.TemporaryDirectory() as words:
        tables = Tables(Path(words))
        tables.prepare(words_in(contract))
        traced = _trace_all(_Signatures(model, contract, tables), contract)
        try:
            tf.saved_model.save(
                _Servable(model, tables),
                str(directory),
                signatures=traced,
                options=tf.saved_model.SaveOptions(save_debug_info=False, experimental_custom_gradients=False),
            )
        except AssertionError as error:
            msg = (
                "the model keeps state that is not among its weights, such as the random numbers of a Dropout that stays "
                f"live at inference: {one_line(error)}"
            )
            raise SourceError(msg) from error
    _settle(directory, {name: METHODS[s.method] for name, s in contract.signatures.items()})


def _trace_all(signatures: "_Signatures", contract: Contract) -> dict[str, Any]:
    """Trace each signature once: aliases are equal, and share their graph."""
    made: list[tuple[Signature, str]] = []
    functions_of = {}
    for name, signature in contract.signatures.items():
        same = next((first for known, first in made if known == signature), None)
        if same is None:
            made.append((signature, name))
            functions_of[name] = signatures.function(signature)
    traced = {name: _traced(name, function) for name, function in functions_of.items()}
    return {
        name: traced[next(first for known, first in made if known == signature)]
        for name, signature in contract.signatures.items()
    }


def _traced(name: str, function: Any) -> Any:
    try:
        return function.get_concrete_function()
    except Exception as error:
        raise SourceError(f"signature {name}: the model does not fit the contract: {one_line(error)}") from error


# --- signatures ------------------------------------------------------------------------------------


class _Signatures:
    """What the signatures of one contract do, as functions that TensorFlow can trace."""

    def __init__(self, model: Model, contract: Contract, tables: Tables) -> None:
        self._model, self._contract, self._tables = model, contract, tables
        self._functions = functions(tables)

    def function(self, signature: Signature) -> Any:
        match signature:
            case PredictSignature():
                return self._predict(signature)
            case ClassifySignature():
                return self._classify(signature)
            case RegressSignature():
                return self._regress(signature)

    def _predict(self, signature: PredictSignature) -> Any:
        specs = [tf.TensorSpec(_static_shape(tensor), tensor.dtype, name) for name, tensor in signature.inputs.items()]

        @tf.function(input_signature=specs)
        def predict(*tensors: tf.Tensor) -> dict[str, tf.Tensor]:
            inputs = dict(zip(signature.inputs, tensors, strict=True))
            if not signature.is_own_form:
                inputs = receivers.model_inputs(self._contract, signature, inputs, self._tables)
            outputs: dict[str, tf.Tensor] = self._derive(signature, inputs)
            return outputs

        return predict

    def _classify(self, signature: ClassifySignature) -> Any:
        # Constants for what stands in the contract, tables for what stands in a file.
        labels = [list(self._contract.classes(signature))]
        table = self._tables.names(signature.classes)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "inputs")])
        def classify(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            outputs = self._derive(self._contract.default, self._parsed(signature, inputs))
            scores = tf.cast(outputs[signature.scores], tf.float32)
            if signature.top_k is not None:
                best = tf.math.top_k(scores, signature.top_k)
                ids = tf.cast(best.indices, tf.int64)
                names = tf.gather(labels[0], ids) if table is None else table.lookup(ids)
                return {"classes": names, "scores": best.values}
            ids = [list(range(len(labels[0])))]
            names = tf.constant(labels) if table is None else table.lookup(tf.constant(ids, tf.int64))
            return {"classes": tf.tile(names, [tf.shape(scores)[0], 1]), "scores": scores}

        return classify

    def _regress(self, signature: RegressSignature) -> Any:
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "inputs")])
        def regress(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            outputs = self._derive(self._contract.default, self._parsed(signature, inputs))
            return {"outputs": tf.reshape(tf.cast(outputs[signature.value], tf.float32), [-1])}

        return regress

    def _parsed(self, signature: ClassifySignature | RegressSignature, serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        own = self._contract.default.inputs
        if self._contract.takes_examples():
            return dict.fromkeys(own, serialized)
        forms = self._contract.feature_forms(signature.features)
        return receivers.parsed(serialized, forms, own, self._tables)

    # AutoGraph would rewrite `match`, which it does not know.
    @tf.autograph.experimental.do_not_convert
    def _derive(self, signature: PredictSignature, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Call the model and make the outputs of *signature*; `slipway.answers.derive` in TensorFlow."""
        made = make(signature, self._model.call(inputs), inputs, self._functions)
        return {name: _with_static_shape(value, signature.outputs[name]) for name, value in made}


def _static_shape(tensor: TensorContract) -> list[int | None]:
    return [None if isinstance(size, str) else size for size in tensor.shape]


def _with_static_shape(value: tf.Tensor, tensor: TensorContract) -> tf.Tensor:
    """Tell TensorFlow what it could not infer of the shape; what contradicts the contract is left for validation to tell."""
    value = tf.identity(value)
    promised = tf.TensorShape(_static_shape(tensor))
    if value.shape.is_compatible_with(promised):
        value.set_shape(promised)
    return value


# --- equal bytes -----------------------------------------------------------------------------------


def _settle(directory: Path, methods: Mapping[str, str]) -> None:
    """Set the methods, which `tf.saved_model.save` writes as predict throughout, and take chance out of the bytes."""
    path = directory / wire.SAVED_MODEL_FILE
    saved_model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    for meta_graph in saved_model.meta_graphs:
        for name, method in methods.items():
            meta_graph.signature_def[name].method_name = method
        _settle_implementations(meta_graph.graph_def.library)
    path.write_bytes(saved_model.SerializeToString(deterministic=True))
    _settle_fingerprint(directory, directory / "fingerprint.pb")


def _settle_implementations(library: Any) -> None:
    """
    Number the sets of functions that implement the same thing; Keras 2 draws a random UUID for each LSTM and GRU.

    Grappler swaps a function for another of its set (implementation_selector.cc), so sets must stay apart.
    """
    numbers: dict[bytes, int] = {}
    for function in library.function:
        for owner in (function, *function.node_def):
            if _IMPLEMENTS in owner.attr and (found := _UUID_AT_END.fullmatch(owner.attr[_IMPLEMENTS].s)):
                number = numbers.setdefault(found[2], len(numbers))
                owner.attr[_IMPLEMENTS].s = found[1] + str(uuid.UUID(int=number)).encode()


def _settle_fingerprint(directory: Path, path: Path) -> None:
    """Name the SavedModel by its content; TensorFlow draws a random UUID."""
    digest = hashlib.sha256()
    for file in sorted(directory.rglob("*")):
        if file.is_file() and file != path:
            digest.update(file.relative_to(directory).as_posix().encode() + b"\0")
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    fingerprint = fingerprint_pb2.FingerprintDef.FromString(path.read_bytes())
    fingerprint.uuid = str(uuid.UUID(bytes=digest.digest()[:16]))
    # TensorFlow's own is over bytes that `_settle` has changed since.
    fingerprint.saved_model_checksum = int.from_bytes(digest.digest()[16:24], "little")
    path.write_bytes(fingerprint.SerializeToString(deterministic=True))
