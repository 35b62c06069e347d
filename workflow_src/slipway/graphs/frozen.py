"""The values of `freeze_inputs` as tensors."""

from typing import Any

import numpy as np

from slipway.errors import SourceError
from slipway.source_settings import FrozenValue
from slipway_wire import tensors
from slipway_wire.dtypes import DataType

# Kind of numpy dtype that is wanted -> kinds that a value may have: 1 may be meant as 1.0, 0.5 is no integer.
_FITTING = {"b": "b", "i": "i", "u": "i", "f": "if", "V": "if", "O": "U"}


def to_constant(where: str, name: str, data_type: DataType, value: FrozenValue) -> Any:
    """
    Make the TensorProto message of *value*.

    Args:
        where: What errors call the source.
        name: What errors call the input.
        data_type: Of the input.
        value: As it stands in the config.

    Raises:
        SourceError: If *value* is none of that type.
    """
    try:
        found = np.array(value)
    except ValueError as error:
        raise SourceError(
            f"{where}: freeze_inputs: {name}: {value!r} is no tensor: its rows differ in length."
        ) from error
    wanted = data_type.numpy
    if wanted is None or found.dtype.kind not in _FITTING.get(wanted.kind, ""):
        raise SourceError(f"{where}: freeze_inputs: {name} is {data_type.name}, which {value!r} is not.")
    if (
        wanted.kind in "iu"
        and found.size
        and not np.iinfo(wanted).min <= found.min() <= found.max() <= np.iinfo(wanted).max
    ):
        raise SourceError(f"{where}: freeze_inputs: {name}: {value!r} does not fit into {data_type.name}.")
    return tensors.to_proto(found if wanted.kind == "O" else found.astype(wanted), as_content=False)
