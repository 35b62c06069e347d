"""Write how a model is called: OpenAPI, requests and answers in every form, and programs ready to paste."""

import argparse
from pathlib import Path

from slipway import files, golden
from slipway.api.calls import calls
from slipway.api.content import api_files
from slipway.api.snippets import Addresses, snippets
from slipway.contract import read_contract
from slipway.errors import SettingsError
from slipway.payloads import chosen_signature
from slipway.records import ApiRecord, SnippetRecord, TreeManifest

_HERE = Addresses()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the stage reads and writes."""
    parser.add_argument("--model", required=True, help="name of the model")
    parser.add_argument("--version", type=int, required=True, help="number of the version that golden rows belong to")
    parser.add_argument("--contract", type=Path, required=True, help="the model's contract (YAML)")
    parser.add_argument("--golden", type=Path, required=True, help="golden rows and answers (.npz)")
    # Without a value where the settings name none.
    parser.add_argument(
        "--signature", nargs="?", help="the signature that the report shows; without it the one that a load would call"
    )
    parser.add_argument("--rest-address", default=_HERE.rest, metavar="HOST:PORT", help="where programs send")
    parser.add_argument("--grpc-address", default=_HERE.grpc, metavar="HOST:PORT", help="where programs send")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="gets all files")
    parser.add_argument("--record", type=Path, required=True, metavar="FILE", help="gets what the report shows (JSON)")


def run(arguments: argparse.Namespace) -> None:
    """Write the files, then the record."""
    contract = read_contract(arguments.contract)
    if arguments.signature and arguments.signature not in contract.signatures:
        there = ", ".join(contract.signatures)
        raise SettingsError(f"--signature: no signature {arguments.signature} in the contract; there are: {there}")
    signature = chosen_signature(contract, arguments.signature or None)
    addresses = Addresses(arguments.rest_address, arguments.grpc_address)
    called = calls(contract, golden.read(arguments.golden), arguments.model)
    content = api_files(contract, called, version=arguments.version, addresses=addresses)
    with files.new_directory(arguments.out) as directory:
        for name, data in content.items():
            path = directory / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
    (shown,) = (call for call in called if call.signature == signature)
    ApiRecord(
        model=arguments.model,
        version=arguments.version,
        signature=signature,
        snippets=[
            SnippetRecord(title=snippet.title, file=snippet.file, text=snippet.text)
            for snippet in snippets(shown, addresses)
        ],
        tree=TreeManifest.of(arguments.out),
    ).write(arguments.record)
