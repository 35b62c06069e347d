"""What a model's file says of its signatures, and how its tensors are called by people who type."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from slipway.parsed_examples import Feature

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# The last word of a tensor's name -> what people call it.
_HUMAN = {
    "softmax": "probabilities",
    "logsoftmax": "log_probabilities",
    "sigmoid": "probability",
    "argmax": "label",
    "topkv2": "top",
}
# Says how a tensor was made, and nothing about what it is: the layer in front of it does.
_OPS = frozenset(
    {"biasadd", "matmul", "add", "addv2", "identity", "reshape", "squeeze", "relu", "tanh", "readvariableop"}
)


@dataclass(frozen=True, slots=True)
class Tensor:
    """
    One input or output, as the model's file has it.

    Attributes:
        dtype: As TensorFlow names it, e.g. float32.
        shape: None for a size that varies; None altogether for an unknown rank.
        tensor: Name in the graph.
        op: Kind of op that makes it; empty where that is not known.
    """

    dtype: str
    shape: tuple[int | None, ...] | None
    tensor: str = ""
    op: str = ""


@dataclass(frozen=True, slots=True)
class Signature:
    """
    One signature, as the model's file has it.

    Attributes:
        method: As TensorFlow Serving names it, e.g. tensorflow/serving/predict.
        inputs: By name.
        outputs: By name.
        features: Of the tf.Examples that it parses.
        classes: What its scores stand for; () where that is not known.
    """

    method: str
    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]
    features: tuple[Feature, ...] = ()
    classes: tuple[str, ...] = ()

    @property
    def takes_examples(self) -> bool:
        """Whether all that it takes is serialized tf.Examples, which it parses."""
        return bool(self.features) and [tensor.dtype for tensor in self.inputs.values()] == ["string"]


@dataclass(frozen=True, slots=True)
class Found:
    """
    What a model's file says.

    Attributes:
        origin: What errors and the file's head call it.
        source: What the config calls it: keys of `source:`, as far as they are known.
        signatures: Key -> signature.
        remarks: What else people should know, a line each.
    """

    origin: str
    source: Mapping[str, Any]
    signatures: Mapping[str, Signature]
    remarks: tuple[str, ...] = ()


def human_name(name: str, op: str, taken: Collection[str] = ()) -> str:
    """
    Make a name that people can type of one that a graph has: `dense_1/Softmax:0` becomes `probabilities`.

    Args:
        name: Key of a signature or of a tensor.
        op: Kind of op that makes the tensor, if known.
        taken: Names that are given away.
    """
    words = [word for word in re.split(r"[/:]", name) if word and not word.isdigit()]
    last = re.sub(r"_\d+$", "", words[-1]) if words else ""
    while len(words) > 1 and re.sub(r"_\d+$", "", words[-1]).lower() in _OPS:
        words.pop()
    chosen = _HUMAN.get(op.lower()) or _HUMAN.get(last.lower()) or (words[-1] if words else "tensor")
    chosen = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", chosen).lower()
    chosen = re.sub(r"[^a-z0-9]+", "_", chosen).strip("_") or "tensor"
    if not chosen[0].isalpha():
        chosen = f"tensor_{chosen}"
    number, free = 2, chosen
    while free in taken:
        free, number = f"{chosen}_{number}", number + 1
    return free


def named(name: str, op: str, taken: Collection[str] = ()) -> str:
    """Give *name* if it can be typed, or else one that can."""
    return name if _NAME.fullmatch(name) else human_name(name, op, taken)
