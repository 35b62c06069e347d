"""
The forms in which signatures carry a model's inputs, in numpy: from inputs to pictures, words and tf.Examples.

`slipway.models.receivers` goes the other way, in the graph. Not all inputs can be carried as they are: a picture has 256
levels. `carried` says what arrives of them, so that the same rows can be sent in every form, to the same answers.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from slipway import png
from slipway.contract import (
    Contract,
    FeatureForm,
    ImageForm,
    InputContract,
    PredictSignature,
    TensorContract,
    Vocabulary,
    example_dtype,
)
from slipway.contract.faults import targets_of
from slipway_wire import messages

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]


def encode(contract: Contract, name: str, inputs: Arrays) -> dict[str, Array]:
    """
    Give the inputs of a call of signature *name* that carry *inputs*.

    Args:
        contract: What it belongs to.
        name: Its key.
        inputs: The model's own inputs, name -> array of shape [rows, …].

    Returns:
        Name -> array as the SignatureDef has it; for classify and regress, `inputs`.
    """
    signature = contract.signatures[name]
    if not isinstance(signature, PredictSignature):
        if contract.takes_examples():
            return {"inputs": next(iter(inputs.values()))}
        return {"inputs": examples(contract, contract.feature_forms(signature.features), inputs)}
    own = contract.default.inputs
    found = {}
    for wire, tensor in signature.inputs.items():
        target = targets_of(wire, tensor, own)[0]
        if tensor.features is not None:
            found[wire] = examples(contract, contract.feature_forms(tensor.features), inputs)
        elif tensor.image is not None:
            found[wire] = _pictures(inputs[target], tensor.image, own[target])
        elif tensor.vocabulary is not None:
            found[wire] = _words(inputs[target], tensor.vocabulary)
        else:
            found[wire] = inputs[target]
    return found


def carried(contract: Contract, name: str, inputs: Arrays) -> dict[str, Array]:
    """
    Give what the model gets of *inputs* if signature *name* carries them; equal to them if nothing is lost.

    Returns:
        The model's own inputs, name -> array of the same shapes and dtypes.
    """
    signature = contract.signatures[name]
    found = dict(inputs)
    own = contract.default.inputs
    if isinstance(signature, PredictSignature):
        for wire, tensor in signature.inputs.items():
            if tensor.features is not None:
                found |= _carried_by_features(contract.feature_forms(tensor.features), own, found)
            elif tensor.is_form:
                (target,) = targets_of(wire, tensor, own)
                found[target] = _carried(found[target], tensor.image, tensor.vocabulary, own[target])
        return found
    return found | _carried_by_features(contract.feature_forms(signature.features), own, found)


def carried_by_all(contract: Contract, inputs: Arrays) -> dict[str, Array]:
    """
    Round rows to what the pictures of all signatures can carry, so that one answer holds for every signature.

    Numbers that stand for words stay: a row that has no words says nothing of that signature, but is as good for others.
    """
    found = dict(inputs)
    for name, signature in contract.signatures.items():
        if not isinstance(signature, PredictSignature) or not signature.is_own_form:
            rounded = carried(contract, name, found)
            found |= {key: array for key, array in rounded.items() if array.dtype.kind == "f"}
    return found


def _carried_by_features(
    forms: Mapping[str, FeatureForm], own: Mapping[str, InputContract], inputs: Arrays
) -> dict[str, Array]:
    return {name: _carried(inputs[name], form.image, form.vocabulary, own[name]) for name, form in forms.items()}


def _carried(array: Array, image: ImageForm | None, words: Vocabulary | None, own: TensorContract) -> Array:
    if image is not None:
        return _values(_pixels(array, image, own), image, own)
    if words is not None:
        return np.where((array >= 0) & (array < len(words.lines)), array, words.oov).astype(array.dtype)
    if array.dtype == np.float64:
        return array.astype(np.float32).astype(np.float64)  # a tf.Example has float32 only
    return array


# --- pictures --------------------------------------------------------------------------------------


def levels(image: ImageForm, own: TensorContract) -> tuple[Array, Array]:
    """
    Give scale and offset of value = pixel * scale + offset.

    Returns:
        Both float32 of shape [1] or [channels].
    """
    if image.scale is not None:
        offset = image.offset if image.offset is not None else 0.0
        return np.atleast_1d(np.asarray(image.scale, np.float32)), np.atleast_1d(np.asarray(offset, np.float32))
    span = image.range or own.range or (0.0, 255.0)
    return np.atleast_1d(np.float32((span[1] - span[0]) / 255)), np.atleast_1d(np.float32(span[0]))


def _pixels(array: Array, image: ImageForm, own: TensorContract) -> Array:
    scale, offset = levels(image, own)
    return np.clip(np.rint((array.astype(np.float32) - offset) / scale), 0, 255).astype(np.uint8)


def _values(pixels: Array, image: ImageForm, own: TensorContract) -> Array:
    scale, offset = levels(image, own)
    values = pixels.astype(np.float32) * scale + offset
    dtype = np.dtype(own.numpy_dtype())
    return values.astype(dtype) if dtype.kind == "f" else np.rint(values).astype(dtype)


def _pictures(array: Array, image: ImageForm, own: TensorContract) -> Array:
    pixels = _pixels(array, image, own)
    if image.order == "bgr":
        pixels = np.concatenate([pixels[..., 2::-1], pixels[..., 3:]], axis=-1)
    found = np.empty(len(array), object)
    for row, picture in enumerate(pixels):
        found[row] = png.encode(np.ascontiguousarray(picture))
    return found


# --- words -----------------------------------------------------------------------------------------


def _words(ids: Array, vocabulary: Vocabulary) -> Array:
    """Give a word for each number; one that no word stands for gets a word that is not in the vocabulary."""
    known = set(vocabulary.lines)
    stranger = next(f"?{number}" for number in range(len(known) + 1) if f"?{number}" not in known)
    words = np.array([*(word.encode() for word in vocabulary.lines), stranger.encode()], object)
    return words[np.where((ids >= 0) & (ids < len(vocabulary.lines)), ids, len(vocabulary.lines))]


# --- tf.Examples -----------------------------------------------------------------------------------


def examples(contract: Contract, forms: Mapping[str, FeatureForm], inputs: Arrays) -> Array:
    """
    Pack rows of the model's own inputs as tf.Examples.

    Args:
        contract: Gives the dtypes of the inputs.
        forms: How each input is carried.
        inputs: Name -> array of shape [rows, …].

    Returns:
        Serialized tf.Examples, objects (bytes) of shape [rows].
    """
    own = contract.default.inputs
    features = {}
    for name, form in forms.items():
        array = inputs[name]
        if form.image is not None:
            array = _pictures(array, form.image, own[name])
        elif form.vocabulary is not None:
            array = _words(array, form.vocabulary)
        kind = "string" if array.dtype == object else example_dtype(own[name].dtype)
        features[form.feature or name] = (kind, array)
    return pack(features)


def pack(features: Mapping[str, tuple[str, Sequence[Any] | Array]]) -> Array:
    """
    Serialize one tf.Example a row.

    Args:
        features: Feature -> what it holds (float32, int64, string) and its rows, each an array or a list of values;
            a row that is None lacks the feature.

    Returns:
        Objects (bytes) of shape [rows].
    """
    rows = len(next(iter(features.values()))[1])
    packed = np.empty(rows, object)
    for row in range(rows):
        example = messages.Example()
        for feature, (kind, values) in features.items():
            if values[row] is not None:
                _fill(example.features.feature[feature], kind, np.ravel(np.asarray(values[row], _of(kind))).tolist())
        packed[row] = example.SerializeToString(deterministic=True)
    return packed


def _of(kind: str) -> Any:
    return object if kind == "string" else None


def _fill(feature: Any, kind: str, values: Sequence[Any]) -> None:
    match kind:
        case "float32":
            feature.float_list.value.extend(values)
        case "int64":
            feature.int64_list.value.extend(map(int, values))
        case _:
            feature.bytes_list.value.extend(values)
