"""
Print what is at a path, without TensorFlow. A SavedModel: its signatures, dtypes, shapes, ops, files; in a fraction of a second.

PLACE is a version directory (with `saved_model.pb`) or a TensorFlow Serving base path (with numbered ones). The facts are
those of `saved_model_cli show --all`, and what a server needs to know besides. Anything else (a checkpoint, a file of Keras,
a graph, an archive) is named, with the lines of config.yaml that import it. With --ops: every op of a graph, what runs it, and
what the op policy says.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from slipway import op_table
from slipway.detection.advice import config_lines, source_yaml
from slipway.detection.detect import Found, detect, misfit
from slipway.errors import SourceError
from slipway.graphs.reading import read_graph_def, read_meta_graph
from slipway.op_table import OpTable
from slipway_wire import signatures, tfrecord
from slipway_wire.signatures import SAVED_MODEL_FILE, Signature, TensorSpec
from slipway_wire.status import WireError

WARMUP_FILE = Path("assets.extra/tf_serving_warmup_requests")
_FILE_WIDTH = 240


@dataclass(frozen=True, slots=True)
class TensorFacts:
    """One input or output."""

    dtype: str
    shape: list[int | None] | None
    """None for a size or a rank that is not known."""
    tensor: str
    """Name in the graph."""
    default: Any = None


@dataclass(frozen=True, slots=True)
class SignatureFacts:
    """One signature."""

    method_name: str
    inputs: dict[str, TensorFacts]
    outputs: dict[str, TensorFacts]


@dataclass(frozen=True, slots=True)
class MetaGraphFacts:
    """One meta graph: what a set of tags names."""

    tags: list[str]
    tensorflow_version: str
    signatures: dict[str, SignatureFacts]
    ops: dict[str, int]
    """Kind of op -> nodes, those of functions included."""
    functions: int
    policy: OpTable | None
    """What runs each op, and what the op policy says; None if it was not asked for."""


@dataclass(frozen=True, slots=True)
class Facts:
    """One SavedModel."""

    directory: str
    meta_graphs: list[MetaGraphFacts]
    graph_bytes: int
    variables_bytes: int
    assets: dict[str, int]
    """File -> bytes."""
    warmup_records: int | None
    """None: it has no warm-up file."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "place", type=Path, metavar="PLACE", help="a SavedModel, a base path with numbered versions, or anything else"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--ops", action="store_true", help="list every kind of op, what runs it, and what is refused")


def run(arguments: argparse.Namespace) -> None:
    """Print the facts of every SavedModel at the place."""
    if not _holds_models(arguments.place):
        _tell(arguments.place, as_json=arguments.json, with_ops=arguments.ops)
        return
    found = [facts(directory, with_ops=arguments.ops) for directory in find_models(arguments.place)]
    if arguments.json:
        sys.stdout.write(json.dumps([asdict(one) for one in found], indent=2, default=_plain) + "\n")
        return
    console = _console()
    for one in found:
        _show(console, one)


def _holds_models(place: Path) -> bool:
    versions = (path for path in _children(place) if path.name.isdigit())
    return any((path / SAVED_MODEL_FILE).is_file() for path in (place, *versions))


def _tell(place: Path, *, as_json: bool, with_ops: bool) -> None:
    """Say what *place* is, where it is no SavedModel, and the lines of config.yaml that import it."""
    found = detect(place)
    ops = _ops_of(found) if with_ops else None
    lines = config_lines(found)
    if as_json:
        told: dict[str, Any] = {"path": str(found.path), "words": found.words, "kind": found.kind, "step": found.step}
        told |= {"advice": found.next_step(), "source": source_yaml(found) if found.kind else None}
        told |= {"policy": asdict(ops)} if ops else {}
        sys.stdout.write(json.dumps(told, indent=2) + "\n")
        return
    sys.stdout.write(f"{place}: {found.words}\n")
    sys.stdout.write(f"In config/config.yaml:\n\n{lines}" if lines else f"{found.next_step()}\n")
    if lines and found.advice:
        sys.stdout.write(f"\n{found.advice}\n")
    if ops:
        _show_ops(_console(), ops)


def _ops_of(found: Found) -> OpTable | None:
    """List the ops of a graph that is no SavedModel; None of what has no graph in it, such as weights."""
    if found.kind == "frozen_graph":
        graph = read_graph_def(found.path)
    elif found.kind == "tf1_checkpoint" and (meta := found.path.with_name(f"{found.path.name}.meta")).is_file():
        graph = read_meta_graph(meta)
    else:
        return None
    return op_table.of_graph(graph.graph, graph.where)


def find_models(place: Path) -> list[Path]:
    """
    Find the SavedModels that *place* means.

    Returns:
        *place* itself, or its versions, lowest first.

    Raises:
        SourceError: There is none; the line says what there is instead.
    """
    if (place / SAVED_MODEL_FILE).is_file():
        return [place]
    versions = [path for path in _children(place) if path.name.isdigit() and (path / SAVED_MODEL_FILE).is_file()]
    if versions:
        return sorted(versions, key=lambda path: int(path.name))
    raise SourceError(
        misfit(f"a directory with {SAVED_MODEL_FILE}, or one with numbered directories that have it", place)
    )


def _children(place: Path) -> Iterator[Path]:
    try:
        yield from sorted(place.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise SourceError(f"{place}: cannot be read: {error.strerror}") from error


def facts(directory: Path, *, with_ops: bool = False) -> Facts:
    """
    Read the SavedModel at *directory*.

    Args:
        directory: Where its `saved_model.pb` is.
        with_ops: Whether to find out what runs each op, and what the op policy says.

    Raises:
        SourceError: It is damaged.
    """
    try:
        saved_model = signatures.read_saved_model(directory)
        graphs = [_meta_graph(meta_graph, with_ops=with_ops) for meta_graph in saved_model.meta_graphs]
        warmup = directory / WARMUP_FILE
        records = None
        if warmup.is_file():
            with warmup.open("rb") as stream:
                records = sum(1 for _ in tfrecord.read(stream))
    except WireError as error:
        raise SourceError(str(error)) from error
    except OSError as error:
        raise SourceError(f"{directory}: cannot be read: {error.strerror}") from error
    return Facts(
        directory=str(directory),
        meta_graphs=graphs,
        graph_bytes=(directory / SAVED_MODEL_FILE).stat().st_size,
        variables_bytes=sum(_sizes(directory / "variables").values()),
        assets=_sizes(directory / "assets"),
        warmup_records=records,
    )


def _sizes(directory: Path) -> dict[str, int]:
    return {
        path.relative_to(directory).as_posix(): path.stat().st_size
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def _meta_graph(meta_graph: Any, *, with_ops: bool) -> MetaGraphFacts:
    graph, info = meta_graph.graph_def, meta_graph.meta_info_def
    return MetaGraphFacts(
        tags=sorted(info.tags),
        tensorflow_version=getattr(info, "tensorflow_version", ""),
        signatures={name: _signature(one) for name, one in signatures.from_meta_graph(meta_graph).items()},
        ops=op_table.counts(graph),
        functions=len(graph.library.function),
        policy=op_table.of_meta_graph(meta_graph) if with_ops else None,
    )


def _signature(signature: Signature) -> SignatureFacts:
    defaults: Mapping[str, Any] = signature.defaults
    return SignatureFacts(
        method_name=signature.method,
        inputs={name: _tensor(spec, defaults.get(name)) for name, spec in signature.inputs.items()},
        outputs={name: _tensor(spec, None) for name, spec in signature.outputs.items()},
    )


def _tensor(spec: TensorSpec, default: Any) -> TensorFacts:
    shape = None if spec.shape is None else list(spec.shape)
    return TensorFacts(spec.dtype.name, shape, spec.graph_name, None if default is None else default.tolist())


def _plain(value: object) -> str:
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)


# --- for people ------------------------------------------------------------------------------------


def _console() -> Console:
    # A terminal's width is its user's; a file has none, and a cut name is no name.
    return Console(width=None if sys.stdout.isatty() else _FILE_WIDTH)


def _show(console: Console, one: Facts) -> None:
    console.print(one.directory, style="bold", markup=False, highlight=False)
    warm = "no warm-up records" if one.warmup_records is None else f"{one.warmup_records} warm-up records"
    assets = ", ".join(f"{name} ({_bytes(size)})" for name, size in one.assets.items()) or "none"
    lines = [f"graph {_bytes(one.graph_bytes)}, variables {_bytes(one.variables_bytes)}, {warm}; assets: {assets}"]
    for graph in one.meta_graphs:
        made = (
            f"made by TensorFlow {graph.tensorflow_version}"
            if graph.tensorflow_version
            else "made by an unknown version"
        )
        lines.append(
            f"tags {{{', '.join(graph.tags)}}}, {made}; {len(graph.ops)} kinds of ops, {graph.functions} functions"
        )
        console.print(*lines, sep="\n", markup=False, highlight=False)
        lines = []
        console.print(_table(graph))
        if graph.policy:
            _show_ops(console, graph.policy)
    console.print()


def _table(graph: MetaGraphFacts) -> Table:
    table = Table(box=None, pad_edge=False)
    for head in ("signature", "method_name", "", "name", "dtype", "shape", "tensor"):
        table.add_column(head, overflow="fold")
    for key, signature in graph.signatures.items():
        shown = (key, signature.method_name or "(none)")
        for side, tensors in (("in", signature.inputs), ("out", signature.outputs)):
            for name, tensor in tensors.items():
                default = "" if tensor.default is None else f" = {tensor.default}"
                shape = signatures.format_shape(tensor.shape)
                table.add_row(*shown, side, name + default, tensor.dtype, shape, tensor.tensor)
                shown = ("", "")
        if shown[0]:
            table.add_row(*shown, "", "", "", "", "")
    return table


def _show_ops(console: Console, found: OpTable) -> None:
    table = Table(box=None, pad_edge=False)
    for head in ("op", "nodes", "run by", "op policy"):
        table.add_column(head, overflow="fold")
    for op in found.ops:
        table.add_row(
            op.op, str(op.nodes), ", ".join(op.run_by) or "nothing", f"refused: {op.refused}" if op.refused else ""
        )
    console.print(table)
    for line in found.refusals:
        console.print(f"refused: {line}", markup=False, highlight=False, soft_wrap=True)
    if not found.refusals:
        console.print("The op policy refuses nothing.", markup=False, highlight=False)


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"
