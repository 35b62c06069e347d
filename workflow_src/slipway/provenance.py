"""What made this: the source of a stage, versions of packages, the machine and the commit; no package is imported to find out."""

import ast
import functools
import importlib.metadata
import importlib.util
import platform
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil

from slipway import files
from slipway.records import Environment
from slipway_wire import __version__

# The packages of this distribution; what they import from elsewhere is told by `tool_versions`.
OURS = ("slipway", "slipway_server", "slipway_wire", "slipway_loadtests")
# Distributions whose version can change a number of the report.
REPORTED = (
    "tensorflow-cpu",
    "tensorflow",
    "keras",
    "jaxlib",
    "numpy",
    "protobuf",
    "grpcio",
    "locust",
    "gevent",
    "scikit-learn",
    "scipy",
    "snakemake",
)


def code_digest(*names: str) -> str:
    """
    Digest the source behind *names*, so that a rule reruns when its code changed.

    Args:
        names: Modules such as slipway.export, or packages such as slipway_server. A module counts with
            everything of ours that it imports, wherever the import stands; a package with all its files.

    Returns:
        `sha256:…` over paths inside the packages and contents; where they are installed does not count.

    Raises:
        ModuleNotFoundError: If one of *names* has no source file.
    """
    return files.digest_of_digests({name: files.sha256_file(path) for name, path in _sources(names).items()})


def tool_versions(*packages: str) -> dict[str, str]:
    """Look up the installed versions of *packages*, named as on PyPI; one that is not there is `absent`."""
    return {package: _version(package) or "absent" for package in packages}


def environment(directory: Path = Path()) -> Environment:
    """
    Describe this machine, the packages and the commit that *directory* is at.

    An allow-list: no environment variable, host name or user name is read.
    """
    commit, dirty = _commit(directory)
    return Environment(
        cpu=_cpu_model(),
        logical_cpus=psutil.cpu_count() or 1,
        memory_bytes=psutil.virtual_memory().total,
        kernel=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        gpus=_gpus(),
        packages={package: version for package in REPORTED if (version := _version(package))},
        commit=commit,
        dirty=dirty,
        slipway=__version__,
    )


# --- source files ----------------------------------------------------------------------------------


def _sources(names: Iterable[str]) -> dict[str, Path]:
    """Find the files behind *names* as path from the source root -> file."""
    waiting, done, found = list(names), set[str](), dict[str, Path]()
    while waiting:
        name = waiting.pop()
        if name in done:
            continue
        done.add(name)
        module = _module_file(name)
        if module is None:
            raise ModuleNotFoundError(f"{name}: no source file below {_root(name)}", name=name)
        whole = name in names and module.name == "__init__.py"
        for file in _package_files(module.parent) if whole else [module, *_data_beside(module)]:
            found[file.relative_to(_root(name)).as_posix()] = file
            if file.suffix == ".py":
                waiting += _imports(file, _package(file, _root(name)))
    return found


def _root(name: str) -> Path:
    top = name.partition(".")[0]
    spec = importlib.util.find_spec(top) if top in OURS else None
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"{name}: not a module of {', '.join(OURS)}", name=name)
    return Path(spec.origin).parents[1]


def _module_file(name: str) -> Path | None:
    stem = _root(name).joinpath(*name.split("."))
    candidates = (stem.with_name(f"{stem.name}.py"), stem / "__init__.py")
    return next((path for path in candidates if path.is_file()), None)


def _package_files(package: Path) -> list[Path]:
    return [path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts]


def _data_beside(module: Path) -> list[Path]:
    """What a module may read at run time: files beside it that are not code."""
    return [path for path in module.parent.iterdir() if path.is_file() and path.suffix not in {".py", ".pyc"}]


def _package(file: Path, root: Path) -> str:
    return ".".join(file.parent.relative_to(root).parts)


@functools.cache
def _imports(file: Path, package: str) -> frozenset[str]:
    """Name the modules of ours that *file* imports, with the packages around them."""
    tree = ast.parse(file.read_bytes(), filename=str(file))
    found = {name for node in _statements(tree) for name in _imported_by(node, package)}
    ours = {name for name in found if name.partition(".")[0] in OURS and _module_file(name)}
    return frozenset(parent for name in ours for parent in _with_parents(name))


def _statements(tree: ast.Module) -> Iterator[ast.AST]:
    """Walk the statements of *tree*, however deep: imports are among them, and expressions are most of a tree."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        for part in ("body", "orelse", "finalbody", "handlers", "cases"):
            inner = getattr(node, part, ())
            waiting += inner if isinstance(inner, list) else ()


def _imported_by(node: ast.AST, package: str) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*above, base] if base else above)
        yield base
        yield from (f"{base}.{alias.name}" for alias in node.names)  # a submodule, or a name that is none


def _with_parents(name: str) -> Iterator[str]:
    parts = name.split(".")
    yield from (".".join(parts[: length + 1]) for length in range(len(parts)))


# --- packages, machine, commit ---------------------------------------------------------------------


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The kernel's name of the first CPU; on machines whose kernel gives none (some ARM), the architecture."""
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name" and value.strip():
                return " ".join(value.split())
    return platform.processor() or platform.machine() or "unknown"


def _gpus() -> list[str]:
    """Name each NVIDIA GPU with its driver; none where there is no nvidia-smi or it finds none."""
    lines = _output("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")
    return [
        f"{name.strip()} (driver {driver.strip()})"
        for name, _, driver in (line.partition(",") for line in (lines or "").splitlines())
        if driver
    ]


def _commit(directory: Path) -> tuple[str | None, bool | None]:
    commit = _output("git", "-C", str(directory), "rev-parse", "HEAD")
    if commit is None:
        return None, None
    changes = _output("git", "-C", str(directory), "status", "--porcelain", "--untracked-files=no")
    return commit.strip(), None if changes is None else bool(changes.strip())


def _output(*argv: str) -> str | None:
    """What *argv* printed; None if it is not installed, fails, or takes longer than a person would wait."""
    if shutil.which(argv[0]) is None:
        return None
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=20)
    except (subprocess.SubprocessError, OSError):
        return None
    return done.stdout
