"""Say what this machine can and cannot do for the line: tools, engines tried for real, processor, memory, disk, TensorFlow."""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil
from rich.console import Console
from rich.table import Table

from slipway import engines, provenance
from slipway.engines import Trial
from slipway.errors import BuildError, EngineError, SlipwayError
from slipway.oci import probe
from slipway.settings import LaunchSettings, cache_directory

State = Literal["ok", "warning", "missing"]
_MARKS: dict[State, str] = {"ok": "[green]ok[/]", "warning": "[yellow]warning[/]", "missing": "[red]missing[/]"}
_ENOUGH_MEMORY_BYTES = 4e9
# Wheels, layers, an engine's copy of the image, results.
_ENOUGH_DISK_BYTES = 6e9
# TensorFlow's wheels for x86_64 are compiled for these (tensorflow.org/install/pip#hardware-requirements).
_NEEDED_CPU_FLAGS = {"avx"}
_FAST_CPU_FLAGS = ("avx2", "fma", "avx512f", "avx512_bf16", "amx_tile")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the table. `missing`: the line cannot run; `warning`: it runs, with a loss that *detail* names."""

    subject: str
    state: State
    detail: str


def add_arguments(parser: ArgumentParser) -> None:
    """Add the command's arguments: none."""


def run(_arguments: Namespace) -> None:
    """Print the table; fail if something is missing without which the line cannot run."""
    table = Table(box=None, pad_edge=False)
    for column in ("", "", "what was found"):
        table.add_column(column, overflow="fold")
    findings = []
    console = Console()
    with console.status("looking around"):
        for finding in examine():
            findings.append(finding)
            table.add_row(finding.subject, _MARKS[finding.state], finding.detail)
    console.print(table)
    if missing := [finding.subject for finding in findings if finding.state == "missing"]:
        raise SlipwayDoctorError(f"missing: {', '.join(missing)}. `make setup` installs what can be installed.")


class SlipwayDoctorError(SlipwayError):
    """Something is missing without which the line cannot run."""

    exit_code = 1


def examine() -> Iterator[Finding]:
    """Look at everything, cheap things first."""
    yield Finding("Python", "ok", f"{sys.version.split()[0]} ({sys.executable})")
    yield cpu_finding(Path("/proc/cpuinfo"))
    yield memory_finding(psutil.virtual_memory().total)
    yield disk_finding("disk: working directory", Path.cwd())
    yield disk_finding("disk: cache", cache_directory(os.environ))
    yield gpu_finding()
    yield git_finding()
    yield mmdebstrap_finding(os.geteuid(), Path("/etc/subuid"))
    yield from engine_findings()
    yield tensorflow_finding()


def cpu_finding(cpuinfo: Path) -> Finding:
    """Judge the processor by what the kernel says of it."""
    described = provenance.environment()
    text = cpuinfo.read_text(encoding="utf-8", errors="replace") if cpuinfo.exists() else ""
    flags = next((set(line.partition(":")[2].split()) for line in text.splitlines() if line.startswith("flags")), set())
    detail = f"{described.cpu}, {described.logical_cpus} logical; {', '.join(f for f in _FAST_CPU_FLAGS if f in flags)}"
    if flags and not flags >= _NEEDED_CPU_FLAGS:
        return Finding("processor", "missing", f"{detail}; TensorFlow's wheels need AVX")
    if described.logical_cpus < 2:
        return Finding("processor", "warning", f"{detail}; server and load generator will share one core")
    return Finding("processor", "ok", detail.rstrip("; "))


def memory_finding(total_bytes: float) -> Finding:
    """Judge the memory."""
    state: State = "ok" if total_bytes >= _ENOUGH_MEMORY_BYTES else "warning"
    short = "" if state == "ok" else f"; {_ENOUGH_MEMORY_BYTES / 1e9:.0f} GB are comfortable"
    return Finding("memory", state, f"{total_bytes / 1e9:.1f} GB{short}")


def disk_finding(subject: str, place: Path) -> Finding:
    """Judge the free space where *place* is or will be."""
    existing = next(path for path in (place, *place.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if not os.access(existing, os.W_OK):
        return Finding(subject, "missing", f"{place}: cannot be written")
    if free < _ENOUGH_DISK_BYTES:
        return Finding(
            subject, "warning", f"{place}: {free / 1e9:.1f} GB free; {_ENOUGH_DISK_BYTES / 1e9:.0f} GB are comfortable"
        )
    return Finding(subject, "ok", f"{place}: {free / 1e9:.0f} GB free")


def gpu_finding() -> Finding:
    """Name the GPUs; the line runs without."""
    return Finding("GPU", "ok", "; ".join(provenance.environment().gpus) or "none; everything runs on the processor")


def git_finding() -> Finding:
    """Whether the commit can be told."""
    if shutil.which("git") is None:
        return Finding("git", "warning", "not installed; the image and the report will not know the commit")
    return Finding("git", "ok", "installed")


def mmdebstrap_finding(user: int, subuid: Path) -> Finding:
    """Whether the image's base can be made."""
    if shutil.which("mmdebstrap") is None:
        return Finding("mmdebstrap", "missing", "not installed: sudo apt-get install mmdebstrap")
    if user == 0:
        return Finding("mmdebstrap", "ok", "installed; runs as root")
    if subuid.exists() and subuid.read_text(encoding="utf-8").strip():
        return Finding("mmdebstrap", "ok", "installed; runs in a user namespace")
    detail = "installed, but this user has no subordinate ids: sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $USER"
    return Finding("mmdebstrap", "missing", detail)


def engine_findings() -> Iterator[Finding]:
    """Try every engine with a tiny image, up to the first that works."""
    subject = "container engine"
    with tempfile.TemporaryDirectory() as name:
        place = Path(name, "layout")
        try:
            image = probe.write_probe_image(place)
        except BuildError as error:
            yield Finding(subject, "warning", f"could not be tried: {error}")
            return
        trial = Trial(probe.ENTRYPOINT, probe.probe_arguments("42"), "42")
        for engine in engines.CANDIDATES:
            try:
                version = engines.try_engine(engine, place, image, LaunchSettings(memory="256m"), trial)
            except EngineError as error:
                yield Finding(engine.name, "warning", str(error))
            else:
                yield Finding(engine.name, "ok", f"{version} runs containers; this one will be used")
                return
            finally:
                if shutil.which(engine.program):
                    engines.forget(engine, image)
    yield Finding(
        subject, "warning", "none works; servers will run as plain local processes, and the report will say so"
    )


def tensorflow_finding() -> Finding:
    """Import TensorFlow in a process of its own: on a processor it was not compiled for it dies by a signal."""
    if importlib.util.find_spec("tensorflow") is None:
        return Finding("TensorFlow", "missing", "not installed")
    code = "import tensorflow as tf; print(tf.__version__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return Finding("TensorFlow", "ok", done.stdout.strip())
    last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    return Finding("TensorFlow", "missing", f"import fails: {last}")
