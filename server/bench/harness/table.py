"""The results of a run as Markdown."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.rounds import Found, spread

_HALF = 300


def markdown(results: Mapping[str, Any]) -> str:
    """
    Tell *results*.

    Args:
        results: What `overhead.json` holds: `environment`, `rounds`, `seconds`, `targets`, and, where they were measured,
            `tables` (title -> cell name -> rounds, per_s, cpu_us, generator_cpu), `latency`, `large`, `peers`, `skipped`.
    """
    return "\n".join(
        [
            *_heading(results),
            *_targets(results["targets"]),
            *(
                line
                for what, why in results["skipped"].items()
                for line in ("", f"{what} was left out: {_sentence(why)}.")
            ),
            *(line for title, cells in results["tables"].items() for line in _cells(title, cells)),
            *_latency(results.get("latency", {})),
            *_large(results.get("large", {})),
            *_tuning(results.get("tuning", {})),
            "",
        ]
    )


def _heading(results: Mapping[str, Any]) -> Iterator[str]:
    environment = results["environment"]
    yield (
        f"{results['rounds']} rounds of {results['seconds']:g} s, {environment['cpus']} CPUs ({environment['machine']}), "
        f"Python {environment['python']}, a load of {environment['load_1m_at_start']:.1f} at the start; "
        "median (smallest to largest)."
    )


def _targets(targets: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not targets:
        return
    yield from ("", "| ratio or rate | found | wanted | |", "|---|--:|--:|---|")
    for target in targets:
        wanted = met = ""
        if target["wanted"] is not None:
            wanted = f"{'≥' if target['is_at_least'] else '≤'} {target['wanted']:,g}"
            met = "met" if target["is_met"] else "**not met**"
        yield f"| {target['name']} | {shown(target['found'])} | {wanted} | {met} |"


def _cells(title: str, cells: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    yield from (
        "",
        f"### {title}",
        "",
        "| | requests/s | server CPU, µs/request | generator CPU |",
        "|---|--:|--:|--:|",
    )
    for name, cell in cells.items():
        generator = f"{cell['generator_cpu']['median']:.2f}" if "generator_cpu" in cell else ""
        yield f"| {name} | {shown(cell['per_s'])} | {shown(cell['cpu_us'])} | {generator} |"


def _latency(cells: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    if not cells:
        return
    yield from (
        "",
        "### At half of the rate that is reached, open loop",
        "",
        "| | requests/s | answers a round | p50, ms | p99, ms | sent too late by, p99, ms |",
        "|---|--:|--:|--:|--:|--:|",
    )
    for name, cell in cells.items():
        keys = ("per_s", "answers", "p50_ms", "p99_ms", "late_p99_ms")
        yield f"| {name} | {' | '.join(shown(cell[key]) for key in keys)} |"
    if any(cell["answers"]["min"] < 100 for cell in cells.values()):
        yield from ("", "p99 of fewer than 100 answers is the slowest of them.")


def _large(models: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    if not models:
        return
    first = next(iter(models.values()))["rounds"][0]
    yield from (
        "",
        f"### 224x224x3, batch 32 ({first['json_mb']:.0f} MB of JSON, {first['float_mb']:.0f} MB of float32), one at a time",
        "",
        "| model | REST p50, ms | gRPC p50, ms | REST : gRPC |",
        "|---|--:|--:|--:|",
    )
    for name, cell in models.items():
        numbers = (shown(spread([one[key] for one in cell["rounds"]])) for key in ("rest_ms", "grpc_ms", "ratio"))
        yield f"| {name} | {' | '.join(numbers)} |"


def _sentence(why: str) -> str:
    """Write what a server or a load generator said within a line, its middle left out if it is long: `overhead.json` has it."""
    words = " ".join(why.split()).rstrip(".")
    return words if len(words) <= 2 * _HALF else f"{words[:_HALF]} … {words[-_HALF:]}"


def _tuning(tried: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    tried = {who: settings for who, settings in tried.items() if settings}
    if not tried:
        return
    yield from ("", "### Settings tried of other servers, one short window each", "", "| | requests/s |", "|---|--:|")
    for who, settings in tried.items():
        best = max(settings, key=lambda setting: settings[setting])
        for setting, per_s in settings.items():
            yield f"| {who}: {setting} | {'**' if setting == best else ''}{per_s:,.0f}{'**' if setting == best else ''} |"


def shown(found: Found) -> str:
    """Write a median with the smallest and the largest value."""

    def number(value: float) -> str:
        return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"

    return f"{number(found['median'])} ({number(found['min'])} to {number(found['max'])})"
