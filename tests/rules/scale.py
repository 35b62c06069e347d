"""
Time a dry run of the line over many models: `python tests/rules/scale.py [MODELS]`, two versions each.

Two projects, one with the models in config.yaml and one with them in a sheet, take turns, so that what else the machine
does falls on both. No test: a time that is asserted fails on a busy machine. That contracts are read once is tested in
test_dag.py.
"""

import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROUNDS = 3


def project(directory: Path, models: int, *, sheet: bool) -> Path:
    """Copy the workflow to *directory*, with a config of *models* models of two versions and one contract."""
    for name in ("rules", "profiles", "config", "deploy"):
        shutil.copytree(ROOT / name, directory / name)
    shutil.copy(ROOT / "Snakefile", directory)
    contract = "config/contracts/digits.yaml"
    if sheet:
        rows = [f"m{m},{v},builtin,{m},{v},{contract}" for m in range(models) for v in (1, 2)]
        heading = "model,version,kind,source.seed,source.epochs,contract"
        (directory / "models.csv").write_text("\n".join([heading, *rows]))
        (directory / "config/config.yaml").write_text("format: 1\nsheet: models.csv\n")
    else:
        entries = [
            f"  m{m}:\n    contract: {contract}\n    versions:\n"
            + "".join(f"      {v}: {{source: {{kind: builtin, seed: {m}, epochs: {v}}}}}\n" for v in (1, 2))
            for m in range(models)
        ]
        (directory / "config/config.yaml").write_text(f"format: 1\nmodels:\n{''.join(entries)}")
    return directory


def dry_run(directory: Path) -> tuple[float, float, int]:
    """Run `snakemake -n` once and give wall and CPU time in seconds, and how many jobs it found."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [Path(sys.executable).with_name("snakemake"), "-n"], cwd=directory, capture_output=True, text=True, check=True
    )
    after, ended = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    jobs = next(int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("total "))
    return ended - began, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, jobs


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    models = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with tempfile.TemporaryDirectory() as place:
        projects = {
            "config.yaml": project(Path(place, "config"), models, sheet=False),
            "sheet": project(Path(place, "sheet"), models, sheet=True),
        }
        say("| models in | jobs | wall_s | cpu_s |\n| --- | --- | --- | --- |")
        for _ in range(ROUNDS):
            for name, directory in projects.items():
                wall, cpu, jobs = dry_run(directory)
                say(f"| {name} | {jobs} | {wall:.1f} | {cpu:.1f} |")
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        say(f"\nLargest process: {peak:.0f} MiB")


if __name__ == "__main__":
    main()
