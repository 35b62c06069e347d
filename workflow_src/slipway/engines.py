"""
Container engines: which there are, what they are told, and which one really runs here.

One interface over the command lines of docker and podman. Nothing is concluded from version numbers: an
engine will do if it runs the image's own interpreter under the flags that the server will get.
"""

import contextlib
import os
import resource
import shutil
import subprocess
import sys
import tarfile
import tempfile
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from slipway import container_removal
from slipway.errors import EngineError
from slipway.records import EngineRecord, ImageRecord
from slipway.settings import LaunchSettings
from slipway_wire import __version__

OWNER_LABEL = "io.slipway.owner"
PROCESS_ENGINE = "process"

# As many as a server that makes room for connections takes; see `slipway_server`.
_MOST_FILES = 2**15
_TIMEOUT_S = 600


def _ulimits() -> tuple[str, ...]:
    """
    Name limits that any host can give: where an engine's defaults ask for more, runc fails with "setrlimit … not permitted".

    Files are as many as this process may open, for each connection of a load test is one.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    return f"--ulimit=nofile={files}:{files}", "--ulimit=nproc=1024:1024"


@dataclass(frozen=True, slots=True)
class Trial:
    """A program of an image, and what it prints if the engine will do."""

    entrypoint: str
    arguments: tuple[str, ...]
    expected: str


IMAGE_TRIAL = Trial("/usr/bin/python3.11", ("-I", "-S", "-c", "print(6 * 7)"), "42")


@dataclass(frozen=True, slots=True)
class Engine:
    """A program and the options that make it work on some hosts."""

    name: str
    program: str
    global_options: tuple[str, ...] = ()
    run_options: tuple[str, ...] = ()

    def command(self, *words: str) -> list[str]:
        """Make an argument list."""
        return [self.program, *self.global_options, *words]


# In the order of preference; each later one asks less of the host.
CANDIDATES = (
    Engine("docker", "docker"),
    Engine("podman", "podman"),
    Engine("podman+runc", "podman", ("--runtime=runc",)),
    Engine("podman+runc+ulimits", "podman", ("--runtime=runc",), _ulimits()),
    Engine("podman+runc+cgroupfs+ulimits", "podman", ("--runtime=runc", "--cgroup-manager=cgroupfs"), _ulimits()),
    Engine("docker+ulimits", "docker", (), _ulimits()),
)


def owner(process: psutil.Process | None = None) -> str:
    """Name a process so that its id, used again, is not mistaken for it."""
    process = process or psutil.Process()
    return f"{process.pid}:{process.create_time():.2f}"


def is_running(owned_by: str) -> bool:
    """Whether the process that `owner` named still runs."""
    with contextlib.suppress(psutil.NoSuchProcess, ValueError):
        return owner(psutil.Process(int(owned_by.partition(":")[0]))) == owned_by
    return False


def run_argv(
    engine: Engine,
    image: str,
    *,
    name: str,
    owned_by: str,
    settings: LaunchSettings,
    arguments: Sequence[str] = (),
    entrypoint: str | None = None,
    cpus: str | None = None,
) -> list[str]:
    """
    Make the command that runs *image* in the foreground, as little privileged as it can be.

    Args:
        engine: Whose command line.
        image: Image id or name.
        name: Of the container.
        owned_by: What `owner` gave for the process whose end shall be the container's end.
        settings: Limits.
        arguments: For the image's entrypoint.
        entrypoint: Instead of the image's own.
        cpus: CPUs it may use, as in `0,2-3`; None: all.
    """
    options = [
        "--rm",
        f"--name={name}",
        f"--label={OWNER_LABEL}={owned_by}",
        "--pull=never",
        # The host's loopback: no bridge, no address translation in a measurement; the server binds 127.0.0.1.
        "--network=host",
        "--read-only",
        "--tmpfs=/tmp:rw,noexec,nosuid,nodev,size=64m,mode=1777",
        "--cap-drop=ALL",
        "--security-opt=no-new-privileges",
        f"--pids-limit={settings.pids}",
        f"--memory={settings.memory}",
        f"--memory-swap={settings.memory}",
    ]
    if cpus is not None:
        options.append(f"--cpuset-cpus={cpus}")
    if settings.gpus == "all":
        options += ["--gpus=all"] if engine.program == "docker" else ["--device=nvidia.com/gpu=all"]
    if engine.program == "podman":
        # Read from no configuration file: what a user set there for health checks or logs is not ours to inherit.
        options += ["--log-driver=none", "--no-healthcheck"]
    if entrypoint is not None:
        options.append(f"--entrypoint={entrypoint}")
    return engine.command("run", *options, *engine.run_options, image, *arguments)


def remove_argv(engine: Engine, name: str) -> list[str]:
    """Make the command that kills and removes container *name* at once."""
    if engine.program != "podman":
        return engine.command("rm", "--force", name)
    # Without --time podman would wait ten seconds for SIGTERM to work.
    remove = engine.command("rm", "--force", "--time=0", name)
    return [sys.executable, "-I", container_removal.__file__, name, *remove]


def call(argv: Sequence[str], *, timeout_s: float = _TIMEOUT_S, directory: Path | None = None) -> str:
    """Run an engine's command and give its output, or raise EngineError with the last line it complained with."""
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            cwd=directory,
        )
    except subprocess.TimeoutExpired as error:
        raise EngineError(f"`{' '.join(argv[:4])}` did not end within {timeout_s:g} s.") from error
    if done.returncode:
        raise EngineError(_complaint(done.stderr) or f"`{' '.join(argv[:4])}` exited with {done.returncode}")
    return done.stdout.strip()


def _complaint(stderr: str) -> str:
    lines = [line for line in stderr.splitlines() if line.strip() and "level=warning" not in line]
    return lines[-1].strip().removeprefix("Error: ") if lines else ""


# --- images ----------------------------------------------------------------------------------------


def load(engine: Engine, layout: Path, image: ImageRecord) -> None:
    """Give the image in *layout* to *engine*, unless it has it; an older one of the same model is dropped."""
    if _has(engine, image):
        return
    if engine.program == "docker":
        _load_into_docker(engine, layout)
    else:
        _load_into_podman(engine, layout, image)
    with contextlib.suppress(EngineError):  # images that still run stay
        call(engine.command("image", "prune", "--force", f"--filter=label=io.slipway.model.name={image.model}"))


def _has(engine: Engine, image: ImageRecord) -> bool:
    try:
        call(engine.command("image", "inspect", "--format={{.Id}}", image.image_id.removeprefix("sha256:")))
    except EngineError:
        return False
    return True


def _load_into_podman(engine: Engine, layout: Path, image: ImageRecord) -> None:
    # podman names what it pulls after the path, which may hold what a name must not (capital letters) and
    # should not (where it lay).
    with tempfile.TemporaryDirectory() as place:
        Path(place, "slipway-layout").symlink_to(layout.absolute())
        call(engine.command("pull", "--quiet", "oci:slipway-layout"), directory=Path(place))
    image_id = image.image_id.removeprefix("sha256:")
    call(engine.command("tag", image_id, f"localhost/{image.reference}"))
    call(engine.command("untag", image_id, "localhost/slipway-layout"))


def _load_into_docker(engine: Engine, layout: Path) -> None:
    loading = subprocess.Popen(
        engine.command("load", "--quiet"),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert loading.stdin is not None
    assert loading.stderr is not None
    with contextlib.suppress(BrokenPipeError), loading.stdin as sink, tarfile.open(fileobj=sink, mode="w|") as archive:
        archive.add(layout, arcname=".")
    complaint = loading.stderr.read().decode(errors="replace")
    if loading.wait():
        raise EngineError(_complaint(complaint) or "docker load failed")


def forget(engine: Engine, image: ImageRecord) -> None:
    """Remove *image* from *engine*, if it has it."""
    with contextlib.suppress(EngineError):
        call(engine.command("image", "rm", "--force", image.image_id.removeprefix("sha256:")))


# --- containers ------------------------------------------------------------------------------------


def host_pid(engine: Engine, name: str) -> int | None:
    """Find the host's process id of container *name*'s first process; None while it is not running."""
    try:
        pid = int(call(engine.command("inspect", "--type=container", "--format={{.State.Pid}}", name)))
    except (EngineError, ValueError):
        return None
    return pid or None


def remove_orphans(engine: Engine) -> list[str]:
    """Remove containers of ours whose owner is gone (a power cut, a killed guardian); list their names."""
    listing = call(engine.command("ps", "--all", f"--filter=label={OWNER_LABEL}", "--format={{.Names}}"))
    removed = []
    for name in listing.split():
        with contextlib.suppress(EngineError):  # another process of ours may be removing it, too
            label = f'{{{{index .Config.Labels "{OWNER_LABEL}"}}}}'
            owned_by = call(engine.command("inspect", "--type=container", f"--format={label}", name))
            if not is_running(owned_by):
                call(remove_argv(engine, name))
                removed.append(name)
    return removed


# --- trial -----------------------------------------------------------------------------------------


def candidates(wanted: str) -> list[Engine]:
    """List the engines to try for the setting *wanted*, best first."""
    return [engine for engine in CANDIDATES if wanted in ("auto", engine.program)]


def try_engine(
    engine: Engine, layout: Path, image: ImageRecord, settings: LaunchSettings, trial: Trial = IMAGE_TRIAL
) -> str:
    """
    Run a program of the image, its own interpreter as a rule, under the server's flags.

    Returns:
        The engine's version.

    Raises:
        EngineError: With what the engine said.
    """
    if shutil.which(engine.program) is None:
        raise EngineError("not installed")
    version = call(engine.command("version", "--format={{.Client.Version}}"), timeout_s=30)
    load(engine, layout, image)
    name = f"slipway-probe-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    argv = run_argv(
        engine,
        image.image_id.removeprefix("sha256:"),
        name=name,
        owned_by=owner(),
        settings=settings,
        arguments=trial.arguments,
        entrypoint=trial.entrypoint,
    )
    try:
        said = call(argv, timeout_s=120)
    except EngineError:
        with contextlib.suppress(EngineError):
            call(remove_argv(engine, name))
        raise
    if said != trial.expected:
        raise EngineError(f"{trial.entrypoint} in the image answered {said!r}")
    remove_orphans(engine)
    return version


# Image id and settings -> what was found. The trial takes seconds; its answer holds for the life of a process.
_found: dict[tuple[str, LaunchSettings], tuple[Engine | None, EngineRecord]] = {}


def find_engine(layout: Path, image: ImageRecord, settings: LaunchSettings) -> tuple[Engine | None, EngineRecord]:
    """
    Find the first engine that really runs the image.

    Returns:
        The engine and what to record of it. (None, record) stands for a plain local process: wanted by
        the settings, or with `auto` as the last resort when every engine was rejected.

    Raises:
        EngineError: If the settings name an engine and it will not do; with every candidate's reason.
    """
    if settings.engine == PROCESS_ENGINE:
        return None, process_record({})
    key = (image.image_id, settings)
    if key not in _found:
        _found[key] = _try_all(layout, image, settings)
    return _found[key]


def _try_all(layout: Path, image: ImageRecord, settings: LaunchSettings) -> tuple[Engine | None, EngineRecord]:
    rejected: dict[str, str] = {}
    for engine in candidates(settings.engine):
        try:
            version = try_engine(engine, layout, image, settings)
        except EngineError as error:
            rejected[engine.name] = str(error)
        else:
            return engine, EngineRecord(
                name=engine.name, version=version, isolated=True, network="host", rejected=rejected
            )
    if settings.engine == "auto":
        return None, process_record(rejected)
    reasons = "; ".join(f"{name}: {why}" for name, why in rejected.items())
    raise EngineError(
        f"launch.engine: {settings.engine} does not run the image here ({reasons}). "
        "`slipway doctor` shows what this machine can do; engine: auto takes what works."
    )


def process_record(rejected: dict[str, str]) -> EngineRecord:
    """Describe a plain local process."""
    return EngineRecord(name=PROCESS_ENGINE, version=__version__, isolated=False, network="host", rejected=rejected)
