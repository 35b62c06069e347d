"""The README of a model's API: what to send, in programs that run as they stand, and what comes back."""

from collections.abc import Mapping, Sequence

from slipway.api.calls import Call
from slipway.api.snippets import Addresses, Snippet
from slipway.contract import Contract
from slipway.records import TensorRecord

_MOST_ANSWER_BYTES = 1_000

_FILES = """\
Every program below is a file beside this page: run it here, with the server on the ports that it names.
`grpc_client.py` is all that Python needs for gRPC besides `pip install grpcio numpy protobuf`; copy it into your
project. `openapi.json` describes the REST API for tools. `requests/` and `answers/` hold the same golden row in
every form, and what the model answered to it before it was exported."""
_VERSIONS = """\
Without more words the newest version answers. `…/versions/2:predict` or `…/labels/canary:predict` ask for another
one, and so do `Client(…, version=2)` and `Client(…, label="canary")`."""


def readme(
    contract: Contract,
    calls: Sequence[Call],
    written: Mapping[str, Sequence[Snippet]],
    *,
    version: int,
    addresses: Addresses,
) -> str:
    """
    Write it as Markdown.

    Args:
        contract: What the model promises.
        calls: A call of each signature.
        written: Signature -> its programs.
        version: The version whose golden answers are shown.
        addresses: Where the programs send.
    """
    model = calls[0].model
    parts = [
        f"# How to call {model}",
        contract.doc,
        _FILES,
        _VERSIONS,
    ]
    for call in calls:
        parts += _signature(contract, call, written[call.signature], version, addresses)
    return "\n\n".join(part for part in parts if part) + "\n"


def _signature(
    contract: Contract, call: Call, written: Sequence[Snippet], version: int, addresses: Addresses
) -> list[str]:
    name = call.signature
    (record,) = (record for record in contract.signature_records() if record.name == name)
    parts = [
        f"## {name} ({call.method})",
        contract.signatures[name].doc,
        _table("Input", record.inputs),
        _table("Output", record.outputs),
    ]
    for snippet in written:
        parts += [f"{snippet.title} (`{snippet.file}`):", f"```{snippet.language}\n{snippet.text.rstrip()}\n```"]
    parts += [
        "With grpcurl, where the server has reflection:",
        f"```bash\ngrpcurl -plaintext -d @ {addresses.grpc} {call.grpc_method} < requests/{name}.grpcurl.json\n```",
    ]
    answer = call.row_answer()
    if answer is not None and len(answer) <= _MOST_ANSWER_BYTES:
        parts += [f"The answer of version {version} over REST:", f"```json\n{answer.decode()}\n```"]
    return parts


def _table(what: str, tensors: Sequence[TensorRecord]) -> str:
    lines = [f"| {what} | dtype | shape | |", "|---|---|---|---|"]
    for tensor in tensors:
        shape = ", ".join("?" if size is None else str(size) for size in tensor.shape)
        lines.append(f"| `{tensor.name}` | {tensor.dtype} | [{shape}] | {tensor.note} |")
    return "\n".join(lines)
