"""
A graph of TensorFlow 1 as a model: a function of its inputs, weights and tables.

Weights stay variables (docs/decisions/0014-weights-stay-variables.md): where the graph has the op of a variable, the
function takes the value of a `tf.Variable` that the export tracks. `answer` goes another way, by `Session.run` on the
original ops, restored by the graph's own Saver; so that both agree proves something.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt
import tensorflow as tf

from slipway import graph_ops
from slipway.errors import SourceError, one_line
from slipway.graphs import cutting, restoring
from slipway.graphs.names import near, op_of
from slipway.graphs.plans import Plan, Table, asset_file
from slipway.graphs.restoring import Stored
from slipway.models import graph_session
from slipway.models.model import check_fits, named_inputs
from slipway_wire import dtypes

Array = npt.NDArray[Any]
Answer = Callable[[Mapping[str, Array]], dict[str, Array]]


class GraphModel:
    """
    A graph as a `slipway.models.model.Model`.

    Args:
        plan: What to make of the graph.
        directory: Where the source's files are.
        prefix: The checkpoint that its variables are in; None if it has none.
        moving_average: Whether variables take their moving averages.
        answer: How the source's own framework answers, where that is not `Session.run` on the plan's original.
        facts: What the source says of itself in numbers.
    """

    def __init__(
        self,
        plan: Plan,
        directory: Path,
        prefix: Path | None = None,
        *,
        moving_average: bool = False,
        answer: Answer | None = None,
        facts: Mapping[str, float] | None = None,
    ) -> None:
        self._plan = plan
        self._directory = directory
        self._prefix = prefix
        self._answer = answer
        self._facts = dict(facts or {})
        stored, self._averages = _chosen(plan, prefix, moving_average=moving_average)
        self._variables = _restored(plan.source.where, stored, prefix)
        self._assets: list[tf.saved_model.Asset] = []
        self._tables = {name: self._table(table) for name, table in plan.tables.items()}
        self._function: Any = None

    @property
    def variables(self) -> list[tf.Variable]:
        """All weights that the outputs need, in the order of the graph."""
        return list(self._variables.values())

    @property
    def resources(self) -> list[Any]:
        """Lookup tables, and the files that fill them."""
        return [*self._tables.values(), *self._assets]

    @property
    def facts(self) -> dict[str, float]:
        """What the source says of itself in numbers."""
        return self._facts

    @property
    def ops(self) -> dict[str, str]:
        """Kinds of ops that a call runs -> a node of that kind."""
        return graph_ops.all_ops(self._plan.served)

    # AutoGraph follows calls out of a traced function; there is nothing for it here.
    @tf.autograph.experimental.do_not_convert
    def call(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Run the graph as a part of a function; see `slipway.models.model.Model`."""
        named = self._named(inputs)
        if self._function is None:
            specs = [self._spec(name, tensor) for name, tensor in named.items()]
            # TensorFlow 1's control flow does not bear the order that tf.function puts ops into.
            self._function = tf.compat.v1.wrap_function(self._run, specs)
        for (name, tensor), spec in zip(named.items(), self._function.structured_input_signature[0], strict=True):
            check_fits(name, tensor, spec, self._plan.ends.inputs[name])
        found = self._function(*named.values())
        return dict(zip(self._plan.fetches, found, strict=True))

    def answer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the original; see `slipway.models.model.Model`."""
        named = self._named(inputs)
        if self._answer is not None:
            return self._answer(named)
        return graph_session.answer(self._plan, named, self._directory, self._prefix, self._averages)

    def _named(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        return named_inputs(self._plan.ends.inputs, inputs)

    def _spec(self, name: str, tensor: tf.Tensor) -> tf.TensorSpec:
        placeholder = self._plan.placeholders.get(self._plan.ends.inputs[name])
        if placeholder is None:
            return tf.TensorSpec(tensor.shape, tensor.dtype, name)
        return tf.TensorSpec(placeholder.shape, tf.as_dtype(placeholder.dtype), name)

    def _run(self, *tensors: tf.Tensor) -> list[tf.Tensor]:
        """Import the graph into the function that is being traced, with everything put in."""
        given = dict(zip(self._plan.ends.inputs.values(), tensors, strict=True))
        capture = tf.compat.v1.get_default_graph().capture
        given |= {f"{name}:0": capture(table.resource_handle) for name, table in self._tables.items()}
        references = {node.name for node in self._plan.source.graph.node if node.op in cutting.REF_VARIABLES}
        for name, variable in self._variables.items():
            given[f"{name}:0"] = variable.value() if name in references else capture(variable.handle)
        graph = graph_session.to_tensorflow(self._plan.served)
        used = {_full(tensor) for node in graph.node for tensor in node.input}
        fetches = list(self._plan.fetches.values())
        imported = [tensor for tensor in dict.fromkeys(fetches) if tensor not in given]
        try:
            found = tf.graph_util.import_graph_def(
                graph, {tensor: value for tensor, value in given.items() if tensor in used}, imported, name=""
            )
        except (ValueError, TypeError, tf.errors.OpError) as error:
            raise SourceError(f"{self._plan.source.where}: TensorFlow cannot import it: {one_line(error)}") from error
        given |= dict(zip(imported, found, strict=True))
        for name, tensor in self._plan.fetches.items():
            if given[tensor].dtype == tf.resource:
                raise SourceError(
                    f"{self._plan.source.where}: output {name}: {tensor} is the handle of a weight, not its value. Name "
                    f"what reads it, such as {op_of(tensor)}/Read/ReadVariableOp:0."
                )
        # The same tensor may be wanted twice; a function gives each once.
        return [tf.identity(given[tensor]) for tensor in fetches]

    def _table(self, table: Table) -> "_Table":
        contents = [_full(tensor) for tensor in table.initializer.input[1:]]
        values = graph_session.constants(self._plan, contents)
        asset = None
        if table.from_file:
            path = asset_file(self._plan, contents[0], bytes(values[0].item()), self._directory)
            # Relative: an absolute path would be a part of the export, which must be the same everywhere.
            asset = tf.saved_model.Asset(str(path))
            self._assets.append(asset)
        return _Table(table, values, asset)


def _full(tensor: str) -> str:
    return tensor if ":" in tensor or tensor.startswith("^") else f"{tensor}:0"


# --- weights ---------------------------------------------------------------------------------------


def _chosen(plan: Plan, prefix: Path | None, *, moving_average: bool) -> tuple[dict[str, Stored], dict[str, Stored]]:
    """Say where the value of each variable is, and for which of them this is not what the Saver says."""
    stored = dict(plan.variables)
    if not stored:
        return {}, {}
    if prefix is None:
        name = next(iter(stored))
        raise SourceError(
            f"{plan.source.where}: the outputs need the variable {name}, which the graph has no value for: it is not "
            "frozen. With its checkpoint it is a source of kind: tf1_checkpoint."
        )
    keys = checkpoint_keys(prefix)
    averages = {}
    if moving_average:
        averaged = restoring.averaged(stored, set(keys))
        averages = {name: value for name, value in averaged.items() if value != stored[name]}
        if not averages and not any(value.key.endswith(restoring.AVERAGE) for value in stored.values()):
            raise SourceError(
                f"{prefix.name}: moving_average: the checkpoint holds no {restoring.AVERAGE[1:]} of any weight."
            )
        stored = averaged
    for name, value in stored.items():
        if value.key not in keys:
            close = ", ".join(near(value.key, keys)) or "nothing near it"
            raise SourceError(
                f"{prefix.name}: the outputs need {value.key} (variable {name}), which it has not; it has: {close}."
            )
    return stored, averages


def checkpoint_keys(prefix: Path) -> list[str]:
    """
    List the names of the tensors in a checkpoint.

    Raises:
        SourceError: If it is damaged, or none.
    """
    try:
        return sorted(tf.train.load_checkpoint(str(prefix)).get_variable_to_shape_map())
    except Exception as error:
        raise SourceError(f"{prefix.name}: not a TensorFlow checkpoint, or damaged: {one_line(error)}") from error


def _restored(where: str, stored: Mapping[str, Stored], prefix: Path | None) -> dict[str, tf.Variable]:
    if not stored:
        return {}
    values = list(stored.values())
    try:
        found = tf.raw_ops.RestoreV2(
            prefix=str(prefix),
            tensor_names=[value.key for value in values],
            shape_and_slices=[value.part for value in values],
            dtypes=[tf.as_dtype(value.dtype) for value in values],
        )
    except (tf.errors.OpError, ValueError, TypeError) as error:
        raise SourceError(
            f"{prefix and prefix.name}: the checkpoint is damaged, or does not fit the graph: {one_line(error)}"
        ) from error
    for name, value, tensor in zip(stored, values, found, strict=True):
        if not tf.TensorShape(value.shape).is_compatible_with(tensor.shape):
            msg = f"{where}: the variable {name} has shape {tf.TensorShape(value.shape)}, {value.key} in the checkpoint {tensor.shape}."
            raise SourceError(msg)
    return {name: tf.Variable(tensor, name=name) for name, tensor in zip(stored, found, strict=True)}


# --- lookup tables ---------------------------------------------------------------------------------


class _Table(tf.saved_model.experimental.TrackableResource):
    """A lookup table with the name it had, filled by what filled it."""

    def __init__(self, table: Table, values: list[Array], asset: tf.saved_model.Asset | None) -> None:
        super().__init__()
        self._table = table
        self._values = values
        self._asset = asset
        # Now, outside of any function that would take it for a part of its own.
        _ = self.resource_handle

    def _create_resource(self) -> tf.Tensor:
        attributes = self._table.node.attr
        # A name: two ops of one function are to have the same table.
        return tf.raw_ops.HashTableV2(
            key_dtype=_dtype(attributes["key_dtype"]),
            value_dtype=_dtype(attributes["value_dtype"]),
            shared_name=attributes["shared_name"].s or self._table.node.name,
        )

    def _initialize(self) -> None:
        initializer = self._table.initializer
        if self._asset is None:
            keys, values = (tf.constant(array) for array in self._values)
            tf.raw_ops.InitializeTableV2(table_handle=self.resource_handle, keys=keys, values=values)
            return
        attributes = initializer.attr
        tf.raw_ops.InitializeTableFromTextFileV2(
            table_handle=self.resource_handle,
            filename=self._asset.asset_path,
            key_index=attributes["key_index"].i,
            value_index=attributes["value_index"].i,
            vocab_size=attributes["vocab_size"].i if "vocab_size" in attributes else -1,
            delimiter=attributes["delimiter"].s if "delimiter" in attributes else "\t",
            offset=attributes["offset"].i,
        )


def _dtype(attribute: Any) -> Any:
    return tf.as_dtype(dtypes.from_number(attribute.type).name)
