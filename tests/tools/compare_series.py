"""
How often does `slipway compare` cry wolf, and how small a slowdown does it find? A series of comparisons tells.

    .venv/bin/python tests/tools/compare_series.py --project . --count 40                  # A/A: base against itself
    .venv/bin/python tests/tools/compare_series.py --project . --count 20 --slower 0.10    # A/B: 10 % more CPU per request
    .venv/bin/python tests/tools/compare_series.py --project . --count 20 --batch-timeout 5000    # A/B: batches wait 5 ms

Both sides are the same project, in which `snakemake images` has run, served by plain processes of this `.venv`. In an A/B
series head's server burns more CPU for every request, on the thread that takes requests: a share of what a request over
the same protocol costs base, which a short comparison measures first. Or its batches wait for more requests, longer than the
project's config has it: that costs no CPU time, and must show in the p99 at half of base's peak. Nothing of that is in the
server: head's interpreter is a script that starts `slowed_server.py` beside this file with more flags.

What follows `--` goes to `slipway compare`. With `--no-latency --window 0.8` (server CPU and throughput) a comparison takes some
50 s, 5 s less with `--no-calibration`, with `--no-throughput --window 1` (latency alone) a minute, or twice as long where something
got worse. A model that answers under 530 requests/s gets longer windows of latency, for its p99; `--open-window 2` keeps them short.

The machine must be left alone meanwhile. Each comparison keeps its files below --out, and one that came to its end is not run
again: a series that was stopped goes on where it was when it is started with the same words.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from slipway import procs
from slipway.oci.serving_config import batching_config
from slipway.settings import BatchingSettings

HERE = Path(__file__).resolve().parent


def make_side(
    project: Path, side: Path, extra_us: Mapping[str, float], batch_timeout_micros: int | None = None
) -> Path:
    """
    Make a project at *side* that is *project*, served by plain processes.

    Args:
        project: In which `snakemake images` has run.
        side: Directory to make.
        extra_us: CPU time that the server burns for every request, by protocol.
        batch_timeout_micros: How long its batches wait for more requests; None: as *project* has it.
    """
    (side / "config").mkdir(parents=True, exist_ok=True)
    (side / ".venv/bin").mkdir(parents=True, exist_ok=True)
    config = yaml.safe_load((project / "config/config.yaml").read_text(encoding="utf-8"))
    config.setdefault("launch", {})["engine"] = "process"
    flags = ""
    if batch_timeout_micros is not None:
        # The image has its own still: a later flag wins.
        batching = {**config["server"]["batching"], "batch_timeout_micros": batch_timeout_micros}
        config["server"]["batching"] = batching
        parameters = side.resolve() / "batching.config"
        parameters.write_text(batching_config(BatchingSettings.model_validate(batching)), encoding="utf-8")
        flags = f' "--batching_parameters_file={parameters}"'
    (side / "config/config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    for path in project.iterdir():
        if path.name not in {"config", ".venv", ".git"} and not (side / path.name).exists():
            (side / path.name).symlink_to(path.resolve())
    for path in (project / "config").iterdir():
        if path.name != "config.yaml" and not (side / "config" / path.name).exists():
            (side / "config" / path.name).symlink_to(path.resolve())
    python = side / ".venv/bin/python"
    burnt = ",".join(f"{protocol}={us:.3f}" for protocol, us in sorted(extra_us.items()))
    # It is called as `python -I -m slipway_server FLAGS…`.
    python.write_text(
        f'#!/bin/sh\nshift 3\nexec "{sys.executable}" -I "{HERE / "slowed_server.py"}" "{burnt}" "$@"{flags}\n',
        encoding="utf-8",
    )
    python.chmod(0o755)
    return side


def finished(out: Path) -> dict[str, Any] | None:
    """Read the comparison at *out*; None if there is none, or if it was stopped."""
    path = out / "comparison.json"
    if not path.exists():
        return None
    read: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return None if read["cut_short"].startswith("stopped by") else read


def compare(base: Path, head: Path, out: Path, seed: int, more: Sequence[str]) -> dict[str, Any]:
    """Run one comparison, or read the one that is there; what it tells meanwhile is in a log beside *out*."""
    if (read := finished(out)) is not None:
        return read
    argv = [sys.executable, "-m", "slipway", "compare", "--base", str(base), "--head", str(head)]
    log = out.with_suffix(".log")
    with log.open("wb") as told:
        done = subprocess.run(
            [*argv, "--out", str(out), "--seed", str(seed), *more], check=False, stdout=told, stderr=told
        )
    read = finished(out)
    if read is None:
        raise SystemExit(f"{out}: slipway compare came to no end, exit code {done.returncode}; its log: {log}")
    return read


def line(number: int, comparison: Mapping[str, Any]) -> str:
    """Tell of one comparison: `7: fail, 61 s: p99 response latency, …`."""
    return f"{number}: {comparison['verdict']}, {comparison['duration_s']:.0f} s: {'; '.join(comparison['reasons'])}\n"


def check_alike(out: Path, words: Mapping[str, Any]) -> None:
    """Keep what the series at *out* was started with; end if it was begun with something else."""
    path = out / "series.json"
    out.mkdir(parents=True, exist_ok=True)
    if path.exists() and (before := json.loads(path.read_text(encoding="utf-8"))) != words:
        raise SystemExit(f"{out}: was begun with {before}, now it is {words}. Name another --out, or remove it.")
    path.write_text(json.dumps(words), encoding="utf-8")


def cpu_us(comparison: Mapping[str, Any]) -> dict[str, float]:
    """Read base's CPU time per request, by protocol: median over all windows that have one."""
    found: dict[str, list[float]] = {}
    for cell in comparison["cells"]:
        for pair in cell["pairs"]:
            if cell["load"]["kind"] == "closed" and (used := pair["base"]["server_cpu_us_per_request"]):
                found.setdefault(cell["protocol"], []).append(used)
    return {protocol: statistics.median(values) for protocol, values in found.items()}


def told(comparisons: Sequence[Mapping[str, Any]]) -> str:
    """
    Sum a series up.

    Returns:
        Verdicts, and for each metric how often it stood how, and the median of its estimate and of its interval's width.
    """
    verdicts = Counter(one["verdict"] for one in comparisons)
    lines = [
        f"{len(comparisons)} comparisons: "
        + ", ".join(f"{count} {verdict}" for verdict, count in verdicts.most_common()),
        "",
        "| metric | fail | pass | undecided | void or told only | change, median | width of the 95 % interval, median | pairs, median |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    # Not by their ids, which hold the rate that each comparison chose.
    for protocol, name in dict.fromkeys((m["protocol"], m["metric"]) for one in comparisons for m in one["metrics"]):
        metrics = [m for one in comparisons for m in one["metrics"] if (m["protocol"], m["metric"]) == (protocol, name)]
        states = Counter(metric["state"] if metric["gates"] else "silent" for metric in metrics)
        known = [metric for metric in metrics if metric["low"] is not None]
        change = f"{(statistics.median(m['ratio'] for m in known) - 1) * 100:+.1f} %" if known else "–"
        width = f"{statistics.median(m['high'] - m['low'] for m in known) * 100:.1f} points" if known else "–"
        pairs = f"{statistics.median(metric['pairs'] for metric in metrics):g}"
        undecided = states["inconclusive"] + states["open"]
        lines.append(
            f"| {protocol}, {name} | {states['fail']} | {states['pass']} | {undecided} | {states['silent']} | {change} | {width} | {pairs} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the series; print what it found after each comparison, so that a stopped one has told something."""
    # Else a comparison that is under way would go on without us.
    procs.exit_on_signals()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--project", type=Path, default=Path(), help="in which `snakemake images` has run")
    parser.add_argument("--count", type=int, default=40, help="comparisons; default: 40")
    parser.add_argument(
        "--slower", type=float, default=0.0, metavar="SHARE", help="0.1: 10 %% more CPU per request in head"
    )
    parser.add_argument(
        "--batch-timeout", type=int, metavar="MICROS", help="how long head's batches wait for more requests"
    )
    parser.add_argument("--out", type=Path, default=Path("results/series"), help="default: results/series")
    arguments, more = parser.parse_known_args()
    more = [word for word in more if word != "--"]
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    differs = [f"slower-{arguments.slower:g}"] if arguments.slower else []
    differs += [f"batch-timeout-{arguments.batch_timeout}"] if arguments.batch_timeout is not None else []
    out = (arguments.out / ("-".join(differs) or "alike")).resolve()
    check_alike(out, {"project": str(arguments.project.resolve()), "slipway compare": more})
    base = make_side(arguments.project, out / "base", {})
    extra = {}
    if arguments.slower:
        first = cpu_us(compare(base, base, out / "first", 0, ["--no-latency", "--window", "1"]))
        extra = {protocol: us * arguments.slower for protocol, us in first.items()}
        sys.stdout.write(f"base takes {first} µs of CPU per request; head burns {extra} more\n")
    head = make_side(arguments.project, out / "head", extra, arguments.batch_timeout)
    done = []
    for number in range(1, arguments.count + 1):
        done.append(compare(base, head, out / f"{number:03}", number, more))
        sys.stdout.write(line(number, done[-1]))
        sys.stdout.flush()
        (out / "series.md").write_text(told(done), encoding="utf-8")
    sys.stdout.write(f"\n{told(done)}")


if __name__ == "__main__":
    main()
