"""
Start the image for real and prove that it serves: every version answers as the checkpoint did, over REST and gRPC.

The engine is found by trial. Golden requests go to each version over both protocols; then the server is stopped
with SIGTERM and must exit with 0.
"""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from slipway import clients, comparable, files, golden, server_metrics
from slipway.arguments import by_version, section
from slipway.clients import Client, GrpcClient, RestClient
from slipway.contract import DEFAULT_SIGNATURE, Contract, read_contract
from slipway.errors import ContractViolation, ServerError, SettingsError, SourceError
from slipway.golden import Golden
from slipway.oci import serving_config
from slipway.oci.layout import read_layer_files
from slipway.parity import accuracy, compare
from slipway.records import CheckpointRecord, GoldenAnswer, ImageRecord, LaunchRecord, Protocol
from slipway.servers import RunningServer, ServerSpec, running_server
from slipway.settings import LaunchSettings
from slipway_wire import tfrecord
from slipway_wire.status import DataLoss
from slipway_wire.warmup_log import WARMUP_FILE

Array = npt.NDArray[Any]
_NAMES: dict[Protocol, str] = {"rest": "REST", "grpc": "gRPC"}
_MOST_ROWS = 32
_WARMUP_FLAG = "--enable_model_warmup="


def add_arguments(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--model", required=True, help="name of the model")
    parser.add_argument("--settings", required=True, help="section `launch` of the settings, as JSON")
    parser.add_argument("--image-layout", required=True, type=Path, help="OCI layout of the image")
    parser.add_argument("--image-record", required=True, type=Path, help="record of the image")
    parser.add_argument("--servable-root", required=True, type=Path, help="base path, for a server without container")
    parser.add_argument("--contract", required=True, type=Path, help="the model's contract")
    parser.add_argument("--golden", required=True, nargs="+", metavar="V=FILE", help="golden data of each version")
    parser.add_argument("--checkpoint-record", required=True, nargs="+", metavar="V=FILE", help="record they belong to")
    parser.add_argument("--out", required=True, type=Path, help="record to write")


def run(arguments: Namespace) -> None:
    """Launch, compare, stop, and write the record."""
    image = ImageRecord.read(arguments.image_record)
    spec = ServerSpec(
        model=arguments.model,
        image_layout=arguments.image_layout,
        image=image,
        servable_root=arguments.servable_root,
        settings=section(LaunchSettings, arguments.settings, "launch"),
    )
    answers = read_golden(by_version(arguments.golden), by_version(arguments.checkpoint_record), image.versions)
    contract = read_contract(arguments.contract)
    record = launch(spec, image, contract, answers, log=arguments.out.with_suffix(".server.log"))
    record.write(arguments.out)


def read_golden(paths: Mapping[int, Path], records: Mapping[int, Path], versions: list[int]) -> dict[int, Golden]:
    """
    Read the golden data of every version in the image.

    Raises:
        SettingsError: If a version has none.
        SourceError: If data are not those that the checkpoint's record names.
    """
    if missing := [v for v in versions if v not in paths or v not in records]:
        raise SettingsError(
            f"version {missing[0]}: --golden and --checkpoint-record must name every version of the image."
        )
    for version in versions:
        expected = CheckpointRecord.read(records[version]).golden_digest
        if paths[version].exists() and (found := files.sha256_file(paths[version])) != expected:
            msg = (
                f"{paths[version]}: expected {expected} ({records[version]}), found {found}. Delete both and run again."
            )
            raise SourceError(msg)
    return {version: golden.read(paths[version]) for version in versions}


def launch(
    spec: ServerSpec, image: ImageRecord, contract: Contract, answers: Mapping[int, Golden], *, log: Path
) -> LaunchRecord:
    """
    Run the server, compare its answers with *answers*, stop it.

    Args:
        spec: The server.
        image: What the image stage recorded.
        contract: Gives the signature and how close answers must come.
        answers: Version -> golden data; of versions that are not served, it goes unused.
        log: Gets what the server writes.

    Raises:
        ContractViolation: If an answer is wrong; names version, protocol, output, row, expected and found.
        ServerError: If the server does not start, does not answer, or does not stop as it should.
        EngineError: If the engine that the settings name does not work here.
    """
    sizes = request_sizes(spec, contract)
    answers = {version: answers[version] for version in spec.versions()}
    with running_server(spec, log=log) as server:
        if not server.engine.isolated:
            _warn(server)
        replayed = server_metrics.replayed(server_metrics.scrape(server.host, server.rest_port), spec.model)
        if warms_up(spec):
            check_replayed(spec, replayed)
        checked = list(_check_answers(server, spec.model, contract, answers, sizes))
        server.check_alive()
        code, stop_s = server.stop()
    if code != 0:
        patience = spec.settings.stop_timeout_s
        how = (
            f"did not stop within {patience:g} s of SIGTERM and was killed"
            if stop_s > patience
            else "was stopped with SIGTERM"
        )
        raise ServerError(f"The server {how}: expected exit code 0, found {code}. Its log: {log}")
    return LaunchRecord(
        model=spec.model,
        image_id=image.image_id,
        engine=server.engine,
        ready_s=server.ready_s,
        versions=server.versions,
        answers=checked,
        replayed=replayed,
        stop_s=stop_s,
        exit_code=code,
    )


def warms_up(spec: ServerSpec) -> bool:
    """Say whether the server replays warm-up records: it does unless the image's flags turn that off."""
    if spec.image is None or spec.image_layout is None:
        return True
    config = read_layer_files(spec.image_layout, spec.image, "config", serving_config.DIRECTORY)
    flags = config[serving_config.FLAGS].decode().split()
    chosen = [flag.removeprefix(_WARMUP_FLAG).lower() for flag in flags if flag.startswith(_WARMUP_FLAG)]
    return not chosen or chosen[-1] not in ("false", "0")


def check_replayed(spec: ServerSpec, replayed: Mapping[int, int]) -> None:
    """
    Compare what the server replayed before it was ready with what its versions bring.

    Raises:
        ServerError: If records of a version were passed over: its first requests would be slow.
        SourceError: If the records on disk are damaged.
    """
    for version in spec.versions():
        brought = _count_records(spec.servable_root / str(version) / WARMUP_FILE)
        if (found := replayed.get(version, 0)) != brought:
            raise ServerError(
                f"{spec.model} version {version}: expected {brought} warm-up records replayed before it was AVAILABLE, "
                f"found {found} by the server's own count."
            )


def _count_records(path: Path) -> int:
    if not path.is_file():
        return 0
    try:
        with path.open("rb") as stream:
            return sum(1 for _ in tfrecord.read(stream))
    except DataLoss as error:
        raise SourceError(f"{path}: {error.message}. Run `slipway warmup` again.") from error


def request_sizes(spec: ServerSpec, contract: Contract) -> list[int]:
    """List how many rows the golden requests have, in turn: those the contract tries, as far as the server takes them."""
    most = _MOST_ROWS
    if spec.image is not None and spec.image_layout is not None:
        config = read_layer_files(spec.image_layout, spec.image, "config", serving_config.DIRECTORY)
        most = min(most, serving_config.max_batch_size(config) or most)
    return [size for size in contract.batch_sizes if 0 < size <= most] or [1]


def golden_sizes(contract: Contract, rows: int, sizes: list[int]) -> list[int]:
    """Choose how many of *rows* golden rows each request has: *sizes* in turn, or as the checkpoint answered them."""
    if contract.rows_are_apart(contract.golden.signature):
        return sizes
    return [part.stop - part.start for part in comparable.parts(contract, rows)]


def _check_answers(
    server: RunningServer, model: str, contract: Contract, answers: Mapping[int, Golden], sizes: list[int]
) -> Iterator[GoldenAnswer]:
    own = contract.golden.signature
    name = "" if own == DEFAULT_SIGNATURE else own
    with (
        RestClient(server.host, server.rest_port, model, contract.default, name) as rest,
        GrpcClient(server.host, server.grpc_port, model, name) as grpc,
    ):
        by_protocol: dict[Protocol, Client] = {"rest": rest, "grpc": grpc}
        for protocol, client in by_protocol.items():
            for version, expected in answers.items():
                asked = golden_sizes(contract, expected.rows, sizes)
                try:
                    found = clients.predict_in_parts(client, version, expected.inputs, asked)
                except ServerError:
                    server.check_alive()
                    raise
                yield check_answer(model, version, protocol, contract, expected, found)


def check_answer(
    model: str, version: int, protocol: Protocol, contract: Contract, expected: Golden, found: Mapping[str, Array]
) -> GoldenAnswer:
    """
    Compare the answers of one version over one protocol.

    Raises:
        ContractViolation: With one line for each output that is missing or departs.
    """
    subject = f"{model} version {version} over {_NAMES[protocol]}"
    parities, faults = [], []
    for output, values in expected.outputs.items():
        if output not in contract.default.outputs:
            continue  # the model's own, which its signature does not give
        if output not in found:
            faults.append(f"{subject}: expected output {output}, found only {', '.join(sorted(found)) or 'none'}")
            continue
        path = f"checkpoint→{_NAMES[protocol]}"
        own = contract.golden.signature
        atol, rtol = contract.tolerance(own, output)
        why = comparable.why_not(contract, own)
        parity = compare(path, own, output, values, found[output], atol=atol, rtol=rtol, why_not=why)
        parities.append(parity)
        if not parity.ok:
            near = comparable.tolerance(contract, own, output, why)
            what = near.difference(values, found[output]) if why else difference(values, found[output], atol, rtol)
            faults.append(f"{subject}: {output}: {what}")
    if faults:
        raise ContractViolation("\n".join(faults))
    share = None
    label = contract.golden.label
    if label is not None and expected.labels is not None:
        share = accuracy(found[label], expected.labels)
    return GoldenAnswer(protocol=protocol, version=version, parity=parities, accuracy=share)


def difference(expected: Array, found: Array, atol: float, rtol: float) -> str:
    """Say where *found* departs most from *expected*: `row 3: expected …, found …`."""
    if expected.shape != found.shape:
        return f"expected shape {list(expected.shape)}, found {list(found.shape)}"
    if expected.dtype.kind in "fiu" and found.dtype.kind in "fiu":
        gap = np.abs(found.astype(np.float64) - expected.astype(np.float64)) - rtol * np.abs(expected)
        worst = int(np.argmax(np.where(np.isnan(gap), np.inf, gap)))
        tolerance = f" ± {atol:g} + {rtol:g}·|answer|" if expected.dtype.kind == "f" else ""
    else:
        worst, tolerance = int(np.argmax(expected.ravel() != found.ravel())), ""
    place = [int(index) for index in np.unravel_index(worst, expected.shape)]
    inner = f"[{', '.join(map(str, place[1:]))}]" if place[1:] else ""
    return f"row {place[0]}{inner}: expected {expected.flat[worst]}{tolerance}, found {found.flat[worst]}"


def _warn(server: RunningServer) -> None:
    lines = [
        "WARNING: no container engine runs the image here; the server runs as a plain local process, without isolation.",
        "         The report will say so. Why not in a container:",
        *(f"           {name}: {reason}" for name, reason in server.engine.rejected.items()),
    ]
    sys.stderr.write("\n".join(lines) + "\n")
