"""What a signature takes -> what its model takes, in the graph: `slipway.forms` the other way round."""

import math
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from slipway.contract import (
    Contract,
    FeatureForm,
    InputContract,
    PredictSignature,
    TensorContract,
    example_dtype,
)
from slipway.contract.faults import targets_of
from slipway.models import pictures
from slipway.models.tables import Tables

Tensors = Mapping[str, tf.Tensor]


def model_inputs(
    contract: Contract, signature: PredictSignature, sent: Tensors, tables: Tables
) -> dict[str, tf.Tensor]:
    """
    Make the inputs of the model's own form from those of a predict signature that carries them.

    Args:
        contract: What the signature belongs to.
        signature: Says how each is carried.
        sent: Its inputs, name -> tensor [rows, …].
        tables: Has the vocabularies.

    Returns:
        Name -> tensor [rows, …], in the order of the model's own form.
    """
    own = contract.default.inputs
    made: dict[str, tf.Tensor] = {}
    for name, tensor in signature.inputs.items():
        if tensor.features is not None:
            made |= parsed(sent[name], contract.feature_forms(tensor.features), own, tables)
            continue
        target = targets_of(name, tensor, own)[0]
        if tensor.image is not None:
            made[target] = pictures.decode(sent[name], tensor.image, own[target])
        elif tensor.vocabulary is not None:
            made[target] = tf.cast(tables.numbers(tensor.vocabulary).lookup(sent[name]), own[target].dtype)
        else:
            made[target] = sent[name]
    return {name: made[name] for name in own}


def parsed(
    serialized: tf.Tensor, forms: Mapping[str, FeatureForm], own: Mapping[str, InputContract], tables: Tables
) -> dict[str, tf.Tensor]:
    """
    Parse tf.Examples into the inputs of the model's own form.

    Args:
        serialized: Strings [rows].
        forms: How each input is carried.
        own: The inputs.
        tables: Has the vocabularies.

    Returns:
        Name -> tensor [rows, …].
    """
    found = tf.io.parse_example(
        serialized, {form.feature or name: _feature(form, own[name]) for name, form in forms.items()}
    )
    return {name: _value(found[form.feature or name], form, own[name], tables) for name, form in forms.items()}


def _feature(form: FeatureForm, tensor: TensorContract) -> Any:
    if form.image is not None:
        return tf.io.FixedLenFeature([], tf.string)
    dtype = "string" if form.vocabulary is not None else example_dtype(tensor.dtype)
    if form.pad is not None:
        return tf.io.FixedLenSequenceFeature(tensor.shape[2:], dtype, allow_missing=True, default_value=form.pad)
    default = form.default
    if default is not None:
        sizes = [int(size) for size in tensor.shape[1:]]
        values = list(default) if isinstance(default, tuple) else [default] * math.prod(sizes)
        default = tf.reshape(tf.constant(values, dtype), sizes)
    return tf.io.FixedLenFeature(tensor.shape[1:], dtype, default)


def _value(found: tf.Tensor, form: FeatureForm, tensor: TensorContract, tables: Tables) -> tf.Tensor:
    if form.image is not None:
        return pictures.decode(found, form.image, tensor)
    if form.vocabulary is not None:
        found = tables.numbers(form.vocabulary).lookup(found)
    return tf.cast(found, tensor.dtype)
