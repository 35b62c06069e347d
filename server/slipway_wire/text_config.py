"""Configuration files in protobuf's text format: ModelServerConfig, BatchingParameters, MonitoringConfig, SSLConfig."""

from typing import Any

from google.protobuf import text_format

from slipway_wire import messages
from slipway_wire.status import InvalidArgument


def parse(message_class: Any, text: bytes | str) -> Any:
    """
    Read *text* as a message, e.g. `parse(messages.ModelServerConfig, text)`.

    Raises:
        InvalidArgument: `Error parsing text-format <message>: <line>:<column>: <what>`, the line protobuf logs and
            that scripts look for; lines and columns count from 1.
    """
    name = message_class.DESCRIPTOR.full_name
    try:
        decoded = text.decode() if isinstance(text, bytes) else text
    except UnicodeDecodeError as error:
        line = bytes(error.object).count(b"\n", 0, error.start) + 1
        raise InvalidArgument(f"Error parsing text-format {name}: {line}:1: not UTF-8 text") from error
    try:
        return text_format.Parse(decoded, message_class(), descriptor_pool=messages.POOL)
    except text_format.ParseError as error:
        line, column = error.GetLine() or 1, error.GetColumn() or 1
        what = str(error).removeprefix(f"{line}:{column} : ")
        raise InvalidArgument(f"Error parsing text-format {name}: {line}:{column}: {what}") from error
