"""
TensorFlow: a version directory becomes a session that runs.

The V1 loader is used for V1 and V2 models alike: it takes models whose signatures lie about shapes or that hold
reference variables, which `tf.saved_model.load` refuses, and its session's callables cost a few microseconds where
a ConcreteFunction costs a hundred.
"""

import logging
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2

from slipway_server.backends import freezing, functions, ops, precision
from slipway_server.config_files import BatchingPolicy
from slipway_server.load_options import LoadOptions
from slipway_server.metrics import Metrics
from slipway_server.servables.loader import Call, Servable
from slipway_wire import messages, signatures
from slipway_wire.status import InvalidArgument, NotFound, ResourceExhausted, Unknown, WireError, error_of
from slipway_wire.tensors import Array

logger = logging.getLogger(__name__)

# It would tell users that the loader is deprecated, which is ours to know, and every file it restores.
tf.get_logger().setLevel("ERROR")

# Runs a graph's ops on the thread that asks: hand-overs to a pool would cost more than a small model.
_CALLER_THREAD = -1

# Callers choose among outputs: with twenty of them, there are a million choices, each with a graph of its own.
_MAX_RUNNERS = 256

_OTHER_FORMS = {"model.tflite": "--prefer_tflite_model", "stablehlo/manifest.json": "--prefer_stablehlo"}
_SAVED_MODEL_CONFIG_FILE = "assets.extra/saved_model_config.pb"

_MAX_MESSAGE_BYTES = 2**31 - 1

_Runner = Callable[..., Sequence[Any]]


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
        self._run_options = run_options(session._config)  # noqa: SLF001  # what it was made with is not public
        self.batching_policy: BatchingPolicy | None = None
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
        runner = self._runners.get(key) or self._make_runner(key, self._feeds(call), self._fetches(call))
        return dict(zip(call.outputs, _run(runner, call.inputs.values()), strict=True))

    def run_together(self, calls: Sequence[Call]) -> list[dict[str, Array]]:
        """Run several signatures over the same inputs in one session run; raises as `run` does."""
        key = tuple([(call.signature, tuple(call.inputs), tuple(call.outputs)) for call in calls])
        # A tensor may be fed once only, and most signatures of a model that parses examples share theirs.
        feeds = {
            name: value for call in calls for name, value in zip(self._feeds(call), call.inputs.values(), strict=True)
        }
        runner = self._runners.get(key) or self._make_runner(
            key, list(feeds), [name for call in calls for name in self._fetches(call)]
        )
        values = iter(_run(runner, feeds.values()))
        return [{alias: next(values) for alias in call.outputs} for call in calls]

    def _feeds(self, call: Call) -> list[str]:
        definition = self.signatures[call.signature]
        return [definition.inputs[alias].graph_name for alias in call.inputs]

    def _fetches(self, call: Call) -> list[str]:
        definition = self.signatures[call.signature]
        return [definition.outputs[alias].graph_name for alias in call.outputs]

    def _make_runner(self, key: Hashable, feeds: list[str], fetches: list[str]) -> _Runner:
        options = config_pb2.CallableOptions(feed=feeds, fetch=dict.fromkeys(fetches), run_options=self._run_options)
        with self._lock:
            # Private, and the only way in that neither compares shapes with the placeholders' nor costs 100 µs.
            try:
                run = self._session._make_callable_from_options(options)  # noqa: SLF001
            except tf.errors.OpError as error:
                raise error_of(error.error_code, error.message) from error
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

    def __init__(self, directory: Path, options: LoadOptions | None = None, metrics: Metrics | None = None) -> None:
        """
        Take note of what is to be loaded.

        Args:
            directory: Holds `saved_model.pb`.
            options: How to load it.
            metrics: Where attempts are counted.
        """
        self._directory = directory
        self._options = options or LoadOptions()
        self._metrics = metrics

    def load(self) -> Servable:
        """
        Load the meta graph with the wanted tags, restore its variables and run its initialisers.

        Raises:
            WireError: What is missing or damaged, with the canonical code, in one line.
        """
        began = time.monotonic()
        try:
            servable = self._load()
        except BaseException:
            if self._metrics:
                self._metrics.saved_model_load_attempts.of(str(self._directory), "fail").add()
            raise
        if self._metrics:
            self._metrics.saved_model_load_attempts.of(str(self._directory), "success").add()
            self._metrics.saved_model_load_latency_us.of(str(self._directory)).add(
                int((time.monotonic() - began) * 1e6)
            )
        return servable

    def _load(self) -> Servable:
        options = self._options
        meta_graph = signatures.find_meta_graph(self._read(), options.tags)
        ops.check_registered(meta_graph.graph_def)
        if (self._directory / _SAVED_MODEL_CONFIG_FILE).exists():
            logger.warning(
                "%s: %s is ignored: it configures rewrites of TF Serving's runtime that this one does not have",
                self._directory,
                _SAVED_MODEL_CONFIG_FILE,
            )
        config = config_pb2.ConfigProto.FromString(options.session_config or _DEFAULT_CONFIG)
        config = precision.chosen(config, lambda one: self._open(one, meta_graph), str(self._directory))
        return self._open(config, meta_graph)

    def _open(self, config: Any, meta_graph: Any) -> Servable:
        options = self._options
        graph = tf.Graph()
        session = tf.compat.v1.Session(graph=graph, config=config)
        try:
            with graph.as_default():
                tf.compat.v1.saved_model.loader.load(session, list(options.tags), str(self._directory))
            if called := functions.loaded_if_unrestored(session, self._directory, options.tags, meta_graph):
                session.close()
                return called
            if options.has_frozen_variables:
                session = freezing.frozen(session, meta_graph, config, str(self._directory))
            return SavedModelServable(session, meta_graph)
        except Exception as error:
            session.close()
            raise self._load_error(error) from error

    def _read(self) -> Any:
        path = self._directory / signatures.SAVED_MODEL_FILE
        if path.is_file() and (size := path.stat().st_size) > _MAX_MESSAGE_BYTES:
            raise InvalidArgument(
                f"{path}: it has {size} bytes, and a protobuf message can have {_MAX_MESSAGE_BYTES} at most; keep large "
                "tensors in variables, not in constants"
            )
        try:
            return signatures.read_saved_model(self._directory)
        except NotFound as error:
            for name, flag in _OTHER_FORMS.items():
                if (self._directory / name).exists():
                    raise NotFound(f"{error.message}; it holds {name}, which {flag} serves") from error
            raise

    def _load_error(self, error: Exception) -> WireError:
        where = f"{self._directory} (tags {{{','.join(self._options.tags)}}})"
        if isinstance(error, tf.errors.OpError):
            return error_of(error.error_code, f"{where}: {ops.first_line(error.message)}")
        if isinstance(error, MemoryError):
            return ResourceExhausted(f"{where}: not enough memory to load it")
        return Unknown(f"{where}: {type(error).__name__}: {ops.first_line(str(error))}")


_DEFAULT_CONFIG = config_pb2.ConfigProto(use_per_session_threads=True, allow_soft_placement=True).SerializeToString()


def run_options(config: Any) -> Any:
    """
    Say how a graph runs in a session with this ConfigProto.

    Its ops run on the thread that asks, unless somebody wanted several threads between ops.
    """
    wants_threads = config.inter_op_parallelism_threads > 1 or config.session_inter_op_thread_pool
    return config_pb2.RunOptions(inter_op_thread_pool=0 if wants_threads else _CALLER_THREAD)


def _run(runner: _Runner, feeds: Iterable[Array]) -> list[Array]:
    try:
        values = runner(*feeds)
    except tf.errors.OpError as error:
        raise error_of(error.error_code, error.message) from error
    except UnicodeDecodeError as error:
        # TensorFlow's message quotes bytes of the request that are no text; making its exception failed on them, and the code
        # is lost with it.
        raise InvalidArgument(error.object.decode(errors="replace")) from error
    except MemoryError as error:
        raise ResourceExhausted("not enough memory for the inputs or outputs of the model") from error
    # Nearly every output is an array already; the call to make sure would cost a tenth of a small model's run.
    return [value if type(value) is np.ndarray else _as_array(value) for value in values]


def _as_array(value: Any) -> Array:
    if isinstance(value, bytes):
        # A scalar string; numpy's own string type would drop zero bytes at its end.
        scalar = np.empty((), object)
        scalar[()] = value
        return scalar
    return np.asarray(value)
