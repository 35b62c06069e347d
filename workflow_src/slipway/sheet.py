"""
The sample sheet: a table with a row for each version of each model, which joins the `models` of the config.

CSV, TSV, or YAML (a list of mappings). Columns are `model`, `version`, `kind`, `path`, `contract`, `digest`, and
`source.KEY` for whatever else a source of that kind has; `source.KEY.NAME` sets one entry of a mapping. An empty cell
is as good as none. A model without a contract has config/contracts/MODEL.yaml. Every fault is told with its line.
"""

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml
from pydantic import Field, ValidationError

from slipway import settings as checked
from slipway.errors import SettingsError
from slipway.serving_settings import VersionNumber
from slipway.settings import Name, Settings, VersionSettings, fault_texts

CONTRACT = "config/contracts/{model}.yaml"
_COLUMNS = ("model", "version", "kind", "path", "contract", "digest")
_DELIMITERS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
_SOURCE_COLUMN = re.compile(r"source\.[a-z_][a-z0-9_]*(\..+)?")
_PLACE = re.compile(r"config: models\.([^.]+)\.(?:contract|versions\.(\d+)\.source): ")


@dataclass(frozen=True, slots=True)
class Row:
    """
    A row that has something in it.

    Attributes:
        line: Where it begins, from 1.
        cells: Column -> what stands there; text from CSV.
    """

    line: int
    cells: Mapping[str, Any]


class _RowSettings(VersionSettings):
    model: Name
    version: VersionNumber
    contract: str | None = Field(None, min_length=1)


def with_sheet(config: Mapping[str, Any], name: str = "config") -> dict[str, Any]:
    """
    Give *config* with the models of its sheet among its models.

    A model may be in both: the config then says what the sheet has no column for, or more versions.

    Args:
        config: A parsed config; without the key `sheet` it comes back as it is.
        name: What errors call it.

    Raises:
        SettingsError: One line per fault, each with file, line and column.
    """
    path, models = config.get("sheet"), config.get("models") or {}
    if not isinstance(path, str) or not isinstance(models, Mapping):
        return dict(config)
    faults: list[str] = []
    merged = {model: dict(found) if isinstance(found, Mapping) else found for model, found in models.items()}
    lines: dict[tuple[str, int], int] = {}
    contracts: dict[str, tuple[str, int]] = {}
    for row in read_rows(Path(path)):
        where = f"{path}: line {row.line}"
        made = _version_of(row, where, faults)
        if made is None:
            continue
        model, version, contract, entry = made
        if (first := lines.setdefault((model, version), row.line)) != row.line:
            faults.append(f"{where}, column version: version {version} of {model} stands in line {first} already")
            continue
        chosen = merged.setdefault(model, {})
        versions = chosen.get("versions") or {} if isinstance(chosen, dict) else None
        if not isinstance(versions, dict):
            continue  # the config itself is at fault, and told so
        if version in (models.get(model) or {}).get("versions", {}):
            faults.append(f"{where}, column version: version {version} of {model} stands in {name} already")
            continue
        if contract is not None:
            given, line = contracts.setdefault(model, (contract, row.line))
            if given != contract:
                faults.append(
                    f"{where}, column contract: {model} has one contract; line {line} says {given}, this {contract}"
                )
            if chosen.setdefault("contract", contract) != contract and given == contract and line == row.line:
                faults.append(
                    f"{where}, column contract: {name} says {chosen['contract']} for {model}, this {contract}"
                )
        chosen["versions"] = {**versions, version: entry}
    if faults:
        raise SettingsError("\n".join(faults))
    for model, _ in lines:
        merged[model].setdefault("contract", CONTRACT.format(model=model))
    return {**config, "models": merged}


def check_files(settings: Settings) -> None:
    """Do as `settings.check_files`; what is the sheet's fault is told with its line."""
    try:
        checked.check_files(settings)
    except SettingsError as error:
        if settings.sheet is None:
            raise
        lines = {(row.cells["model"], int(row.cells["version"])): row.line for row in read_rows(settings.sheet)}
        raise SettingsError(
            "\n".join(_with_place(told, settings.sheet, lines) for told in str(error).splitlines())
        ) from error


def _with_place(told: str, sheet: Path, lines: Mapping[tuple[str, int], int]) -> str:
    found = _PLACE.match(told)
    if found is None:
        return told
    model, version = found[1], int(found[2]) if found[2] else None
    line = min((line for (m, v), line in lines.items() if m == model and version in {None, v}), default=None)
    column = "contract" if version is None else "path"
    return f"{sheet}: line {line}, column {column}: {told[found.end() :]}" if line else told


def _version_of(row: Row, where: str, faults: list[str]) -> tuple[str, int, str | None, dict[str, Any]] | None:
    """Make of *row* what stands in a config: model, version, contract, entry; None, and *faults*, if it cannot be."""
    content: dict[str, Any] = {}
    for column, cell in row.cells.items():
        try:
            value = _value(column, cell)
        except yaml.YAMLError as error:
            faults.append(f"{where}, column {column}: not YAML: {' '.join(str(error).split())}")
            return None
        keys = column.split(".", 2) if column.startswith("source.") else [column]
        keys = ["source", column] if column in {"kind", "path"} else keys
        inner = content
        for key in keys[:-1]:
            inner = inner.setdefault(key, {})
            if not isinstance(inner, dict):
                faults.append(f"{where}, column {column}: stands beside a column with the whole of {key}")
                return None
        inner[keys[-1]] = value
    content.setdefault("source", {})
    try:
        checked_row = _RowSettings.model_validate(content)
    except ValidationError as error:
        for fault in error.errors():
            column = _column_of(fault, content["source"])
            faults += [f"{where}, column {column}: {text}" for text in fault_texts(fault)]
        return None
    entry: dict[str, Any] = {key: content[key] for key in ("source", "digest") if key in content}
    return checked_row.model, checked_row.version, checked_row.contract, entry


def _value(column: str, cell: Any) -> Any:
    if not isinstance(cell, str):
        return cell
    # An entry of a mapping may be of any type; so may what is written as a list or a mapping.
    is_free = column.count(".") > 1 and not column.startswith("source.sha256.")
    return yaml.safe_load(cell) if is_free or cell[:1] in {"{", "["} else cell


def _column_of(fault: Any, source: Mapping[str, Any]) -> str:
    parts = [str(part) for part in fault["loc"]]
    if parts[:1] != ["source"]:
        return parts[0] if parts else "model"
    if fault["type"].startswith("union_tag"):
        return "kind"
    # The kind stands in the path to the fault, as the branch of the union that was taken.
    inner = parts[2:] if parts[1:2] == [str(source.get("kind"))] else parts[1:]
    return "path" if inner == ["path"] else ".".join(["source", *inner])


def read_rows(path: Path) -> Iterator[Row]:
    """
    Read the rows of the sheet at *path*.

    Raises:
        SettingsError: It is not there, is no table, or its heading has faults.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise SettingsError(f"{path}: no sheet there ({error.strerror}). `sheet` in the config names it.") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise SettingsError(f"{path}: line {line}: not UTF-8 text") from error
    if path.suffix in _DELIMITERS:
        yield from _read_table(path, text, _DELIMITERS[path.suffix])
    elif path.suffix in {".yaml", ".yml", ".json"}:
        yield from _read_yaml(path, text)
    else:
        raise SettingsError(
            f"{path}: expected a sheet in .csv, .tsv, .yaml or .json, found {path.suffix or 'no suffix'}"
        )


def _read_table(path: Path, text: str, delimiter: str) -> Iterator[Row]:
    reader = csv.reader(text.splitlines(keepends=True), delimiter=delimiter, strict=True)
    heading: list[str] = []
    before = 0
    try:
        for found in reader:
            line, before = before + 1, reader.line_num
            cells = [cell.strip() for cell in found]
            if not any(cells):
                continue
            if not heading:
                heading = cells
                _check_heading(path, line, heading)
                continue
            if len(cells) > len(heading) and any(cells[len(heading) :]):
                raise SettingsError(
                    f"{path}: line {line}, column {len(heading) + 1}: {cells[len(heading)]!r} has no heading; "
                    f"there are {len(heading)} columns"
                )
            yield Row(line, {column: cell for column, cell in zip(heading, cells, strict=False) if cell})
    except csv.Error as error:
        raise SettingsError(f"{path}: line {reader.line_num}: no such table: {error}") from error
    if not heading:
        raise SettingsError(f"{path}: empty; expected a heading with the columns model, version, kind, path")


def _check_heading(path: Path, line: int, heading: list[str]) -> None:
    faults = [
        f"column {number}: there is no column {name!r}; there are {', '.join(_COLUMNS)} and source.KEY"
        for number, name in enumerate(heading, 1)
        if name not in _COLUMNS and not _SOURCE_COLUMN.fullmatch(name)
    ]
    faults += [f"column {name}: stands there twice" for name in sorted({n for n in heading if heading.count(n) > 1})]
    faults += [f"column {name}: missing" for name in ("model", "version") if name not in heading]
    if faults:
        raise SettingsError("\n".join(f"{path}: line {line}, {fault}" for fault in faults))


def _read_yaml(path: Path, text: str) -> Iterator[Row]:
    try:
        root, rows = cast("yaml.SequenceNode", yaml.compose(text, yaml.SafeLoader)), yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingsError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(rows, list):
        raise SettingsError(f"{path}: expected a list with a mapping for each version, found {type(rows).__name__}")
    for node, row in zip(root.value, rows, strict=True):
        line = node.start_mark.line + 1
        if not isinstance(row, dict):
            raise SettingsError(f"{path}: line {line}: expected a mapping, found {row!r}")
        inner = row.get("source")
        nested = {f"source.{key}": value for key, value in inner.items()} if isinstance(inner, dict) else {}
        flat = {key: value for key, value in row.items() if key != "source" or not isinstance(inner, dict)} | nested
        flat = {{"source.kind": "kind", "source.path": "path"}.get(str(key), str(key)): v for key, v in flat.items()}
        _check_heading(path, line, list(flat))
        yield Row(line, {key: value for key, value in flat.items() if value is not None})
