"""
Write a SavedModel's signatures as StableHLO, which our server runs without TensorFlow, and hold their answers against golden ones.

Three processes: TensorFlow compiles as far as StableHLO; jaxlib makes portable artifacts of it; and our server, in which there
is no TensorFlow, loads them and answers.
"""

import argparse
import importlib.util
import math
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from slipway import comparable, files, golden, isolation, rows
from slipway.checks.behaviour import check_golden
from slipway.contract import Contract, PredictSignature, read_contract
from slipway.contract.backends import compile_faults
from slipway.errors import ContractViolation, ServerError, SettingsError, SourceError
from slipway.golden import Golden
from slipway.model_clients import GrpcModel
from slipway.parity import compare
from slipway.provenance import tool_versions
from slipway.records import Check, ExportRecord, Parity, StableHloRecord, TreeManifest
from slipway.servers import RunningServer, ServerSpec, running_server
from slipway.settings import LaunchSettings
from slipway.validate import add_export_arguments
from slipway_wire import dtypes, stablehlo
from slipway_wire.signatures import Signature
from slipway_wire.stablehlo import Lowered, Manifest, Program, Weight

Array = npt.NDArray[Any]

PATH = "checkpoint→StableHLO"
_AMONG = "StableHLO, {size} rows→{most} rows"
_TOOLS = ("tensorflow-cpu", "tensorflow", "jax", "jaxlib")
FLAGS = ("--prefer_stablehlo", "--max_num_load_retries=0")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the stage reads and writes."""
    add_export_arguments(parser)
    parser.add_argument(
        "--batch-sizes", default="1,2,4,8,16,32", metavar="N,…", help="numbers of rows to make programs for"
    )
    parser.add_argument("--ready-timeout-s", type=float, default=120.0, help="how long the server may compile (s)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="gets programs, weights, manifest")
    parser.add_argument("--record", type=Path, required=True, metavar="FILE", help="gets the record (JSON)")


def run(arguments: argparse.Namespace) -> None:
    """Lower, convert, ask a server, and write the record; nothing is kept of what answers otherwise than the source."""
    what = f"{arguments.model} {arguments.version}"
    sizes = batch_sizes(arguments.batch_sizes)
    contract, answered = read_contract(arguments.contract), golden.read(arguments.golden)
    if importlib.util.find_spec("jaxlib") is None or importlib.util.find_spec("jax") is None:
        raise SettingsError("JAX, which writes and runs StableHLO, is not installed: pip install 'slipway[stablehlo]'.")
    if faults := compile_faults(contract):
        raise SourceError("\n".join(f"{what}: {fault}" for fault in faults))
    ExportRecord.read(arguments.export_record).tree.verify(arguments.export)
    limit_s = isolation.timeout_s(os.environ)
    outputs = [arguments.out, arguments.record]
    with (
        tempfile.TemporaryDirectory(prefix="slipway-stablehlo-") as scratch,
        files.new_directory(arguments.out) as directory,
    ):
        raw = Path(scratch)
        try:
            wanted = {name: _sizes_of(contract, name, sizes, answered.rows) for name in contract.signatures}
            apart = {name: contract.rows_are_apart(name) for name in contract.signatures}
            isolation.run(lambda: lower(arguments.export, wanted, apart, raw), what, outputs, limit_s, "compiling")
            isolation.run(lambda: convert(raw, directory), what, outputs, limit_s, "converting")
        except SourceError as error:
            raise SourceError("\n".join(f"{what}: {line}" for line in str(error).splitlines())) from error
        log = arguments.record.with_suffix(".server.log")
        settings = LaunchSettings(engine="process", ready_timeout_s=arguments.ready_timeout_s)
        parity = list(_judged(arguments.model, arguments.version, contract, answered, directory, settings, log))
        tree = TreeManifest.of(directory)
    StableHloRecord(
        model=arguments.model,
        version=arguments.version,
        tree=tree,
        stablehlo=stablehlo.decode((arguments.out / Path(stablehlo.MANIFEST_FILE).name).read_bytes()).version,
        batch_sizes=sizes,
        signatures=list(contract.signatures),
        parity=parity,
        tools={name: version for name, version in tool_versions(*_TOOLS).items() if version != "absent"},
    ).write(arguments.record)


def batch_sizes(text: str) -> list[int]:
    """Read numbers of rows: `1,8,32`; SettingsError if they are none, or do not increase."""
    try:
        sizes = [int(part) for part in text.split(",")]
    except ValueError:
        sizes = []
    if not sizes or sizes != sorted(set(sizes)) or sizes[0] < 1:
        raise SettingsError(f"--batch-sizes: expected numbers of rows that increase, such as 1,8,32; got {text!r}.")
    return sizes


# --- processes that end with what they wrote ---------------------------------------------------------


def lower(export: Path, sizes: Mapping[str, Sequence[int]], apart: Mapping[str, bool], raw: Path) -> None:
    """
    Write programs as TensorFlow's compiler makes them, the weights, and a manifest of both; in a process of its own.

    Args:
        export: The SavedModel.
        sizes: Signature -> numbers of rows to make programs for, ascending.
        apart: Signature -> whether none of its rows' answers depends on another row.
        raw: An empty directory that gets all of it.

    Raises:
        SourceError: With a line for each signature that XLA cannot compile.
    """
    from slipway.models import lowering  # noqa: PLC0415 - seconds; and only in this process

    lowered, arrays = lowering.lower(export, list(sizes), sizes)
    weights, end = [], 0
    with (raw / stablehlo.WEIGHTS_FILE).open("wb") as file:
        for array in arrays:
            plain = np.ascontiguousarray(array)
            weight = Weight(dtypes.from_numpy(plain.dtype), array.shape, stablehlo.next_offset(end))
            file.write(b"\0" * (weight.offset - end))
            # Not `tofile`, nor a memoryview: neither knows bfloat16.
            file.write(plain.tobytes())
            weights.append(weight)
            end = weight.offset + weight.nbytes
    signatures = {}
    for number, one in enumerate(lowered):
        programs = []
        for program in one.programs:
            file_name = f"s{number}{'' if program.rows is None else f'.b{program.rows}'}.vhlo"
            (raw / file_name).write_bytes(program.bytecode)
            programs.append(Program(file_name, program.rows, program.weights, _sha256(program.bytecode)))
        name = one.signature.name
        signatures[name] = Lowered(one.signature, tuple(programs), rows_are_apart=apart[name])
    tools = {name: version for name, version in tool_versions(*_TOOLS).items() if version != "absent"}
    manifest = Manifest("", tools, tuple(weights), signatures)
    (raw / Path(stablehlo.MANIFEST_FILE).name).write_bytes(stablehlo.encode(manifest))


def _sizes_of(contract: Contract, name: str, sizes: Sequence[int], golden_rows: int) -> list[int]:
    """
    Give the numbers of rows for one signature: no more than the contract lets a request have.

    Where rows depend on each other, those of the golden data are among them: no row may be added to them, or left out.
    """
    most = contract.max_rows or sizes[-1]
    chosen = [size for size in sizes if size <= most] or [most]
    if contract.rows_are_apart(name):
        return chosen
    return sorted({*chosen, *(part.stop - part.start for part in comparable.parts(contract, golden_rows))})


def convert(raw: Path, directory: Path) -> None:
    """
    Make portable artifacts of what `lower` left in *raw*; everything that is served goes into *directory*.

    In a process of its own, too, without TensorFlow.

    Raises:
        SourceError: A program is not what its signature says, or cannot be written.
    """
    from slipway import portable  # noqa: PLC0415 - as above

    manifest = stablehlo.decode((raw / Path(stablehlo.MANIFEST_FILE).name).read_bytes())
    finished = {}
    for name, lowered in manifest.signatures.items():
        signature: Signature = lowered.signature
        programs = []
        for program in lowered.programs:
            try:
                content = portable.convert(
                    (raw / program.file).read_bytes(),
                    Path(program.file).stem,
                    program.rows,
                    list(signature.inputs.values()),
                    [manifest.weights[index] for index in program.weights],
                    list(signature.outputs.values()),
                )
            except SourceError as error:
                raise SourceError(f"signature {name}: {error}") from error
            (directory / program.file).write_bytes(content)
            programs.append(replace(program, sha256=_sha256(content)))
        finished[name] = replace(lowered, programs=tuple(programs))
    (directory / stablehlo.WEIGHTS_FILE).write_bytes((raw / stablehlo.WEIGHTS_FILE).read_bytes())
    written = stablehlo.encode(replace(manifest, version=portable.VERSION, signatures=finished))
    (directory / Path(stablehlo.MANIFEST_FILE).name).write_bytes(written)


def _sha256(content: bytes) -> str:
    return files.sha256_bytes(content).removeprefix("sha256:")


# --- parity ----------------------------------------------------------------------------------------


def _judged(
    model: str,
    version: int,
    contract: Contract,
    answered: Golden,
    directory: Path,
    settings: LaunchSettings,
    log: Path,
) -> list[Parity]:
    """
    Let a server load *directory* and nothing else, and compare its answers with golden ones.

    Raises:
        ContractViolation: With one line for each output that is too far off, and each call that fails.
    """
    with tempfile.TemporaryDirectory(prefix="slipway-stablehlo-") as place:
        versions = Path(place, model, str(version))
        versions.mkdir(parents=True)
        (versions / stablehlo.DIRECTORY).symlink_to(directory.absolute())
        spec = ServerSpec(model, None, None, versions.parent, settings, FLAGS)
        manifest = stablehlo.decode((directory / Path(stablehlo.MANIFEST_FILE).name).read_bytes())
        with running_server(spec, log=log) as server:
            checks, parity = _compared(server, model, contract, answered, manifest)
            server.check_alive()
    faults = [check.line() for check in checks if not check.ok]
    faults += [
        f"{one.signature}.{one.output}: {one.path}: expected differences up to {one.atol:g} + {one.rtol:g}·|answer|, "
        f"found {one.max_abs:.3g} over {one.rows} rows"
        for one in parity
        if not one.ok and math.isfinite(one.max_abs)
    ]
    if faults:
        raise ContractViolation("\n".join(f"{model} {version}: {line}" for line in dict.fromkeys(faults)))
    return parity


def _compared(
    server: RunningServer, model: str, contract: Contract, answered: Golden, manifest: Manifest
) -> tuple[list[Check], list[Parity]]:
    with GrpcModel(server.host, server.grpc_port, model) as client:

        def run(name: str, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
            try:
                return client.predict(name, inputs, None)
            except ServerError as error:
                raise SourceError(str(error)) from error

        checks, found, _ = check_golden(contract, list(contract.signatures), answered, run)
        parity = [one.model_copy(update={"path": PATH}) for one in found]
        for name in contract.signatures:
            sizes = [program.rows for program in manifest.signatures[name].programs if program.rows is not None]
            if _can_be_parted(contract, name):
                parity += _among(contract, name, answered, sizes, run)
    return checks, parity


def _can_be_parted(contract: Contract, name: str) -> bool:
    signature = contract.signatures[name]
    return (
        isinstance(signature, PredictSignature)
        and signature.batched
        and contract.rows_are_apart(name)
        and contract.determinism_of(name) is not False
    )


def _among(contract: Contract, name: str, answered: Golden, sizes: Sequence[int], run: Any) -> Iterator[Parity]:
    """Compare each program with that for the most rows: golden rows may be too few to come to every one of them."""
    asked = rows.rows_for(contract, name, sizes[-1], answered)
    most = run(name, asked)
    for size in sizes[:-1]:
        found = run(name, {key: array[:size] for key, array in asked.items()})
        for output, array in most.items():
            atol, rtol = contract.tolerance(name, output)
            path = _AMONG.format(size=size, most=sizes[-1])
            yield compare(path, name, output, array[:size], found[output], atol=atol, rtol=rtol)
