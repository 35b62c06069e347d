"""
A model and its contract as a SavedModel: the same bytes each time, for TensorFlow Serving and for `tf.saved_model.load`.

TensorFlow counts functions and draws an identity at random; so equal bytes need one export per fresh process,
weights and signatures in a fixed order, and what is written here.
"""

import hashlib
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import fingerprint_pb2, saved_model_pb2

from slipway.answers import pick
from slipway.contract import (
    ClassifySignature,
    Contract,
    PredictSignature,
    RegressSignature,
    Signature,
    TensorContract,
    example_dtype,
)
from slipway.errors import SourceError, one_line
from slipway.models.model import Model
from slipway_wire import signatures as wire

METHODS = {"predict": wire.PREDICT, "classify": wire.CLASSIFY, "regress": wire.REGRESS}


class _Servable(tf.Module):
    """
    Holds what the signatures need and nothing else.

    Not the model: a Keras 3 model in a tf.Module is stored in a way that the V1 loader, and so TensorFlow
    Serving, does not read; and `keras.Model.export` stores every weight twice (keras issue 23553).
    """

    def __init__(self, model: Model) -> None:
        super().__init__(name="servable")
        self.weights = model.variables
        self.resources = model.resources


def write(model: Model, contract: Contract, directory: Path) -> None:
    """
    Write *model* with the signatures of *contract* as a SavedModel into *directory*.

    Raises:
        SourceError: If the model cannot be traced with the contract's inputs, or holds state beside its weights.
    """
    functions = {name: _function(model, contract, s) for name, s in contract.signatures.items()}
    traced = {name: _traced(name, function) for name, function in functions.items()}
    try:
        tf.saved_model.save(
            _Servable(model),
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


def _traced(name: str, function: Any) -> Any:
    try:
        return function.get_concrete_function()
    except Exception as error:
        raise SourceError(f"signature {name}: the model does not fit the contract: {one_line(error)}") from error


# --- signatures ------------------------------------------------------------------------------------


def _function(model: Model, contract: Contract, signature: Signature) -> Any:
    match signature:
        case PredictSignature():
            return _predict(model, signature)
        case ClassifySignature():
            return _classify(model, contract, signature)
        case RegressSignature():
            return _regress(model, contract, signature)


def _predict(model: Model, signature: PredictSignature) -> Any:
    specs = [tf.TensorSpec(_static_shape(tensor), tensor.dtype, name) for name, tensor in signature.inputs.items()]

    @tf.function(input_signature=specs)
    def predict(*tensors: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs: dict[str, tf.Tensor] = _derive(
            signature, model.call(dict(zip(signature.inputs, tensors, strict=True)))
        )
        return outputs

    return predict


def _classify(model: Model, contract: Contract, signature: ClassifySignature) -> Any:
    labels = [list(contract.classes(signature))]

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "inputs")])
    def classify(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = _derive(contract.default, model.call(_parse(contract, signature, inputs)))
        scores = tf.cast(outputs[signature.scores], tf.float32)
        return {"classes": tf.tile(tf.constant(labels), [tf.shape(scores)[0], 1]), "scores": scores}

    return classify


def _regress(model: Model, contract: Contract, signature: RegressSignature) -> Any:
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "inputs")])
    def regress(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = _derive(contract.default, model.call(_parse(contract, signature, inputs)))
        return {"outputs": tf.reshape(tf.cast(outputs[signature.value], tf.float32), [-1])}

    return regress


def _parse(
    contract: Contract, signature: ClassifySignature | RegressSignature, serialized: tf.Tensor
) -> dict[str, tf.Tensor]:
    tensors = contract.default.inputs
    features = contract.features(signature)
    parsed = tf.io.parse_example(
        serialized,
        {
            features[name]: tf.io.FixedLenFeature(tensor.shape[1:], example_dtype(tensor.dtype))
            for name, tensor in tensors.items()
        },
    )
    return {name: tf.cast(parsed[features[name]], tensor.dtype) for name, tensor in tensors.items()}


# AutoGraph would rewrite `match`, which it does not know.
@tf.autograph.experimental.do_not_convert
def _derive(signature: PredictSignature, raw: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Make the outputs of *signature* from the model's own; `slipway.answers.derive` in TensorFlow."""

    def value(name: str) -> tf.Tensor:
        output = signature.outputs.get(name)
        function, argument = output.source(name) if output else (None, name)
        match function:
            case None:
                return pick(raw, argument)
            case "softmax":
                return tf.nn.softmax(value(argument))
            case "sigmoid":
                return tf.math.sigmoid(value(argument))
            case "argmax":
                return tf.argmax(value(argument), axis=-1, output_type=output.dtype if output else tf.int64)

    return {name: _with_static_shape(value(name), tensor) for name, tensor in signature.outputs.items()}


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
    path.write_bytes(saved_model.SerializeToString(deterministic=True))
    _settle_fingerprint(directory, directory / "fingerprint.pb")


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
