"""
How often does `slipway compare` cry wolf, and how small a slowdown does it find? A series of comparisons tells.

    .venv/bin/python tests/tools/compare_series.py --project . --count 40                  # A/A: base against itself
    .venv/bin/python tests/tools/compare_series.py --project . --count 20 --slower 0.10    # A/B: 10 % more CPU per request

Both sides are the same project, in which `snakemake images` has run, served by plain processes of this `.venv`. For an A/B
series head's server burns more CPU for every request, on the thread that takes requests: a share of what a request over
the same protocol costs base, which a short comparison measures first. Nothing of that is in the server: head's
interpreter is a script that starts `slowed_server.py` beside this file. What follows `--` goes to `slipway compare`.

Runs for hours: a comparison takes minutes, and the machine must be left alone. Each keeps its files below --out, and one that
is there already is not run again.
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

HERE = Path(__file__).resolve().parent


def make_side(project: Path, side: Path, extra_us: Mapping[str, float]) -> Path:
    """Make a project at *side* that is *project*, served by plain processes that burn *extra_us* for every request."""
    (side / "config").mkdir(parents=True, exist_ok=True)
    (side / ".venv/bin").mkdir(parents=True, exist_ok=True)
    config = yaml.safe_load((project / "config/config.yaml").read_text(encoding="utf-8"))
    config.setdefault("launch", {})["engine"] = "process"
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
        f'#!/bin/sh\nshift 3\nexec "{sys.executable}" -I "{HERE / "slowed_server.py"}" "{burnt}" "$@"\n',
        encoding="utf-8",
    )
    python.chmod(0o755)
    return side


def compare(base: Path, head: Path, out: Path, seed: int, more: Sequence[str]) -> dict[str, Any]:
    """Run one comparison, or read the one that is there."""
    if not (out / "comparison.json").exists():
        argv = [sys.executable, "-m", "slipway", "compare", "--base", str(base), "--head", str(head)]
        done = subprocess.run(
            [*argv, "--out", str(out), "--seed", str(seed), *more], check=False, stdout=subprocess.DEVNULL
        )
        if not (out / "comparison.json").exists():
            raise SystemExit(
                f"{out}: slipway compare ended with exit code {done.returncode} and left nothing; see above"
            )
    read: dict[str, Any] = json.loads((out / "comparison.json").read_text(encoding="utf-8"))
    return read


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
    for name in dict.fromkeys(metric["id"] for one in comparisons for metric in one["metrics"]):
        metrics = [metric for one in comparisons for metric in one["metrics"] if metric["id"] == name]
        states = Counter(metric["state"] if metric["gates"] else "silent" for metric in metrics)
        known = [metric for metric in metrics if metric["low"] is not None]
        change = f"{(statistics.median(m['ratio'] for m in known) - 1) * 100:+.1f} %" if known else "–"
        width = f"{statistics.median(m['high'] - m['low'] for m in known) * 100:.1f} points" if known else "–"
        pairs = f"{statistics.median(metric['pairs'] for metric in metrics):g}"
        undecided = states["inconclusive"] + states["open"]
        lines.append(
            f"| {name} | {states['fail']} | {states['pass']} | {undecided} | {states['silent']} | {change} | {width} | {pairs} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the series; print what it found after each comparison, so that a stopped one has told something."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--project", type=Path, default=Path(), help="in which `snakemake images` has run")
    parser.add_argument("--count", type=int, default=40, help="comparisons; default: 40")
    parser.add_argument(
        "--slower", type=float, default=0.0, metavar="SHARE", help="0.1: 10 %% more CPU per request in head"
    )
    parser.add_argument("--out", type=Path, default=Path("results/series"), help="default: results/series")
    arguments, more = parser.parse_known_args()
    more = [word for word in more if word != "--"]
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    out = (arguments.out / (f"slower-{arguments.slower:g}" if arguments.slower else "alike")).resolve()
    base = make_side(arguments.project, out / "base", {})
    extra = {}
    if arguments.slower:
        first = cpu_us(compare(base, base, out / "first", 0, [*more, "--no-latency"]))
        extra = {protocol: us * arguments.slower for protocol, us in first.items()}
        sys.stdout.write(f"base takes {first} µs of CPU per request; head burns {extra} more\n")
    head = make_side(arguments.project, out / "head", extra)
    done = []
    for number in range(1, arguments.count + 1):
        done.append(compare(base, head, out / f"{number:03}", number, more))
        sys.stdout.write(f"{number}: {done[-1]['verdict']}: {'; '.join(done[-1]['reasons'])}\n")
        sys.stdout.flush()
    (out / "series.md").write_text(told(done), encoding="utf-8")
    sys.stdout.write(f"\n{told(done)}")


if __name__ == "__main__":
    main()
