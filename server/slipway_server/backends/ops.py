"""Ops that do not come with TensorFlow: libraries and modules that add them, graphs that need them."""

import ctypes.util
import importlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.python.framework import op_def_registry

from slipway_server.load_options import LoadOptions
from slipway_wire.status import InvalidArgument, NotFound

logger = logging.getLogger(__name__)

# Where ops come from that models in the field use, by how their names begin.
_KNOWN_MODULES = {
    "Addons>": "tensorflow_addons",
    "CaseFoldUTF8": "tensorflow_text",
    "ConstrainedSequence": "tensorflow_text",
    "FastBertNormalize": "tensorflow_text",
    "FastSentencepiece": "tensorflow_text",
    "FastWordpiece": "tensorflow_text",
    "NormalizeUTF8": "tensorflow_text",
    "RegexSplitWithOffsets": "tensorflow_text",
    "RougeL": "tensorflow_text",
    "Sentencepiece": "tensorflow_text",
    "SimpleML": "tensorflow_decision_forests",
    "SplitMergeTokenize": "tensorflow_text",
    "TFText>": "tensorflow_text",
    "UnicodeScriptTokenize": "tensorflow_text",
    "WhitespaceTokenize": "tensorflow_text",
    "WordpieceTokenize": "tensorflow_text",
}


def register(options: LoadOptions) -> None:
    """
    Load the libraries and import the modules that *options* name; those already there are left alone.

    Raises:
        NotFound: A library or module is not there.
        InvalidArgument: A library or module cannot be loaded.
    """
    for library in options.op_libraries:
        if not Path(library).is_file() and not ctypes.util.find_library(library):
            raise NotFound(f"--op_library={library}: no such file")
        try:
            tf.load_op_library(library)
        except (tf.errors.OpError, RuntimeError) as error:
            raise InvalidArgument(f"--op_library={library}: {first_line(str(error))}") from error
        logger.info("Loaded the ops of %s", library)
    for module in options.modules:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            raise NotFound(
                f"--import_module={module}: there is no module {error.name}; install it beside the server"
            ) from error
        except Exception as error:  # a module may raise anything while it is imported
            raise InvalidArgument(
                f"--import_module={module}: {type(error).__name__}: {first_line(str(error))}"
            ) from error
        logger.info("Imported %s", module)


def check_registered(graph: Any) -> None:
    """
    Raise for the first op of a GraphDef message that nobody has registered.

    Raises:
        NotFound: With TensorFlow's words for it, and where it may come from.
    """
    functions = {function.signature.name for function in graph.library.function}
    known: set[str] = set()
    for name, op in _nodes(graph):
        if op in known:
            continue
        if op not in functions and op_def_registry.get(op) is None:
            # A damaged file may have anything for a name.
            raise NotFound(first_line(f"Op type not registered '{op}' (node '{name}'); {_advice(op)}"))
        known.add(op)


def first_line(message: str) -> str:
    """Put TensorFlow's message on one line, without the stacks of Python code before and after what it says."""
    # "Graph execution error:", then where the model's author wrote the node, then the node, then what happened.
    _, node, after = message.rpartition("\nNode: ")
    said = after.partition("\n")[2] if node else message
    said = said.partition("\nOriginal stack trace")[0].partition("\nDetected at node")[0]
    return " ".join(said.split())


def _nodes(graph: Any) -> Iterator[tuple[str, str]]:
    lists: Sequence[Any] = [graph.node, *(function.node_def for function in graph.library.function)]
    return ((node.name, node.op) for nodes in lists for node in nodes)


def _advice(op: str) -> str:
    for start, module in _KNOWN_MODULES.items():
        if op.startswith(start):
            return f"install {module} and start with --import_module={module}"
    return "load the library that has it with --op_library=PATH.so, or import the package with --import_module=NAME"
