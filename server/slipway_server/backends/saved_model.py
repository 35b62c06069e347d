"""
TensorFlow: a version directory becomes a session that runs. The only module of the server that imports it.

The V1 loader is used for V1 and V2 models alike: it takes models whose signatures lie about shapes or that hold
reference variables, which `tf.saved_model.load` refuses, and its session's callables cost a few microseconds where
a ConcreteFunction costs a hundred.
"""

import threading
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2

from slipway_server.servables.loader import Call
from slipway_wire import messages, signatures
from slipway_wire.status import Unknown, WireError, error_of
from slipway_wire.tensors import Array

# It would tell users that the loader is deprecated, which is ours to know, and every file it restores.
tf.get_logger().setLevel("ERROR")

# Runs a graph's ops on the thread that asks: hand-overs to a pool would cost more than a small model.
_CALLER_THREAD = -1

# Callers choose among outputs: with twenty of them, there are a million choices, each with a graph of its own.
_MAX_RUNNERS = 256

_Runner = Callable[..., Sequence[Any]]


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """
    How sessions are made; thread counts of 0 leave the choice to TensorFlow.

    Attributes:
        intra_op_threads: Threads within one op.
        inter_op_threads: Threads between ops, where the calling thread cannot run them itself.
        gpu_memory_fraction: Share of each GPU's memory to take at start; 0: TensorFlow decides.
        tags: The meta graph to load.
    """

    intra_op_threads: int = 0
    inter_op_threads: int = 0
    gpu_memory_fraction: float = 0.0
    tags: tuple[str, ...] = ("serve",)

    def session_config(self) -> Any:
        """Make the ConfigProto."""
        config = config_pb2.ConfigProto(
            intra_op_parallelism_threads=self.intra_op_threads,
            inter_op_parallelism_threads=self.inter_op_threads,
            # Without this, all sessions share the threads of whichever came first.
            use_per_session_threads=True,
            allow_soft_placement=True,
        )
        config.gpu_options.per_process_gpu_memory_fraction = self.gpu_memory_fraction
        return config


class SavedModelServable:
    """A SavedModel in a session of its own."""

    def __init__(self, session: Any, meta_graph: Any) -> None:
        """
        Take over an initialised session.

        Args:
            session: `tf.compat.v1.Session` that holds the model; closed by `close`.
            meta_graph: The MetaGraphDef that was loaded, as a message of the wire package.
        """
        self._session = session
        self.signatures = signatures.from_meta_graph(meta_graph)
        # A copy: a reference into the meta graph would keep the whole graph in memory.
        self.signature_defs = messages.SignatureDefMap(signature_def=meta_graph.signature_def).signature_def
        self._runners: dict[Hashable, _Runner] = {}
        self._lock = threading.Lock()

    def run(self, call: Call) -> dict[str, Array]:
        """
        Run one signature. Shapes are the graph's to judge: they are not compared with what placeholders state.

        Raises:
            WireError: With TensorFlow's code and message.
        """
        key = (call.signature, tuple(call.inputs), tuple(call.outputs))
        try:
            runner = self._runners.get(key) or self._make_runner(key, self._feeds(call), self._fetches(call))
            values = runner(*call.inputs.values())
        except tf.errors.OpError as error:
            raise error_of(error.error_code, error.message) from error
        return dict(zip(call.outputs, map(_as_array, values), strict=True))

    def run_together(self, calls: Sequence[Call]) -> list[dict[str, Array]]:
        """Run several signatures over the same inputs in one session run; raises as `run` does."""
        key = tuple([(call.signature, tuple(call.inputs), tuple(call.outputs)) for call in calls])
        # A tensor may be fed once only, and most signatures of a model that parses examples share theirs.
        feeds = {
            name: value for call in calls for name, value in zip(self._feeds(call), call.inputs.values(), strict=True)
        }
        try:
            runner = self._runners.get(key) or self._make_runner(
                key, list(feeds), [name for call in calls for name in self._fetches(call)]
            )
            values = map(_as_array, runner(*feeds.values()))
        except tf.errors.OpError as error:
            raise error_of(error.error_code, error.message) from error
        return [{alias: next(values) for alias in call.outputs} for call in calls]

    def _feeds(self, call: Call) -> list[str]:
        definition = self.signatures[call.signature]
        return [definition.inputs[alias].graph_name for alias in call.inputs]

    def _fetches(self, call: Call) -> list[str]:
        definition = self.signatures[call.signature]
        return [definition.outputs[alias].graph_name for alias in call.outputs]

    def _make_runner(self, key: Hashable, feeds: list[str], fetches: list[str]) -> _Runner:
        options = config_pb2.CallableOptions(feed=feeds, fetch=dict.fromkeys(fetches))
        options.run_options.inter_op_thread_pool = _CALLER_THREAD
        with self._lock:
            # Private, and the only way in that neither compares shapes with the placeholders' nor costs 100 µs.
            run = self._session._make_callable_from_options(options)  # noqa: SLF001
            if len(options.fetch) == len(fetches):
                runner: _Runner = run
            else:
                # Two aliases of one tensor: fetched once, told twice.
                places = [list(options.fetch).index(name) for name in fetches]

                def runner(*values: Any) -> Sequence[Any]:
                    results = run(*values)
                    return [results[place] for place in places]

            while len(self._runners) >= _MAX_RUNNERS:
                del self._runners[next(iter(self._runners))]
            return self._runners.setdefault(key, runner)

    def close(self) -> None:
        """Free the session and all that its callables hold."""
        self._runners.clear()
        self._session.close()


class SavedModelLoader:
    """Loads one version directory."""

    def __init__(self, directory: Path, options: SessionOptions) -> None:
        self._directory = directory
        self._options = options

    def load(self) -> SavedModelServable:
        """
        Load the meta graph with the wanted tags, restore its variables and run its initialisers.

        Raises:
            WireError: What is missing or damaged, with the canonical code.
        """
        meta_graph = signatures.find_meta_graph(signatures.read_saved_model(self._directory), self._options.tags)
        graph = tf.Graph()
        session = tf.compat.v1.Session(graph=graph, config=self._options.session_config())
        try:
            with graph.as_default():
                tf.compat.v1.saved_model.loader.load(session, list(self._options.tags), str(self._directory))
        except Exception as error:
            session.close()
            raise _load_error(self._directory, self._options.tags, error) from error
        return SavedModelServable(session, meta_graph)


def _as_array(value: Any) -> Array:
    if isinstance(value, bytes):
        # A scalar string; numpy's own string type would drop zero bytes at its end.
        scalar = np.empty((), object)
        scalar[()] = value
        return scalar
    return np.asarray(value)


def _load_error(directory: Path, tags: Collection[str], error: Exception) -> WireError:
    where = f"{directory} (tags {{{','.join(tags)}}})"
    if isinstance(error, tf.errors.OpError):
        return error_of(error.error_code, f"{where}: {error.message}")
    return Unknown(f"{where}: {type(error).__name__}: {error}")
