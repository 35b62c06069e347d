"""All files that say how a model is called, as name -> bytes: the same contract and golden data, the same bytes."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from slipway.api import openapi
from slipway.api.calls import Call
from slipway.api.readme import readme
from slipway.api.snippets import Addresses, large_inputs, snippets
from slipway.contract import Contract

# A module that stands by itself: kept where our own checks look at it, given away as it is.
CLIENT = Path(__file__).with_name("grpc_client.py")


def api_files(contract: Contract, calls: Sequence[Call], *, version: int, addresses: Addresses) -> dict[str, bytes]:
    """
    Make every file.

    Args:
        contract: What the model promises.
        calls: A call of each signature, at least one.
        version: The version that the golden rows of *calls* belong to.
        addresses: Where programs send.
    """
    described = openapi.document(contract, calls, model=calls[0].model, version=version, address=addresses.rest)
    written = {call.signature: snippets(call, addresses) for call in calls}
    made = {
        "README.md": readme(contract, calls, written, version=version, addresses=addresses).encode(),
        "openapi.json": openapi.dump(described),
        CLIENT.name: CLIENT.read_bytes(),
    }
    for call in calls:
        made |= {snippet.file: snippet.text.encode() for snippet in written[call.signature]}
        made |= {name: _content(value) for name, value in large_inputs(call).items()}
        made |= _bodies(call)
    return dict(sorted(made.items()))


def _bodies(call: Call) -> dict[str, bytes]:
    name = call.signature
    bodies: Mapping[str, bytes | None] = {
        f"requests/{name}.row.json": call.row_request(),
        f"requests/{name}.columnar.json": call.columnar_request(),
        f"requests/{name}.pb": call.grpc_request(),
        f"requests/{name}.grpcurl.json": call.grpcurl_request(),
        f"answers/{name}.row.json": call.row_answer(),
        f"answers/{name}.columnar.json": call.columnar_answer(),
    }
    return {file: body for file, body in bodies.items() if body is not None}


def _content(value: "np.ndarray[tuple[int, ...], np.dtype[np.generic]] | bytes") -> bytes:
    if isinstance(value, bytes):
        return value
    content = io.BytesIO()
    np.lib.format.write_array(content, np.ascontiguousarray(value), allow_pickle=False)
    return content.getvalue()
