"""
From a model's own outputs to the outputs of a predict signature, in numpy.

Golden answers are made here and not by the operations that an export adds: two ways to the same answer
are what makes their comparison a proof.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from scipy import special

from slipway.contract import PredictSignature
from slipway.errors import SettingsError

Array = npt.NDArray[Any]
Value = TypeVar("Value")

_FUNCTIONS = {
    "softmax": lambda x: special.softmax(x, axis=-1),
    "sigmoid": special.expit,
    "argmax": lambda x: np.argmax(x, axis=-1),
}


def pick(outputs: Mapping[str, Value], name: str) -> Value:
    """
    Choose the output *name* of a model; its only output goes by any name.

    Raises:
        SettingsError: If there are several and none has the name.
    """
    if len(outputs) == 1:
        return next(iter(outputs.values()))
    try:
        return outputs[name]
    except KeyError:
        msg = f"contract: the model has no output {name}; it has: {', '.join(outputs)}. Name one of them in `from:`."
        raise SettingsError(msg) from None


def derive(signature: PredictSignature, raw: Mapping[str, Array]) -> dict[str, Array]:
    """
    Make the outputs of *signature*, each as its contract says.

    Args:
        signature: Names the outputs and what they are made from.
        raw: The model's own outputs, name -> array of shape [rows, …].

    Returns:
        Name -> array; softmax and sigmoid keep the dtype of what they are made from, arg max has the contract's.
    """

    def value(name: str) -> Array:
        output = signature.outputs.get(name)
        function, argument = output.source(name) if output else (None, name)
        if function is None:
            return pick(raw, argument)
        made_from = value(argument)
        made: Array = _FUNCTIONS[function](made_from)
        return made.astype(output.dtype if output and function == "argmax" else made_from.dtype, copy=False)

    return {name: value(name) for name in signature.outputs}
