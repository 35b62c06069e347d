"""PredictRequest and PredictResponse, as gRPC carries them: bytes <-> values."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError

from slipway_wire import messages, model_spec, protobuf, tensors
from slipway_wire.model_spec import ModelSpec
from slipway_wire.predict_forms import Form, Forms
from slipway_wire.status import InvalidArgument
from slipway_wire.tensors import Array

# Of all requests of this process: a server's are few, again and again.
_forms = Forms()

_REQUEST_SPEC, _REQUEST_INPUTS, _REQUEST_OUTPUT_FILTER = 1, 2, 3
_RESPONSE_OUTPUTS, _RESPONSE_SPEC = 1, 2

# Up to this size an output is copied at once; a view of a larger one saves a copy that is worth saving.
_COPIED_BYTES = 4096


# Not frozen: each request makes one, and a frozen one takes four times as long to make.
@dataclass(slots=True)
class PredictRequest:
    """
    What a caller wants computed.

    Attributes:
        spec: Model, version or label, signature.
        inputs: Input name -> array; strings as object arrays of bytes. Arrays may be read-only. Those of a decoded
            request are made when they are first looked at, which raises InvalidArgument
            (`tensor parsing error: <input>: <what>`) for a malformed one: TF Serving, too, finds the model first.
        output_filter: Outputs wanted, in the caller's order; empty means all.
    """

    spec: ModelSpec
    inputs: Mapping[str, Array]
    output_filter: tuple[str, ...] = ()


def encode_request(
    model: str,
    inputs: Mapping[str, npt.ArrayLike],
    *,
    version: int | None = None,
    label: str | None = None,
    signature_name: str = "",
    output_filter: Iterable[str] = (),
) -> bytes:
    """
    Write a PredictRequest, values as `tensor_content` (the form clients send).

    Args:
        model: Name of the servable.
        inputs: Input name -> values; their dtype goes out as it is, so float64 is not what a float input takes.
        version: Ask for this version, not for the one that serves.
        label: Ask for the version with this label.
        signature_name: Empty for the default.
        output_filter: Outputs wanted; empty for all.

    Raises:
        InvalidArgument: If TensorFlow has no type for the elements of an input.
    """
    spec = ModelSpec(model, version, label, signature_name)
    parts: list[protobuf.Chunk] = [protobuf.bytes_field(_REQUEST_SPEC, _spec_bytes(spec))]
    for name, values in inputs.items():
        parts += _entry(_REQUEST_INPUTS, name, tensors.as_array(values), as_content=True)
    parts += [protobuf.bytes_field(_REQUEST_OUTPUT_FILTER, name.encode()) for name in output_filter]
    return b"".join(parts)


def decode_request(serialized: bytes) -> PredictRequest:
    """
    Read a serialized PredictRequest.

    Raises:
        InvalidArgument: If the bytes are no PredictRequest, or the model is not named.
    """
    form = _forms.find(serialized)
    if form is not None:
        return PredictRequest(form.spec, form.arrays(serialized), form.output_filter)
    try:
        request = request_from_proto(messages.PredictRequest.FromString(serialized))
    except DecodeError as error:
        raise InvalidArgument("the message is not a PredictRequest") from error
    if _forms.is_worth_a_look(serialized):
        # Inputs that are malformed are told later, to whoever looks at them.
        with suppress(InvalidArgument):
            _forms.remember(serialized, request.spec, request.inputs, request.output_filter)
    return request


def find_form(serialized: bytes) -> Form | None:
    """Return the form of a serialized PredictRequest if it was decoded before, with other values or the same."""
    return _forms.find(serialized)


def request_from_proto(request: Any) -> PredictRequest:
    """Read a PredictRequest message; see `decode_request`."""
    return PredictRequest(
        spec=model_spec.from_request(request),
        inputs=_LazyArrays(request.inputs),
        output_filter=tuple(request.output_filter),
    )


def encode_response(
    spec: ModelSpec, outputs: Mapping[str, Array], *, as_content: bool = False, content_min_bytes: float = math.inf
) -> bytes:
    """
    Write a PredictResponse.

    Args:
        spec: The spec that served: with the version's number and the signature's name filled in.
        outputs: Output name -> array.
        as_content: Values as raw bytes in `tensor_content`; without it in the typed fields, as TF Serving
            does unless told `--enable_serialization_as_tensor_content`.
        content_min_bytes: Outputs of this size and more go into `tensor_content` all the same.
    """
    parts: list[protobuf.Chunk] = []
    for name, array in outputs.items():
        size = array.nbytes
        as_content_too = as_content or size >= content_min_bytes
        head = _plain_head(name, array.dtype, array.shape, as_content_too) if size <= _COPIED_BYTES else None
        if head is not None:
            parts += head, array.tobytes()
            continue
        parts += _entry(_RESPONSE_OUTPUTS, name, array, as_content=as_content_too)
    parts.append(_response_spec(spec))
    return b"".join(parts)


def encode_responses(
    spec: ModelSpec,
    outputs: Mapping[str, Array],
    sizes: Sequence[int],
    *,
    as_content: bool = False,
    content_min_bytes: float = math.inf,
) -> list[bytes] | None:
    """
    Write the PredictResponses of several requests at once.

    Args:
        spec: See `encode_response`.
        outputs: Output name -> array of shape [rows, …] that holds the rows of the requests, one behind the other.
        sizes: Rows of each request, >= 1.
        as_content: See `encode_response`.
        content_min_bytes: Likewise.

    Returns:
        What `encode_response` gives for each; None where that is not simply their bytes behind a head: strings, large outputs,
        types whose field holds varints.
    """
    written: list[list[bytes]] = []
    for name, array in outputs.items():
        (_, *inner), values, at = array.shape, array.tobytes(), 0
        row_bytes = len(values) // max(array.shape[0], 1)
        answers = []
        for size in sizes:
            size_bytes = size * row_bytes
            if size_bytes > _COPIED_BYTES:
                return None
            head = _plain_head(name, array.dtype, (size, *inner), as_content or size_bytes >= content_min_bytes)
            if head is None:
                return None
            answers.append(head + values[at : at + size_bytes])
            at += size_bytes
        written.append(answers)
    end = _response_spec(spec)
    if len(written) == 1:
        return [answer + end for answer in written[0]]
    if not written:
        return [end] * len(sizes)
    return [b"".join((*parts, end)) for parts in zip(*written, strict=True)]


def decode_response(serialized: bytes) -> tuple[ModelSpec, dict[str, Array]]:
    """
    Read a serialized PredictResponse.

    Returns:
        The spec that served, and output name -> array.

    Raises:
        InvalidArgument: If the bytes are no PredictResponse, or an output is malformed.
    """
    try:
        response = messages.PredictResponse.FromString(serialized)
    except DecodeError as error:
        raise InvalidArgument("the message is not a PredictResponse") from error
    return model_spec.from_request(response), dict(_LazyArrays(response.outputs))


class _LazyArrays(Mapping[str, Array]):
    """The arrays of a map of TensorProtos by name, in its order; each made once, when it is first asked for."""

    __slots__ = ("_arrays", "_protos")

    def __init__(self, protos: Any) -> None:
        self._protos = protos
        self._arrays: dict[str, Array] = {}

    def get(self, name: str, default: Any = None) -> Any:
        """Return the array, or *default* if there is none; the mixin's way would cost an exception."""
        return self[name] if name in self._protos else default

    def __getitem__(self, name: str) -> Array:
        array = self._arrays.get(name)
        if array is None:
            # Asking a protobuf map for a name it lacks would add it.
            if name not in self._protos:
                raise KeyError(name)
            try:
                array = self._arrays[name] = tensors.from_proto(self._protos[name])
            except InvalidArgument as error:
                raise InvalidArgument(f"tensor parsing error: {name}: {error.message}") from error
        return array

    def __iter__(self) -> Iterator[str]:
        # Protobuf's own order is another one in each process.
        return iter(sorted(self._protos))

    def __len__(self) -> int:
        return len(self._protos)

    def __contains__(self, name: object) -> bool:
        return name in self._protos


def _entry(field: int, name: str, array: Array, *, as_content: bool) -> list[protobuf.Chunk]:
    head, values, length = tensors.chunks(array, as_content=as_content)
    return [_entry_head(field, name, length), head, *values]


@lru_cache(maxsize=4096)
def _plain_head(name: str, dtype: "np.dtype[Any]", shape: tuple[int, ...], as_content: bool) -> bytes | None:
    """Everything of an output that stands in front of its values; None where those are not simply the array's bytes."""
    plain = tensors.plain_head(dtype, shape, as_content=as_content)
    if plain is None:
        return None
    head, length = plain
    return _entry_head(_RESPONSE_OUTPUTS, name, length) + head


@lru_cache(maxsize=4096)
def _entry_head(field: int, name: str, tensor_length: int) -> bytes:
    """Everything of a map entry that stands in front of its TensorProto."""
    key = protobuf.bytes_field(1, name.encode()) + protobuf.length_prefix(2, tensor_length)
    return protobuf.length_prefix(field, len(key) + tensor_length) + key


@lru_cache(maxsize=1024)
def _response_spec(spec: ModelSpec) -> bytes:
    return protobuf.bytes_field(_RESPONSE_SPEC, _spec_bytes(spec))


@lru_cache(maxsize=1024)
def _spec_bytes(spec: ModelSpec) -> bytes:
    serialized: bytes = model_spec.to_proto(spec).SerializeToString()
    return serialized
