"""Base and head: what the line made of a project, in its directory, for a git revision of it, or for that of a result."""

import datetime as dt
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from slipway import golden, logs, payloads, procs
from slipway.compare.records import Subject
from slipway.contract import Contract, read_contract
from slipway.errors import SettingsError, SourceError
from slipway.records import ImageRecord, Result, ServableRecord
from slipway.servers import ServerSpec
from slipway.settings import Settings, parse_settings
from slipway_wire.payloads import Payload

CONFIG = Path("config/config.yaml")
# Where revisions are checked out and built, below the project's directory.
REVISIONS = Path(".slipway/revisions")


@dataclass(frozen=True, slots=True)
class Side:
    """
    One side of a comparison, ready to be started and loaded.

    Attributes:
        record: What comparison.json says of it.
        spec: The server.
        sent: Requests with the answers this side's checkpoint gives.
        golden: Rows and answers of its checkpoint.
        contract: Its contract.
        is_image: Whether it is an image by itself, which a plain process cannot stand for.
    """

    record: Subject
    spec: ServerSpec
    sent: Sequence[Payload]
    golden: golden.Golden
    contract: Contract
    is_image: bool = False


def locate(place: str, project: Path) -> Path:
    """
    Find what *place* means: a directory with a project in it, or a revision of *project*, which is then built.

    A result.json means the revision that was measured in it: its numbers are of another hour, so it is measured again.

    Args:
        place: Directory, revision or result.json.
        project: A directory inside a git repository, for revisions.

    Returns:
        A project directory whose images are there.

    Raises:
        SettingsError: It is neither.
        SourceError: The revision cannot be built.
    """
    if is_project(place):
        return Path(place)
    if is_result(place):
        return _built(_measured_commit(Path(place), project), place, project)
    commit = git(project, "rev-parse", "--verify", "--quiet", f"{place}^{{commit}}")
    if commit is None:
        raise SettingsError(
            f"{place}: expected a directory with {CONFIG}, a revision of the git repository at {project.resolve()}, an OCI "
            "layout of an image, or a result.json; found none of them"
        )
    return _built(commit, place, project)


def is_project(place: str) -> bool:
    """Say whether *place* is a directory with a project in it."""
    return Path(place, CONFIG).is_file()


def is_result(place: str) -> bool:
    """Say whether *place* is the file of a result."""
    return place.endswith(".json") and Path(place).is_file()


def _measured_commit(path: Path, project: Path) -> str:
    where = Result.read(path).environment
    if where.commit is None or where.dirty:
        found = f"{where.commit[:12]} and changes that are in no commit" if where.commit else "no commit"
        raise SourceError(
            f"{path}: was measured at {found}, so it cannot be made again and measured beside the head. "
            "Name a revision or a directory instead; how stored numbers moved is in the history of `slipway publish`."
        )
    if git(project, "cat-file", "-e", f"{where.commit}^{{commit}}") is None:
        raise SourceError(
            f"{path}: was measured at {where.commit[:12]}, which the git repository at {project.resolve()} does not have. "
            "Fetch it first."
        )
    return where.commit


def _built(commit: str, place: str, project: Path) -> Path:
    directory = (project / REVISIONS / commit[:12]).resolve()
    if not (directory / CONFIG).is_file():
        git(project, "worktree", "prune")
        if git(project, "worktree", "add", "--detach", "--force", str(directory), commit) is None:
            raise SourceError(
                f"{place}: git could not check it out at {directory}. Try: git worktree add {directory} {commit}"
            )
    if not _same_locks(directory, project):
        raise SourceError(
            f"{place}: its locks/dev.txt is not this project's, so it cannot be built with the packages installed here. "
            f"In {directory}: make setup && .venv/bin/snakemake --cores all images; then compare with that directory."
        )
    _make_environment(directory)
    log = directory / "build.log"
    sys.stderr.write(f"Building the images of {place} ({commit[:12]}); its log: {log}\n")
    with log.open("wb") as output:
        argv = [str(directory / ".venv/bin/python"), "-m", "snakemake", "--cores", "all", "images"]
        process = procs.start_owned(argv, log=output.fileno(), cwd=directory)
        code = process.wait()
    if code != 0:
        said = "".join(f"\n    {line}" for line in logs.errors_in(log))
        raise SourceError(
            f"{place}: `snakemake images` ended with exit code {code} in {directory}. Its log: {log}{said}"
        )
    return directory


def _same_locks(one: Path, other: Path) -> bool:
    return _content(one / "locks/dev.txt") == _content(other / "locks/dev.txt")


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _make_environment(directory: Path) -> None:
    """Give the revision its own interpreter: this one's packages, its own sources in front."""
    environment = directory / ".venv"
    if (environment / "ready").exists():
        return
    shutil.rmtree(environment, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    [packages] = environment.glob("lib/python*/site-packages")
    here = [path for path in sys.path if path.endswith("site-packages")]
    sources = [str(directory / name) for name in ("workflow_src", "server", "loadtests")]
    (packages / "00-slipway.pth").write_text("".join(f"{path}\n" for path in [*sources, *here]), encoding="utf-8")
    for name, module in (("slipway", "slipway"), ("slipway-server", "slipway_server"), ("snakemake", "snakemake")):
        command = environment / "bin" / name
        command.write_text(f'#!/bin/sh\nexec "{environment}/bin/python" -m {module} "$@"\n', encoding="utf-8")
        command.chmod(0o755)
    (environment / "ready").touch()


def git(directory: Path, *arguments: str) -> str | None:
    """Ask git about *directory*; None if it has no answer."""
    try:
        done = subprocess.run(
            ["git", "-C", str(directory), *arguments],
            capture_output=True,
            text=True,
            check=True,
            # A hook or a wrapper may have set them for the repository that called us.
            env={name: value for name, value in os.environ.items() if name not in {"GIT_DIR", "GIT_INDEX_FILE"}},
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def read_side(
    place: str, directory: Path, *, model: str | None, version: int | None, signature: str | None, rows: int
) -> Side:
    """
    Read what the line left in *directory*.

    Args:
        place: What the user called it.
        directory: A project whose images were made.
        model: Which of its models; None: its only one.
        version: Which version; None: the one its benchmark measures, or the newest.
        signature: The signature to call; None: see `payloads.chosen_signature`.
        rows: Rows in each request.

    Raises:
        SettingsError: The model, version or signature is not there.
        SourceError: A record is missing or damaged; the line has not made the image yet.
    """
    settings = _settings(directory)
    name = _choose(settings, model, place)
    if version is None:
        version = settings.benchmarked(name)[-1]
    if version not in settings.versions(name):
        there = ", ".join(map(str, settings.versions(name)))
        raise SettingsError(f"{place}: {name} has no version {version}; there are: {there}")
    results = directory / "results"
    image = ImageRecord.read(results / "images" / name / "image.json")
    servable = ServableRecord.read(results / "manifests" / name / f"{version}.json")
    contract_path = settings.models[name].contract
    contract = read_contract(directory / contract_path)
    data = golden.read(results / "checkpoints" / name / str(version) / "golden.npz")
    sent = payloads.from_golden(data, contract, model=name, version=version, signature=signature, rows=rows)
    payloads.check_parity(sent, results / "servables" / name / str(version))
    changes = git(directory, "status", "--porcelain", "--untracked-files=no")
    return Side(
        record=Subject(
            label=place,
            commit=git(directory, "rev-parse", "HEAD"),
            dirty=None if changes is None else bool(changes),
            image_created=image.created,
            image_commit=commit_of(image.created, directory),
            model=name,
            version=version,
            image_id=image.image_id,
            image_bytes=image.bytes,
            servable_digest=servable.tree.digest,
            server_flags=list(settings.server_of(name).flags),
        ),
        spec=ServerSpec(
            model=name,
            image_layout=results / "images" / name / "layout",
            image=image,
            servable_root=results / "servables" / name,
            settings=settings.launch,
            # Where no container engine works, each side still runs its own server.
            python=python.absolute() if (python := directory / ".venv/bin/python").exists() else None,
        ),
        sent=sent,
        golden=data,
        contract=contract,
    )


def commit_of(created: str, directory: Path) -> str | None:
    """
    Find the commit that an image was made at.

    Args:
        created: The image's label, RFC 3339: the time of the last commit there was then.
        directory: Inside the git repository.

    Returns:
        The commit of that very second; None if there is none, or more than one.
    """
    try:
        epoch = int(dt.datetime.fromisoformat(created).timestamp())
    except ValueError:
        return None
    listed = git(directory, "log", "--all", f"--since=@{epoch - 1}", f"--until=@{epoch + 1}", "--format=%H %ct")
    found = [line.split()[0] for line in (listed or "").splitlines() if line.split()[1] == str(epoch)]
    return found[0] if len(found) == 1 else None


def _settings(directory: Path) -> Settings:
    path = directory / CONFIG
    try:
        return parse_settings(yaml.safe_load(path.read_text(encoding="utf-8")), str(path))
    except (OSError, yaml.YAMLError) as error:
        raise SettingsError(f"{path}: cannot be read: {error}") from error


def _choose(settings: Settings, model: str | None, place: str) -> str:
    there = sorted(settings.models)
    if model is None and len(there) == 1:
        return there[0]
    if model not in there:
        asked = "which model?" if model is None else f"no model {model}"
        raise SettingsError(f"{place}: {asked} Name one with --model; there are: {', '.join(there)}")
    return model


def check_comparable(base: Side, head: Side) -> None:
    """
    Raise SourceError, naming the fact and both values, unless both sides are asked the same.

    Their answers may differ: a model that was trained again is compared, too.
    """
    facts: dict[str, tuple[object, ...]] = {
        "model": (base.record.model, head.record.model),
        "signature": tuple(side.sent[0].spec.signature_key for side in (base, head)),
        "rows in a request": tuple(side.sent[0].rows for side in (base, head)),
        "inputs": tuple(", ".join(sorted(side.sent[0].inputs)) for side in (base, head)),
    }
    for fact, (one, other) in facts.items():
        if one != other:
            raise SourceError(f"base and head cannot be compared: {fact}: {one} in base, {other} in head")
    if len(base.sent) != len(head.sent) or any(
        not np.array_equal(one.inputs[name], other.inputs[name])
        for one, other in zip(base.sent, head.sent, strict=True)
        for name in one.inputs
    ):
        ids = [payloads.record(side.sent).values_digest[:19] for side in (base, head)]
        raise SourceError(
            f"base and head cannot be compared: golden inputs: {ids[0]}… in base, {ids[1]}… in head. Both must be asked the same: "
            "name the same golden data in both configs"
        )
