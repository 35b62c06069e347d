"""What the image is made of, and the way from checkpoint to image with the digests that prove it."""

from slipway.records import (
    ModelResult,
    VersionResult,
)
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
)
from slipway.report.charts import Axis, Bar, Segment
from slipway.report.sections.figures import model_identifier, newest_version


def image(model: ModelResult) -> Section:
    """Write what the image is made of and what ran it."""
    made, launched = model.image, model.launch
    bars = [
        Bar(layer.name, (Segment("compressed", layer.bytes, charts.CATEGORIES[1]),), numbers.size(layer.bytes))
        for layer in made.layers
    ]
    identifier = model_identifier(model, "layers")
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
        id=model_identifier(model, "image"),
        title="Image",
        short="",
        lead="A real OCI image, put together without a build daemon, run and asked for golden answers before anything was measured.",
        blocks=(Pair((figure, Items(facts))),),
    )


def provenance(model: ModelResult) -> Section:
    """Write the way from checkpoint to image, with the digests that prove it."""
    blocks: list[Block] = []
    for version in model.versions:
        blocks.append(Heading(f"Version {version.version}"))
        blocks.append(Chain(_links(model, version)))
    blocks.append(Folded("Full digests", (_digests(model),)))
    return Section(
        id=model_identifier(model, "provenance"),
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
        ("Contract", newest_version(model).validation.contract_digest),
        ("Image (config)", model.image.image_id),
        ("Image (manifest)", model.image.manifest_digest),
    ]
    return Table(
        "Full digests",
        heads("Artefact", "Digest", numbers_from=2),
        tuple((TableCell(name), TableCell(digest, "d")) for name, digest in listed),
    )
