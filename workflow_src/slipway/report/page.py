"""Result -> one self-contained HTML page. A pure function: the same result gives the same bytes, anywhere."""

import base64
import hashlib
import json
from dataclasses import dataclass
from typing import Any

import jinja2
from markupsafe import Markup

from slipway import files
from slipway.records import Environment, Result
from slipway.report import numbers, sections
from slipway.report.blocks import Part
from slipway.report.content import measurements, slug
from slipway.report.verdict import State, judge, worst

# A result larger than this is linked, not carried along: the page must stay quick to open from an archive.
_MOST_EMBEDDED_BYTES = 600_000


@dataclass(frozen=True, slots=True)
class Page:
    """
    A page, ready to be written out.

    Attributes:
        title: Of the window, the verdict in it.
        heading: Of the page.
        meta: One line under it: when, where, from what.
        state: The worst verdict, for the colour of the page's edge.
        parts: In reading order.
        navigation: Sections (one thing measured) or parts (several) to jump to.
        embedded: result.json for the download without the file beside; "" if it is too large.
        digest: Of result.json.
        footer: Last line.
        data: Name of the file with the data, for the digest.
    """

    title: str
    heading: str
    meta: tuple[str, ...]
    state: State
    parts: tuple[Part, ...]
    navigation: tuple[tuple[str, str], ...]
    embedded: str
    digest: str
    footer: str
    data: str = "result.json"


def result_bytes(result: Result) -> bytes:
    """Write *result* as it stands in result.json."""
    return files.canonical_json(result.jsonable())


def build_page(result: Result) -> Page:
    """Lay out everything that *result* says."""
    measured = measurements(result)
    verdicts = [judge(measurement) for measurement in measured]
    parts = [
        Part(
            id=measurement.anchor,
            title=f"{measurement.model.model}, version {measurement.version.version}",
            subtitle=measurement.version.checkpoint.description,
            sections=sections.of_measurement(measurement, verdict, result),
        )
        for measurement, verdict in zip(measured, verdicts, strict=True)
    ]
    parts += [
        Part(f"model-{slug(model.model)}", f"The model {model.model}", "", sections.of_model(model))
        for model in result.models
    ]
    parts.append(Part("run", "This run", "", sections.of_run(result, measured)))
    state = worst(verdicts)
    word = verdicts[0].word if len(verdicts) == 1 else f"{len(verdicts)} measurements"
    written = result_bytes(result)
    compact = json.dumps(json.loads(written), ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return Page(
        title=f"{result.title} – Slipway report – {word}",
        heading=result.title,
        meta=page_meta(result.created, result.environment),
        state=state,
        parts=tuple(parts),
        navigation=_navigation(parts, several=len(measured) != 1 or len(result.models) != 1),
        embedded=compact if len(compact) <= _MOST_EMBEDDED_BYTES else "",
        digest=files.sha256_bytes(written),
        footer=f"Slipway {result.environment.slipway} · run {result.run_id}",
    )


def page_meta(created: str, where: Environment) -> tuple[str, ...]:
    """Say in a few words when, where and from which commit."""
    commit = f"commit {where.commit[:10]}{' + changes' if where.dirty else ''}" if where.commit else "no commit"
    return (
        numbers.moment(created),
        f"{numbers.counted(where.logical_cpus, 'CPU')} · {where.cpu}",
        ", ".join(where.gpus) or "no GPU",
        commit,
    )


def _navigation(parts: list[Part], *, several: bool) -> tuple[tuple[str, str], ...]:
    if several:
        return tuple((part.id, part.title) for part in parts)
    return tuple((section.id, section.short) for part in parts for section in part.sections if section.short)


# --- templates -------------------------------------------------------------------------------------


def render(template: str, **values: Any) -> str:
    """Fill in *template* with *values*, and with the style sheet, the script and the policy that allows no others."""
    environment = _environment()
    style, script = _asset(environment, "report.css"), _asset(environment, "report.js")
    policy = (
        "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src {_hash_source(style)}; script-src {_hash_source(script)}"
    )
    text = environment.get_template(template).render(
        values | {"style": Markup(style), "script": Markup(script), "policy": policy}  # noqa: S704 - our own files
    )
    return text if text.endswith("\n") else text + "\n"


def render_report(result: Result) -> str:
    """Draw the report of *result*."""
    return render("report.html", page=build_page(result))


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("slipway.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["json_script"] = _json_script
    return environment


def _asset(environment: jinja2.Environment, name: str) -> str:
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _hash_source(text: str) -> str:
    """Name an inline style sheet or script in a Content-Security-Policy (CSP level 3, section 2.3.1)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _json_script(text: str) -> Markup:
    """Make JSON safe inside a script element: no character that could end it stays as it is."""
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704 - nothing that HTML knows is left
