"""GetModelMetadata: the signatures of a model, over gRPC and as JSON."""

import json
from collections.abc import Mapping
from typing import Any

import orjson
from google.protobuf import json_format
from google.protobuf.message import DecodeError

from slipway_wire import messages, model_spec, signatures
from slipway_wire.model_spec import ModelSpec
from slipway_wire.signatures import Signature
from slipway_wire.status import InvalidArgument

SIGNATURE_DEF = "signature_def"


def encode_request(model: str, *, version: int | None = None, label: str | None = None) -> bytes:
    """Write a GetModelMetadataRequest for the signatures, the one thing there is to ask for."""
    request = messages.GetModelMetadataRequest(
        model_spec=model_spec.to_proto(ModelSpec(model, version, label)), metadata_field=[SIGNATURE_DEF]
    )
    serialized: bytes = request.SerializeToString()
    return serialized


def decode_request(serialized: bytes) -> ModelSpec:
    """
    Read a GetModelMetadataRequest.

    Raises:
        InvalidArgument: If it is malformed, names no model, or asks for nothing or for anything but `signature_def`.
    """
    try:
        request = messages.GetModelMetadataRequest.FromString(serialized)
    except DecodeError as error:
        raise InvalidArgument("the message is not a GetModelMetadataRequest") from error
    spec = model_spec.from_request(request)
    if not request.metadata_field:
        raise InvalidArgument("GetModelMetadataRequest must specify at least one metadata_field")
    for field in request.metadata_field:
        if field != SIGNATURE_DEF:
            raise InvalidArgument(f"Metadata field {field} is not supported")
    return spec


def encode_response(spec: ModelSpec, definitions: Mapping[str, Any]) -> bytes:
    """
    Write a GetModelMetadataResponse.

    Args:
        spec: Name and version that would serve.
        definitions: Signature key -> SignatureDef message, e.g. `meta_graph.signature_def`.
    """
    response = messages.GetModelMetadataResponse(model_spec=model_spec.to_proto(spec))
    response.metadata[SIGNATURE_DEF].Pack(_signature_map(definitions))
    serialized: bytes = response.SerializeToString()
    return serialized


def encode_json(spec: ModelSpec, definitions: Mapping[str, Any]) -> bytes:
    """Write the body of `GET /v1/models/NAME/metadata`: every field, one space of indentation; see `encode_response`."""
    document = {
        "model_spec": _to_dict(model_spec.to_proto(spec)),
        "metadata": {SIGNATURE_DEF: _to_dict(_signature_map(definitions))},
    }
    return json.dumps(document, indent=1).encode()


def _to_dict(message: Any) -> dict[str, Any]:
    return json_format.MessageToDict(
        message,
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
        descriptor_pool=messages.POOL,
    )


def _signature_map(definitions: Mapping[str, Any]) -> Any:
    signature_map = messages.SignatureDefMap()
    for key in definitions:
        signature_map.signature_def[key].CopyFrom(definitions[key])
    return signature_map


def decode_response(serialized: bytes) -> tuple[ModelSpec, dict[str, Signature]]:
    """Read a GetModelMetadataResponse, or raise InvalidArgument."""
    try:
        response = messages.GetModelMetadataResponse.FromString(serialized)
        signature_map = messages.SignatureDefMap()
        if not response.metadata[SIGNATURE_DEF].Unpack(signature_map):
            raise InvalidArgument("the metadata holds no signatures")
    except DecodeError as error:
        raise InvalidArgument("the message is not a GetModelMetadataResponse") from error
    return model_spec.from_request(response), _read_map(signature_map)


def decode_json(body: bytes) -> tuple[ModelSpec, dict[str, Signature]]:
    """Read the body of an answer to `GET /v1/models/NAME/metadata`, or raise InvalidArgument."""
    try:
        document = orjson.loads(body)
        spec = json_format.ParseDict(document["model_spec"], messages.ModelSpec(), ignore_unknown_fields=True)
        signature_map = json_format.ParseDict(
            document["metadata"][SIGNATURE_DEF], messages.SignatureDefMap(), ignore_unknown_fields=True
        )
    except (orjson.JSONDecodeError, json_format.ParseError, KeyError, TypeError) as error:
        raise InvalidArgument("the body is not a model's metadata") from error
    return model_spec.from_proto(spec), _read_map(signature_map)


def _read_map(signature_map: Any) -> dict[str, Signature]:
    definitions = signature_map.signature_def
    return {key: signatures.from_proto(key, definitions[key]) for key in sorted(definitions)}
