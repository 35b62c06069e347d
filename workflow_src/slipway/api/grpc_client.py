"""
A client of TensorFlow Serving, and of every server with its interface, over gRPC and without TensorFlow.

One file to copy into a project; `pip install grpcio numpy protobuf` is all that it needs:

    with Client("localhost:8500", "digits") as client:
        outputs = client.predict({"image": image})

A call that fails raises grpc.RpcError, whose code() and details() are the server's.
"""

import base64
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import grpc
import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2

# The messages of tensorflow_serving/apis that calls need, as protoc compiles them (a FileDescriptorSet, compressed).
# They live in a pool of their own, so that TensorFlow and tensorflow-serving-api may be imported beside them.
_DESCRIPTORS = """
eNrFVc1yG0UQZrWSpe2VbGVwiKKQYG9IlXOInJIp44IUpJzEBVT+ahxyVa2kkbzl1a7YHzvmyIErHDnwIPAoHHgHHoGentnV6oekKFzFbaf7+7r76+np
hT8taCYiiMNo5IfnnWkUJiGDmcX5xYDmKzoen7hT8ZIAXTCH3qRV2jJ37O5WpxBgEdp57E24BLNtqKfBaRCeB73IDU5b5paxU+O2tnE0te+BiXDGoBx7
34uWgQiT07e0Be5EYEpjx+L07fxaBlvlU1VtQmWYXEwVscLVgX0JdVVfL5ZVUQS7++HbiuZ2MrOwO7B+JqLYC4NekE76IqLSK7yhrc/JKGE6zyAM8Ctp
lRFW5w1lfaSM7AZYmNNNemeu36pgA0u8RobXrs9uAgzDtO8L8q6h1+CWskj3Nah6gWJW0Vfha3jUvDiJvGBMvhr66txSFunG1seDcDL1xRsCWJTWzmwS
gmVhrP1PyA/oN3mNDNJ5HWr9MPTJZ6OvxqvyrEMPi6HrVLM9LIRG9onrj8jdoLKr8qzrTjHLXpecTXQ2uKUsBbeu6gq6y8qtykI3de6A3Iy6rZp7gG5n
G6zDi0TET704kbOBoFTOhmyOOkjIkcQvQ0oFyNcy4TLEzCC/G1A9Em6SRoLtA/Rl0p6PeBpEu3u1OGt5SV+9x61+Xt++1qJ4pWVeXqfkjfKikac6RDxz
mZcXL3ledjhcg/KpFwzl867p2mP2OVRH6psE2t3tuQo0LPt4EiTRBc8Y7RdQLzpYE8xTcUEtsLj8ZHez7il5768Irlv6WenAcLCaJ29cOUbsPtR0mlj3
dHNVZTxH9ddok+3BH+vQmiF7sYjO8FHoPccKMbSnfWschmNf7BKin452zyN3OsWXrjjtpW3p/GaA9SwcCv94Kgb5ojJmi4p9ClW9K7T0Gx2VpZNlUdf0
WmrHe8rQuFOyJdPz3b7waaVYiKhr81Nplasn9sYBSe9RdpOyN3LrczQeNmeLbHASegPh/FSC9ZeRGHqDhIvvUoED9QBgIsX0YlSjm32zs9yoTi6ZW5Nc
/RHgSpqmSaz/DZ1VzPmMKF0S1DRpNrsNjTBN8LM38vyEVq6JgurKeES2Nge7wF0xcPfmB+7a8s5X674wdH8ZsJHXF0/DIBbsG6iqvLF+FvffqkqxOi8U
Rb8SHWChvaV/1972MdSLYS9H8hdg63dGG2UXakIdM7lzD1VDeQ5yvoUKXQN7DHVtLG6/j1apKyTEabbF7Jhvpj2oPPLdOJZLVw2/kqkO0or/r0gJxW1N
B+cINojkjbyBm+Ckx2wPqgNpyuVcX1UQsXiGdARszsfBa039hD2DjcF8fB309j8GnUH5Itf50YCri3ku4xnuQoUekp6ClYrpzrjCyd/AB0uC1fQ/hLWI
xOsqdt6tVDWLa95/m3nHAeBijKFoIxb+wMbsJ/0KmjOMvqqHYEe5LbumW6vSFqhFivODAVeKYf+Xm/nZADanTd3Kg4Vb+fgdwi7xRrJ/698CPNsJ
"""


def _load_messages() -> Any:
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    for file in descriptor_pb2.FileDescriptorSet.FromString(zlib.decompress(base64.b64decode(_DESCRIPTORS))).file:
        pool.AddSerializedFile(file.SerializeToString())
    return lambda name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"tensorflow.{name}"))


_message = _load_messages()
TensorProto = _message("TensorProto")
Example = _message("Example")
PredictRequest = _message("serving.PredictRequest")
PredictResponse = _message("serving.PredictResponse")
ClassificationRequest = _message("serving.ClassificationRequest")
ClassificationResponse = _message("serving.ClassificationResponse")
RegressionRequest = _message("serving.RegressionRequest")
RegressionResponse = _message("serving.RegressionResponse")

# tensorflow.DataType -> numpy's dtype, and the field of TensorProto that holds such values.
_STRING = 7
_TYPES = {
    1: ("<f4", "float_val"),
    2: ("<f8", "double_val"),
    3: ("<i4", "int_val"),
    4: ("u1", "int_val"),
    5: ("<i2", "int_val"),
    6: ("i1", "int_val"),
    _STRING: ("O", "string_val"),
    9: ("<i8", "int64_val"),
    10: ("?", "bool_val"),
    17: ("<u2", "int_val"),
    19: ("<f2", "half_val"),
    22: ("<u4", "uint32_val"),
    23: ("<u8", "uint64_val"),
}
_NUMBERS = {np.dtype(dtype): number for number, (dtype, _) in _TYPES.items()}


class Client:
    """Calls one model. Threads may share it; use it as a context manager."""

    def __init__(
        self,
        target: str,
        model: str,
        *,
        version: int | None = None,
        label: str | None = None,
        timeout_s: float = 5.0,
        channel: grpc.Channel | None = None,
    ) -> None:
        """
        Say whom to call.

        Args:
            target: `host:port` of the server's gRPC port.
            model: Name of the model.
            version: Of the model; None for the one that the server chooses, which is the newest.
            label: A version's label such as `canary`, in place of *version*.
            timeout_s: After so many seconds a call fails with DEADLINE_EXCEEDED.
            channel: In place of *target*, such as `grpc.secure_channel(…)` for TLS.
        """
        unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self._channel = channel or grpc.insecure_channel(target, options=unlimited)
        self._model, self._version, self._label, self._timeout_s = model, version, label, timeout_s
        self._predict = self._method("Predict", PredictRequest, _outputs)
        self._classify = self._method("Classify", ClassificationRequest, _classes)
        self._regress = self._method("Regress", RegressionRequest, _values)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def predict(
        self, inputs: Mapping[str, Any], *, signature: str = "", outputs: Iterable[str] = ()
    ) -> dict[str, np.ndarray[Any, Any]]:
        """
        Compute outputs and wait for them.

        Args:
            inputs: Name -> array of shape [rows, …], in the model's own dtype (a list of floats is float64 to numpy);
                strings as bytes or str.
            signature: Name of the signature; empty for serving_default.
            outputs: The outputs to send back; empty for all.

        Returns:
            Output name -> array; strings as bytes.
        """
        found: dict[str, np.ndarray[Any, Any]] = self._predict(
            self._predict_request(inputs, signature, outputs), timeout=self._timeout_s
        )
        return found

    def predict_future(self, inputs: Mapping[str, Any], *, signature: str = "", outputs: Iterable[str] = ()) -> Any:
        """Compute outputs meanwhile; `.result()` of the grpc.Future waits for what `predict` gives."""
        return self._predict.future(self._predict_request(inputs, signature, outputs), timeout=self._timeout_s)

    def classify(self, examples: Sequence[Any], *, signature: str) -> list[list[tuple[str, float]]]:
        """Give (label, score) of every class, for each of *examples* (see `example`)."""
        request = self._examples_request(ClassificationRequest(), examples, signature)
        found: list[list[tuple[str, float]]] = self._classify(request, timeout=self._timeout_s)
        return found

    def regress(self, examples: Sequence[Any], *, signature: str) -> np.ndarray[Any, Any]:
        """Give one number for each of *examples* (see `example`), as float32 [rows]."""
        request = self._examples_request(RegressionRequest(), examples, signature)
        found: np.ndarray[Any, Any] = self._regress(request, timeout=self._timeout_s)
        return found

    def _method(self, name: str, request: Any, decode: Any) -> Any:
        return self._channel.unary_unary(
            f"/tensorflow.serving.PredictionService/{name}",
            request_serializer=request.SerializeToString,
            response_deserializer=decode,
        )

    def _predict_request(self, inputs: Mapping[str, Any], signature: str, outputs: Iterable[str]) -> Any:
        request = PredictRequest(output_filter=outputs)
        self._name(request.model_spec, signature)
        for name, values in inputs.items():
            request.inputs[name].CopyFrom(to_tensor(values))
        return request

    def _examples_request(self, request: Any, examples: Sequence[Any], signature: str) -> Any:
        self._name(request.model_spec, signature)
        request.input.example_list.examples.extend(examples)
        return request

    def _name(self, spec: Any, signature: str) -> None:
        spec.name, spec.signature_name = self._model, signature
        if self._version is not None:
            spec.version.value = self._version
        elif self._label is not None:
            spec.version_label = self._label


def example(features: Mapping[str, Any]) -> Any:
    """Make a tf.Example: feature name -> a number, bytes, str, or several of one kind (any shape; it is flattened)."""
    made = Example()
    for name, values in features.items():
        array = np.asarray(values)
        feature = made.features.feature[name]
        if array.dtype.kind == "f":
            feature.float_list.value.extend(array.ravel().tolist())
        elif array.dtype.kind in "biu":
            feature.int64_list.value.extend(map(int, array.ravel().tolist()))
        else:
            feature.bytes_list.value.extend(map(_bytes, np.asarray(values, object).ravel().tolist()))
    return made


def to_tensor(values: Any) -> Any:
    """Make the TensorProto of an array."""
    array = np.asarray(values)
    if array.dtype.kind in "OSU":
        # Once more from the start: numpy's own strings would lose zero bytes at their ends.
        array = np.asarray(values, object)
        proto = TensorProto(dtype=_STRING, string_val=map(_bytes, array.ravel().tolist()))
    else:
        array = np.asarray(array, array.dtype.newbyteorder("<"))
        proto = TensorProto(dtype=_NUMBERS[array.dtype], tensor_content=array.tobytes())
    for size in array.shape:
        proto.tensor_shape.dim.add().size = size
    return proto


def to_array(proto: Any) -> np.ndarray[Any, Any]:
    """Read a TensorProto; where values are missing, the last one is repeated."""
    shape = [dim.size for dim in proto.tensor_shape.dim]
    dtype, field = _TYPES[proto.dtype]
    if proto.tensor_content:
        return np.frombuffer(proto.tensor_content, dtype).reshape(shape)
    given = list(getattr(proto, field))
    # The numbers of half_val are the bits of each value.
    values = np.array(given, np.uint16).view(dtype) if field == "half_val" else np.array(given, dtype)
    wanted = int(np.prod(shape))
    if not given:
        return np.full(shape, b"" if dtype == "O" else 0, dtype)
    return np.concatenate([values[:wanted], np.repeat(values[-1:], max(wanted - len(values), 0))]).reshape(shape)


def _bytes(value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else bytes(value)


def _outputs(answer: bytes) -> dict[str, np.ndarray[Any, Any]]:
    return {name: to_array(proto) for name, proto in PredictResponse.FromString(answer).outputs.items()}


def _classes(answer: bytes) -> list[list[tuple[str, float]]]:
    found = ClassificationResponse.FromString(answer).result.classifications
    return [[(one.label, one.score) for one in row.classes] for row in found]


def _values(answer: bytes) -> np.ndarray[Any, Any]:
    found = RegressionResponse.FromString(answer).result.regressions
    return np.array([one.value for one in found], np.float32)
