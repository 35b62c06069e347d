"""Server reflection: which services there are, and the files that declare their messages."""

from collections.abc import Iterable
from typing import Any

from google.protobuf import descriptor_pb2
from google.protobuf.message import DecodeError

from slipway_wire import messages
from slipway_wire.status import Code, InvalidArgument


def answer(request: bytes, services: Iterable[str]) -> bytes:
    """
    Answer one ServerReflectionRequest, of v1 or v1alpha, with a ServerReflectionResponse.

    The files are ours, cut down and with names of our own (see server/protos); packages, messages and services have
    upstream's names. What we do not have is told in the response, as the protocol wants it, and ends no stream.

    Args:
        request: The serialized message.
        services: Full names of what is served.

    Raises:
        InvalidArgument: The bytes are no such message.

    Source: https://github.com/grpc/grpc/blob/master/doc/server-reflection.md.
    """
    try:
        asked = messages.ServerReflectionRequest.FromString(request)
    except DecodeError as error:
        raise InvalidArgument("the message is not a ServerReflectionRequest") from error
    response = messages.ServerReflectionResponse(valid_host=asked.host, original_request=asked)
    kind = asked.WhichOneof("message_request")
    try:
        if kind == "list_services":
            response.list_services_response.SetInParent()
            for name in sorted(services):
                response.list_services_response.service.add(name=name)
        elif kind == "file_by_filename":
            _add_files(response, messages.POOL.FindFileByName(asked.file_by_filename))
        elif kind == "file_containing_symbol":
            _add_files(response, _file_containing(asked.file_containing_symbol))
        elif kind == "file_containing_extension":
            extension = asked.file_containing_extension
            containing = messages.POOL.FindMessageTypeByName(extension.containing_type)
            found = messages.POOL.FindExtensionByNumber(containing, extension.extension_number)
            _add_files(response, messages.POOL.FindFileContainingSymbol(found.full_name))
        elif kind == "all_extension_numbers_of_type":
            extended = messages.POOL.FindMessageTypeByName(asked.all_extension_numbers_of_type)
            response.all_extension_numbers_response.base_type_name = extended.full_name
            response.all_extension_numbers_response.extension_number.extend(
                sorted(extension.number for extension in messages.POOL.FindAllExtensions(extended))
            )
        else:
            _refuse(response, Code.INVALID_ARGUMENT, "nothing was asked for")
    except KeyError:
        _refuse(response, Code.NOT_FOUND, f"there is no such {kind}")
    serialized: bytes = response.SerializeToString()
    return serialized


def _file_containing(symbol: str) -> Any:
    try:
        return messages.POOL.FindFileContainingSymbol(symbol)
    except KeyError:
        # Which does not look for methods.
        return messages.POOL.FindMethodByName(symbol).containing_service.file


def _add_files(response: Any, file: Any) -> None:
    """Add *file* and, after it, all that it imports, each after those that import it."""
    files: dict[str, Any] = {}

    def visit(one: Any) -> None:
        if one.name not in files:
            for dependency in one.dependencies:
                visit(dependency)
            files[one.name] = one

    visit(file)
    for one in reversed(files.values()):
        proto = descriptor_pb2.FileDescriptorProto()
        one.CopyToProto(proto)
        response.file_descriptor_response.file_descriptor_proto.append(proto.SerializeToString())


def _refuse(response: Any, code: Code, message: str) -> None:
    response.error_response.error_code = code
    response.error_response.error_message = message
