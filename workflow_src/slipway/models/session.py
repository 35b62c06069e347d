"""A SavedModel in a V1 graph session, as TensorFlow Serving runs it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from slipway.errors import SourceError, one_line
from slipway_wire import signatures
from slipway_wire.status import WireError

Array = npt.NDArray[Any]


class ServingSession:
    """
    The signatures of one SavedModel, callable by name; close it, or use it as a context.

    Args:
        directory: The SavedModel's.
        tags: All tags of one of its meta graphs.
        advice: What to do if it cannot be loaded: ours is made again, a user's is not ours to make.

    Raises:
        SourceError: If the directory holds no SavedModel that can be loaded.
    """

    def __init__(self, directory: Path, tags: Sequence[str] = ("serve",), advice: str = "Export it again.") -> None:
        # One thread: the last bits of an answer, and so the reports made from them, are the same each time.
        config = tf.compat.v1.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
        graph = tf.Graph()
        self._session = tf.compat.v1.Session(graph=graph, config=config)
        try:
            self._signatures = signatures.read_signatures(directory, tags)
            with graph.as_default():
                tf.compat.v1.saved_model.loader.load(self._session, list(tags), str(directory))
        except (tf.errors.OpError, WireError, OSError, ValueError, RuntimeError) as error:
            self._session.close()
            raise SourceError(f"{directory}: cannot be loaded: {one_line(error)}. {advice}") from error

    def run(
        self, signature: str, inputs: Mapping[str, Array], others: Mapping[str, Any] | None = None
    ) -> dict[str, Array]:
        """
        Call one signature.

        Args:
            signature: Its key.
            inputs: Name -> array; strings are objects (bytes).
            others: Tensor in the graph -> value, for what the signature does not name.

        Returns:
            Every output, name -> array.

        Raises:
            SourceError: If there is no such signature, or the model fails.
        """
        try:
            definition = self._signatures[signature]
            feeds = {definition.inputs[name].graph_name: array for name, array in inputs.items()} | dict(others or {})
            fetches = {name: spec.graph_name for name, spec in definition.outputs.items()}
            found = self._session.run(fetches, feeds)
        except KeyError as error:
            raise SourceError(f"{signature}: no signature or input {error}") from error
        except (tf.errors.OpError, ValueError, TypeError) as error:
            raise SourceError(one_line(error)) from error
        # A scalar comes as a number, or as the bytes of a string.
        return {name: np.asarray(value, object if isinstance(value, bytes) else None) for name, value in found.items()}

    def close(self) -> None:
        """Give back what the session holds."""
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def load_eagerly(directory: Path) -> None:
    """Load the SavedModel the TF2 way, as notebooks do, or raise SourceError."""
    try:
        tf.saved_model.load(str(directory), tags=["serve"])
    except Exception as error:
        raise SourceError(one_line(error)) from error
