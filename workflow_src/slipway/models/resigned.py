"""One signature of a SavedModel of TensorFlow 2 as a model: its function is called, its weights are not touched."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt
import tensorflow as tf

from slipway import graph_ops
from slipway.errors import SourceError, one_line
from slipway.graphs.signing import Chosen
from slipway.models.model import check_fits, named_inputs
from slipway_wire import tensors

Array = npt.NDArray[Any]


class ResignedModel:
    """
    A signature as a `slipway.models.model.Model`.

    Of all that the SavedModel holds it tracks what the signature uses: not the optimizer, nor the functions that a
    training needs.

    Args:
        directory: The SavedModel's.
        where: What errors call it.
        tags: All tags of its meta graph.
        chosen: What of the signature is the model.
        meta_graph: The MetaGraphDef message.
        answer: How a server of the SavedModel answers.
    """

    def __init__(
        self,
        directory: Path,
        where: str,
        tags: Sequence[str],
        chosen: Chosen,
        meta_graph: Any,
        answer: Callable[[Mapping[str, Array]], dict[str, Array]],
    ) -> None:
        self._where = where
        self._chosen = chosen
        self._meta_graph = meta_graph
        self._answer = answer
        try:
            # Kept as a whole: what it holds goes with it.
            self._loaded = tf.saved_model.load(str(directory), tags=list(tags))
            self._function = self._loaded.signatures[chosen.signature.name]
        except Exception as error:
            raise SourceError(
                f"{where}: TensorFlow cannot load it: {one_line(error)}. Fetch or copy it again."
            ) from error
        self._variables, self._resources = _used(self._loaded, self._function)

    @property
    def variables(self) -> list[tf.Variable]:
        """The weights that the signature uses, in its order."""
        return self._variables

    @property
    def resources(self) -> list[Any]:
        """Lookup tables, and the files that fill them."""
        return self._resources

    @property
    def facts(self) -> dict[str, float]:
        """None: a SavedModel does not tell of its training."""
        return {}

    @property
    def ops(self) -> dict[str, str]:
        """Kinds of ops that the signature reaches -> a node of that kind."""
        return graph_ops.signature_ops(self._meta_graph, self._chosen.signature.name)

    @tf.autograph.experimental.do_not_convert
    def call(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Call the signature; see `slipway.models.model.Model`."""
        _, specs = self._function.structured_input_signature
        given = {}
        for name, tensor in self._named(inputs).items():
            theirs = self._chosen.inputs[name]
            check_fits(name, tensor, specs[theirs], f"input {theirs} of {self._where}")
            given[theirs] = tensor
        given |= {name: tf.constant(tensors.from_proto(proto)) for name, proto in self._chosen.frozen.items()}
        found = self._function(**given)
        return {name: tf.identity(found[theirs]) for name, theirs in self._chosen.outputs.items()}

    def answer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Answer as a server of the SavedModel would; see `slipway.models.model.Model`."""
        return self._answer(self._named(inputs))

    def _named(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        return named_inputs(self._chosen.inputs, inputs)


def _used(loaded: Any, function: Any) -> tuple[list[tf.Variable], list[Any]]:
    """Find the variables, and the tables and assets, that *function* of *loaded* has captured."""
    there = list(tf.train.TrackableView(loaded).descendants())
    # By identity: tensors compare element by element.
    variables = {id(thing.handle): thing for thing in there if isinstance(thing, tf.Variable)}
    tables = {id(t.resource_handle): t for t in there if isinstance(t, tf.saved_model.experimental.TrackableResource)}
    assets = {id(thing.asset_path): thing for thing in there if isinstance(thing, tf.saved_model.Asset)}
    captured = list(function.captured_inputs)
    if any(tensor.dtype == tf.resource and id(tensor) not in {**variables, **tables} for tensor in captured):
        # State of a kind that is not known here: it stays as it hangs together.
        return [], [loaded]
    used = {id(tensor): tensor for tensor in captured}
    found = [tables[tensor] for tensor in used if tensor in tables]
    # What fills a table is its own affair, and may be any of the files.
    found_assets = [asset for tensor, asset in assets.items() if found or tensor in used]
    return [variables[tensor] for tensor in used if tensor in variables], [*found, *found_assets]
