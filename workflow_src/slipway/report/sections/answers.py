"""Whether every path gives the checkpoint's answers, and how good they are."""

from collections.abc import Sequence

from slipway.records import (
    GoldenAnswer,
    ModelResult,
    Parity,
    Protocol,
    VersionResult,
)
from slipway.report import charts, numbers
from slipway.report.blocks import (
    Figure,
    Folded,
    Heading,
    Panel,
    Section,
    Table,
    TableCell,
    heads,
    passed,
)
from slipway.report.charts import Axis, Dot, DotRow, Style
from slipway.report.sections.figures import model_identifier, newest_version

_OFFLINE = Style("tool", "diamond")


_SAVED_MODEL = Style("k1", "triangle")


def answers(model: ModelResult) -> Section:
    """Write whether every path gives the checkpoint's answers, and how good they are."""
    versions = len(model.versions)
    figure = _accuracy_figure(model)
    return Section(
        id=model_identifier(model, "answers"),
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
            _parity(model, model.versions[-1:]),
            *(
                (Folded("The same for earlier versions", (_parity(model, model.versions[:-1]),)),)
                if versions > 1
                else ()
            ),
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
    identifier = model_identifier(model, "accuracy")
    golden = numbers.counted(newest_version(model).checkpoint.golden_rows, "golden row")
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


def _parity(model: ModelResult, versions: Sequence[VersionResult]) -> Table:
    listed = [
        (version.version, parity.path, parity)
        for version in versions
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
            TableCell("verdict", "c"),
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
        TableCell(
            f"not compared: {parity.why_not}"
            if parity.why_not
            else f"{numbers.number(parity.atol)}, {numbers.number(parity.rtol)}",
            "n",
        ),
        passed(ok=parity.ok),
    )
