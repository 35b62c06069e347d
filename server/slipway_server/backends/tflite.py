"""
TFLite: `model.tflite` of a version directory, run by a bounded pool of interpreters.

An interpreter runs one request at a time and keeps the shapes of the last one, so requests that run at once need one
each; all of a version share the model's bytes.
"""

import logging
import threading
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from flatbuffers import flexbuffers
from tensorflow.core.protobuf import config_pb2
from tensorflow.lite.python import schema_py_generated as schema

from slipway_server.backends.ops import first_line
from slipway_server.config_files import BatchingPolicy
from slipway_server.load_options import LoadOptions
from slipway_server.servables.loader import Call
from slipway_wire import dtypes, messages, signatures
from slipway_wire.signatures import PREDICT, Signature
from slipway_wire.status import DataLoss, Internal, InvalidArgument, NotFound, Unimplemented, WireError
from slipway_wire.tensors import Array

logger = logging.getLogger(__name__)

MODEL_FILE = "model.tflite"

_FILE_IDENTIFIER = b"TFL3"
_SIGNATURES = b"signature_defs_metadata"
_DEFAULT_SIGNATURE = "serving_default"

_CUSTOM_OP = "Encountered unresolved custom op: "


@dataclass(frozen=True, slots=True)
class _Tensor:
    """One input or output of the graph: its place in an interpreter, and its TensorInfo message."""

    index: int
    info: Any


class TfLiteServable:
    """A TFLite model; at most as many runs at once as there are interpreters, others wait for one."""

    def __init__(self, content: bytes, *, interpreters: int, threads: int) -> None:
        """
        Read the signatures and build the first interpreter; more are built when they are needed.

        Args:
            content: The file.
            interpreters: How many there may be.
            threads: How many threads one may use.

        Raises:
            WireError: The model is damaged, or has ops that the interpreter has not.
        """
        self.batching_policy: BatchingPolicy | None = None
        self._content = content
        self._threads = threads
        # Tells how many interpreters may be taken, lying idle or still to be built.
        self._free = threading.Semaphore(interpreters)
        self._idle: list[Any] = []
        self._build_lock = threading.Lock()
        first = self._build()
        self._idle.append(first)
        inputs = _tensors(first.get_input_details())
        outputs = _tensors(first.get_output_details())
        self.signature_defs = _signature_defs(_read_signature_defs(content), inputs, outputs)
        self.signatures: Mapping[str, Signature] = {
            name: signatures.from_proto(name, self.signature_defs[name]) for name in sorted(self.signature_defs)
        }
        self._inputs, self._outputs = inputs, outputs

    def run(self, call: Call) -> dict[str, Array]:
        """
        Run one signature, with the graph's inputs resized to what was sent.

        Raises:
            InvalidArgument: A dtype is another than the model's, or a shape does not fit.
        """
        signature = self.signatures[call.signature]
        feeds = {}
        for alias, array in call.inputs.items():
            spec = signature.inputs[alias]
            if dtypes.from_numpy(array.dtype) is not spec.dtype:
                raise InvalidArgument(
                    f"Type mismatch: actual {dtypes.from_numpy(array.dtype).name} vs. expect {spec.dtype.name} "
                    f"for input {alias}"
                )
            if (spec.shape is not None and array.ndim > len(spec.shape)) or not array.size:
                # Kernels of TFLite write past their buffers for more axes than they were converted for, or no elements.
                raise InvalidArgument(
                    f"input {alias} has shape {list(array.shape)}; the TFLite model takes {signatures.format_shape(spec.shape)}, "
                    "of any sizes from 1 on, and no more axes"
                )
            feeds[self._inputs[spec.graph_name].index] = array
        with self._free:
            interpreter = self._take()
            # An interpreter that has refused a request is not asked again: nothing says in which state it is.
            values = _invoke(
                interpreter,
                feeds,
                {alias: self._outputs[signature.outputs[alias].graph_name].index for alias in call.outputs},
            )
            self._idle.append(interpreter)
        return values

    def run_together(self, calls: Sequence[Call]) -> list[dict[str, Array]]:
        """Run several signatures one after the other: an interpreter computes the whole graph each time anyhow."""
        return [self.run(call) for call in calls]

    def _take(self) -> Any:
        try:
            # Last in, first out: the one whose shapes are most likely to fit, and whose memory is warm.
            return self._idle.pop()
        except IndexError:
            return self._build()

    def _build(self) -> Any:
        # Changing the filters is not safe among threads; one at a time is enough.
        with self._build_lock, warnings.catch_warnings():
            # It would tell users that the class is to move to a package of its own, which is ours to know.
            warnings.simplefilter("ignore")
            try:
                interpreter = tf.lite.Interpreter(model_content=self._content, num_threads=self._threads)
                interpreter.allocate_tensors()
            except (ValueError, RuntimeError) as error:
                raise _build_error(error) from error
        return interpreter

    def close(self) -> None:
        """Free the interpreters."""
        self._idle.clear()


class TfLiteLoader:
    """Loads `model.tflite` of one version directory."""

    def __init__(self, directory: Path, options: LoadOptions) -> None:
        """Take note of what is to be loaded, and how."""
        self._path = directory / MODEL_FILE
        self._options = options

    def load(self) -> TfLiteServable:
        """
        Read the file and build an interpreter.

        Raises:
            WireError: The file cannot be read, is damaged, or needs ops that are not there; it names the file.
        """
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            raise NotFound(f"{self._path}: not there") from None
        config = config_pb2.ConfigProto.FromString(self._options.session_config)
        try:
            return TfLiteServable(
                content,
                interpreters=self._options.tflite_interpreters,
                threads=max(config.intra_op_parallelism_threads, 1),
            )
        except WireError as error:
            raise type(error)(f"{self._path}: {error.message}") from error


def _invoke(interpreter: Any, feeds: Mapping[int, Array], fetches: Mapping[str, int]) -> dict[str, Array]:
    current = {detail["index"]: tuple(detail["shape"]) for detail in interpreter.get_input_details()}
    try:
        resized = [index for index, array in feeds.items() if array.shape != current[index]]
        for index in resized:
            interpreter.resize_tensor_input(index, feeds[index].shape)
        if resized:
            interpreter.allocate_tensors()
        for index, array in feeds.items():
            interpreter.set_tensor(index, array)
        interpreter.invoke()
        return {alias: _as_array(interpreter.get_tensor(index)) for alias, index in fetches.items()}
    except (ValueError, RuntimeError) as error:
        shapes = ", ".join(str(list(array.shape)) for array in feeds.values())
        raise InvalidArgument(
            f"the TFLite interpreter refused inputs of shape {shapes}: {first_line(str(error))}"
        ) from error


def _as_array(value: Any) -> Array:
    array = np.asarray(value)
    return array.astype(object) if array.dtype.kind in "SU" else array


def _tensors(details: Sequence[Mapping[str, Any]]) -> dict[str, _Tensor]:
    tensors = {}
    for detail in details:
        dtype = np.dtype(detail["dtype"])
        data_type = dtypes.STRING if dtype.kind in "SUO" else dtypes.from_numpy(dtype)
        # A shape signature has -1 where any size goes; a graph without one says what sizes it was converted with.
        sizes = detail["shape_signature"] if len(detail["shape_signature"]) else detail["shape"]
        info = messages.TensorInfo(name=detail["name"], dtype=data_type.number)
        info.tensor_shape.SetInParent()
        for size in sizes:
            info.tensor_shape.dim.add(size=int(size))
        tensors[detail["name"]] = _Tensor(detail["index"], info)
    return tensors


def _signature_defs(declared: Mapping[str, Any], inputs: Mapping[str, _Tensor], outputs: Mapping[str, _Tensor]) -> Any:
    """
    Make the SignatureDef messages: names from *declared*, all else from the graph's tensors.

    Source: tensorflow_serving/servables/tensorflow/tflite_session.cc (Create).
    """
    made = messages.SignatureDefMap().signature_def
    if not declared:
        definition = made[_DEFAULT_SIGNATURE]
        definition.method_name = PREDICT
        for tensors, field in ((inputs, definition.inputs), (outputs, definition.outputs)):
            for name, tensor in tensors.items():
                field[name.removesuffix(":0")].CopyFrom(tensor.info)
        return made
    for key, wanted in declared.items():
        definition = made[key]
        definition.method_name = wanted.method_name
        for tensors, aliases, field in (
            (inputs, wanted.inputs, definition.inputs),
            (outputs, wanted.outputs, definition.outputs),
        ):
            for alias, info in aliases.items():
                # TensorFlow's names end in an output's number, those of TFLite need not.
                found = tensors.get(info.name) or tensors.get(info.name.partition(":")[0])
                if found is None:
                    raise Internal(f"signature {key} names the tensor {info.name}, which the graph does not have")
                field[alias].CopyFrom(found.info)
    return made


def _read_signature_defs(content: bytes) -> dict[str, Any]:
    """
    Read the flexbuffer map signature key -> serialized SignatureDef from the file's metadata; {} if there is none.

    Source: tensorflow/lite/tools/signature/signature_def_util.cc.
    """
    model = schema.Model.GetRootAs(content)
    for number in range(model.MetadataLength()):
        metadata = model.Metadata(number)
        if metadata.Name() != _SIGNATURES:
            continue
        try:
            found = flexbuffers.GetRoot(bytearray(model.Buffers(metadata.Buffer()).DataAsNumpy().tobytes())).AsMap
            return {
                key.AsKey: messages.SignatureDef.FromString(bytes(value.AsStringBytes))
                for key, value in zip(found.Keys, found.Values, strict=True)
            }
        except Exception as error:  # flexbuffers checks nothing, and fails as its arithmetic does
            raise InvalidArgument(f"Invalid SignatureDefs found in TfLite model: {error}") from error
    return {}


def _build_error(error: Exception) -> WireError:
    message = str(error)
    if _CUSTOM_OP in message:
        op = message.partition(_CUSTOM_OP)[2].splitlines()[0].rstrip(".")
        return Unimplemented(
            f"it needs the custom op {op}, which TensorFlow's TFLite interpreter does not have; convert the model with "
            "built-in or Select TensorFlow ops only, or serve the SavedModel without --prefer_tflite_model"
        )
    return DataLoss(f"not a TFLite model, or damaged: {first_line(message)}")
