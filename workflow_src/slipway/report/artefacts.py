"""Sections about one model: what it promises, whether it answers right, and what it was made from."""

from collections.abc import Sequence

from slipway.records import GoldenAnswer, ModelResult, Parity, Protocol, TensorRecord, VersionResult
from slipway.report import charts, numbers
from slipway.report.blocks import (
    Block,
    Chain,
    ChainLink,
    Figure,
    Folded,
    Heading,
    Items,
    Pair,
    Panel,
    Section,
    Table,
    TableCell,
    heads,
    passed,
)
from slipway.report.charts import Axis, Bar, Dot, DotRow, Segment, Style
from slipway.report.content import slug

_OFFLINE = Style("tool", "diamond")
_SAVED_MODEL = Style("k1", "triangle")


def sections(model: ModelResult) -> tuple[Section, ...]:
    """Write all sections about *model*."""
    return (contract(model), answers(model), image(model), provenance(model))


def _id(model: ModelResult, name: str) -> str:
    return f"{slug(model.model)}-{name}"


def _newest(model: ModelResult) -> VersionResult:
    return max(model.versions, key=lambda version: version.version)


# --- contract --------------------------------------------------------------------------------------


def contract(model: ModelResult) -> Section:
    """Write the signatures and how many of the contract's demands hold, version by version."""
    newest = _newest(model)
    signatures = Table(
        "Signatures",
        heads("Signature", "Method", "Inputs", "Outputs", numbers_from=4),
        tuple(
            (
                TableCell(signature.name),
                TableCell(signature.method),
                TableCell("\n".join(map(_tensor, signature.inputs)), "d"),
                TableCell("\n".join(map(_tensor, signature.outputs)), "d"),
            )
            for signature in newest.validation.signatures
        ),
    )
    return Section(
        id=_id(model, "contract"),
        title="Contract",
        short="Contract",
        lead=f"What version {newest.version} promises whoever calls it. N is the number of rows of a request.",
        blocks=(signatures, Heading("Does it keep its promises?"), _checks(model), *_failed_checks(model)),
    )


def _tensor(tensor: TensorRecord) -> str:
    shape = ", ".join("?" if size is None else str(size) for size in tensor.shape)
    return f"{tensor.name}: {tensor.dtype} [{shape}]" + (f"  {tensor.note}" if tensor.note else "")


_CHECK_KINDS = {
    "structure": "Structure: names, dtypes and shapes in the SavedModel",
    "behaviour": "Behaviour: what it does with rows, ranges and odd batches",
    "golden": "Golden data: answers on rows that were kept",
}


def _checks(model: ModelResult) -> Table:
    rows = []
    for kind, name in _CHECK_KINDS.items():
        by_version = [[c for c in v.validation.checks if c.kind == kind] for v in model.versions]
        if any(by_version):
            rows.append((TableCell(name), *(_held([check.ok for check in checks]) for checks in by_version)))
    parity = [[p.ok for p in v.validation.parity] for v in model.versions]
    rows.append((TableCell("Parity: same answers as the checkpoint"), *map(_held, parity)))
    versions = (TableCell(f"version {version.version}", "c") for version in model.versions)
    return Table("Checks by version", (TableCell("Demand"), *versions), tuple(rows))


def _held(outcomes: Sequence[bool]) -> TableCell:
    if not outcomes:
        return TableCell(numbers.NOT_MEASURED, "c")
    sign = "✓" if all(outcomes) else "✕"
    return TableCell(f"{sign} {sum(outcomes)} of {len(outcomes)}", "c", "ok" if all(outcomes) else "bad")


def _failed_checks(model: ModelResult) -> tuple[Block, ...]:
    lines = [
        (f"version {v.version}", check.line()) for v in model.versions for check in v.validation.checks if not check.ok
    ]
    return (Items(tuple(lines)),) if lines else ()


# --- answers ---------------------------------------------------------------------------------------


def answers(model: ModelResult) -> Section:
    """Write whether every path gives the checkpoint's answers, and how good they are."""
    versions = len(model.versions)
    figure = _accuracy_figure(model)
    return Section(
        id=_id(model, "answers"),
        title="Accuracy and parity",
        short="Accuracy",
        lead="The same golden rows went through the checkpoint, the SavedModel and the running image over both "
        "protocols. The distance between two paths is told as it is, however small."
        + ("" if figure else " The golden rows have no labels, so there is no accuracy to compare."),
        blocks=(
            *((figure,) if figure else ()),
            *((Heading("Versions"),) if versions > 1 else ()),
            _versions(model),
            Heading("Do all paths give the same answer?"),
            _parity(model),
        ),
    )


def _served(model: ModelResult, version: int) -> dict[Protocol, GoldenAnswer]:
    return {answer.protocol: answer for answer in model.launch.answers if answer.version == version}


def _accuracies(model: ModelResult, version: VersionResult) -> list[tuple[str, Style, float | None]]:
    served = _served(model, version.version)
    return [
        ("checkpoint, offline", _OFFLINE, version.checkpoint.metrics.get("accuracy")),
        ("SavedModel", _SAVED_MODEL, version.validation.accuracy),
        ("REST", charts.REST, served["rest"].accuracy if "rest" in served else None),
        ("gRPC", charts.GRPC, served["grpc"].accuracy if "grpc" in served else None),
    ]


def _accuracy_figure(model: ModelResult) -> Figure | None:
    rows, listed = [], []
    for version in model.versions:
        known = [(name, style, value) for name, style, value in _accuracies(model, version) if value is not None]
        dots = tuple(
            Dot(100 * value, style, note=f"version {version.version}, {name}: {numbers.percent(value)}")
            for name, style, value in known
        )
        if dots:
            rows.append(DotRow(f"version {version.version}", dots))
            listed += [(version.version, name, value) for name, _, value in known]
    if not rows:
        return None
    values = [dot.value for each in rows for dot in each.dots]
    span = max(max(values) - min(values), 1.0)
    limits = (max(min(values) - span, 0.0), min(max(values) + span, 100.0))
    entries = [
        ("checkpoint, offline", _OFFLINE),
        ("SavedModel", _SAVED_MODEL),
        ("REST", charts.REST),
        ("gRPC", charts.GRPC),
    ]
    identifier = _id(model, "accuracy")
    golden = numbers.counted(_newest(model).checkpoint.golden_rows, "golden row")
    caption = (
        f"Share of {golden} that are answered right, by the path that the answer took. The axis does not begin at 0."
    )
    newest = listed[-1][2]
    alike = len({value for v, _, value in listed if v == model.versions[-1].version}) == 1
    title = (
        f"Version {model.versions[-1].version} is right on {numbers.percent(newest)} of the golden rows, over every path"
        if alike
        else "Accuracy by path"
    )
    table = Table(
        "Accuracy",
        heads("Version", "Path", "accuracy", numbers_from=2),
        tuple(
            (TableCell(str(v)), TableCell(name), TableCell(numbers.percent(value, 4), "n")) for v, name, value in listed
        ),
    )
    drawing = charts.dot_chart(rows, Axis("% right"), limits=limits)
    return Figure(
        identifier,
        title,
        caption,
        (Panel(f"{identifier}-0", title, caption, drawing),),
        charts.marker_legend(entries),
        table,
    )


def _versions(model: ModelResult) -> Table:
    head = ("Version", "What it is", "parameters", "SavedModel", "warm-up records", "offline", "REST", "gRPC")
    rows = []
    for version in model.versions:
        accuracy = {name: value for name, _, value in _accuracies(model, version)}
        rows.append(
            (
                TableCell(str(version.version)),
                TableCell(version.checkpoint.description),
                *(
                    TableCell(text, "n")
                    for text in (
                        numbers.integer(version.checkpoint.parameters),
                        numbers.size(version.export.tree.bytes),
                        f"{version.warmup.replayed} replayed",
                        numbers.percent(accuracy["checkpoint, offline"]),
                        numbers.percent(accuracy["REST"]),
                        numbers.percent(accuracy["gRPC"]),
                    )
                ),
            )
        )
    return Table("All versions", heads(*head, numbers_from=2), tuple(rows))


def _parity(model: ModelResult) -> Table:
    listed = [
        (version.version, parity.path, parity)
        for version in model.versions
        for parity in (
            *version.validation.parity,
            *(p for a in _served(model, version.version).values() for p in a.parity),
        )
    ]
    return Table(
        "Parity",
        (
            *heads("Path", "Version", "Output", numbers_from=3),
            *heads("rows", "max |Δ|", "arg max equal", "atol, rtol", numbers_from=0),
            TableCell("", "c"),
        ),
        tuple(_parity_row(version, path, parity) for version, path, parity in listed),
    )


def _parity_row(version: int, path: str, parity: Parity) -> tuple[TableCell, ...]:
    return (
        TableCell(path),
        TableCell(str(version)),
        TableCell(f"{parity.signature}.{parity.output}"),
        TableCell(numbers.integer(parity.rows), "n"),
        TableCell(numbers.number(parity.max_abs), "n"),
        TableCell(numbers.percent(parity.argmax_agreement), "n"),
        TableCell(f"{numbers.number(parity.atol)}, {numbers.number(parity.rtol)}", "n"),
        passed(parity.ok),
    )


# --- image -----------------------------------------------------------------------------------------


def image(model: ModelResult) -> Section:
    """Write what the image is made of and what ran it."""
    made, launched = model.image, model.launch
    bars = [
        Bar(layer.name, (Segment("compressed", layer.bytes, charts.CATEGORIES[1]),), numbers.size(layer.bytes))
        for layer in made.layers
    ]
    identifier = _id(model, "layers")
    caption = f"Layers as a registry stores them ({made.compression}), from the base up. A new version changes the small ones."
    title = f"The image weighs {numbers.size(made.bytes)}"
    table = Table(
        "Layers",
        heads("Layer", "stored", "unpacked", "digest"),
        tuple(
            (
                TableCell(layer.name),
                TableCell(numbers.size(layer.bytes), "n"),
                TableCell(numbers.size(layer.raw_bytes), "n"),
                TableCell(numbers.short_digest(layer.digest), "d", full=layer.digest),
            )
            for layer in made.layers
        ),
    )
    drawing = charts.bar_chart(bars, Axis("bytes", show=numbers.size))
    figure = Figure(identifier, title, caption, (Panel(f"{identifier}-0", title, caption, drawing),), (), table)
    engine = launched.engine
    ran = f"{engine.name} {engine.version}".strip() + ("" if engine.isolated else " (no container: no isolation)")
    facts = (
        ("Reference", made.reference),
        ("Base", made.base),
        ("Created", f"{made.created} (fixed, so that the same content gives the same image)"),
        ("Run by", ran),
        *((f"Not run by {name}", reason) for name, reason in engine.rejected.items()),
        ("Ready after", numbers.duration(launched.ready_s)),
        ("Versions", ", ".join(f"{version} {state}" for version, state in sorted(launched.versions.items()))),
        ("Packages", ", ".join(f"{name} {version}" for name, version in sorted(made.packages.items())) or "none"),
        ("Stopped after SIGTERM", f"{numbers.duration(launched.stop_s)}, exit code {launched.exit_code}"),
    )
    return Section(
        id=_id(model, "image"),
        title="Image",
        short="Image",
        lead="A real OCI image, put together without a build daemon, run and asked for golden answers before anything was measured.",
        blocks=(Pair((figure, Items(facts))),),
    )


# --- provenance ------------------------------------------------------------------------------------


def provenance(model: ModelResult) -> Section:
    """Write the way from checkpoint to image, with the digests that prove it."""
    blocks: list[Block] = []
    for version in model.versions:
        blocks.append(Heading(f"Version {version.version}"))
        blocks.append(Chain(_links(model, version)))
    blocks.append(Folded("Full digests", (_digests(model),)))
    return Section(
        id=_id(model, "provenance"),
        title="Provenance",
        short="Provenance",
        lead="Each artefact is made from the one before it and named by the digest of its content. The same input gives "
        "the same digests again.",
        blocks=tuple(blocks),
    )


def _links(model: ModelResult, version: VersionResult) -> tuple[ChainLink, ...]:
    export, warmup, made = version.export, version.warmup, model.image
    steps = (
        ("Checkpoint", version.checkpoint.kind, version.checkpoint.tree.bytes, version.checkpoint.tree.digest),
        ("SavedModel", ", ".join(export.signatures), export.tree.bytes, export.tree.digest),
        ("Warm-up records", numbers.counted(len(warmup.entries), "record"), warmup.bytes, warmup.digest),
        ("Servable", f"{model.model}/{version.version}", version.servable.tree.bytes, version.servable.tree.digest),
        ("Image", made.reference, made.bytes, made.image_id),
    )
    return tuple(
        ChainLink(name, what, numbers.size(size), numbers.short_digest(digest), digest)
        for name, what, size, digest in steps
    )


def _digests(model: ModelResult) -> Table:
    listed = [
        (f"{link.name}, version {version.version}", link.full)
        for version in model.versions
        for link in _links(model, version)[:-1]
    ]
    listed += [(f"Golden data, version {v.version}", v.checkpoint.golden_digest) for v in model.versions]
    listed += [
        ("Contract", _newest(model).validation.contract_digest),
        ("Image (config)", model.image.image_id),
        ("Image (manifest)", model.image.manifest_digest),
    ]
    return Table(
        "Full digests",
        heads("Artefact", "Digest", numbers_from=2),
        tuple((TableCell(name), TableCell(digest, "d")) for name, digest in listed),
    )
