"""Python packages of the image: wheels locked by hash, unpacked as they are, without an installer's traces."""

import base64
import csv
import hashlib
import io
import os
import re
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from slipway import files, procs
from slipway.errors import BuildError
from slipway.oci import archive
from slipway.oci.archive import Entry
from slipway.oci.bytecode import Compiler, pyc_path

_DOWNLOAD = ".download-"
LOCK = Path(__file__).with_name("wheels.lock")
# Of a server without TensorFlow.
STABLEHLO_LOCK = Path(__file__).with_name("wheels-stablehlo.lock")
# Where Debian's Python looks for what the system's package manager did not install.
SITE_PACKAGES = "usr/local/lib/python3.11/dist-packages"

# What the image can run: Debian 12's glibc 2.36 and CPython 3.11. pip takes the platforms literally.
_TARGET = (
    *(f"--platform=manylinux{tag}_x86_64" for tag in ("_2_28", "_2_27", "_2_17", "2014", "2010", "1")),
    "--python-version=3.11",
    "--implementation=cp",
    "--abi=cp311",
    "--abi=abi3",
    "--abi=none",
)

# `slim: safe`: headers, sources, tests and build tools. None of it is imported or loaded by a server.
_LEFT_OUT = re.compile(
    r"^(tensorflow/include/|tensorflow/xla_aot_runtime_src/|tensorflow/lite/toco/|clang/|libclang|bin/|pip/|wheel/|setuptools/"
    r"|_distutils_hack/|distutils-precedence\.pth$|pkg_resources/)"
    r"|(^|/)(tests?|testing)/|_test\.py$|\.(pyi|h|hpp|inc|a|pxd)$"
)
# Names that look like tests and are imported at run time.
_NEEDED = re.compile(
    r"^(numpy/testing/|numpy/_core/tests/(__init__|_natype)\.py$|tensorflow/python/|tensorflow/_api/|keras/src/testing/"
    r"|h5py/tests/__init__\.py$|absl/testing/)"
)


@dataclass(frozen=True, slots=True)
class Requirement:
    """One package of the lock."""

    name: str
    version: str
    hashes: frozenset[str]


@dataclass(frozen=True, slots=True)
class Wheel:
    """One wheel file, named by its content."""

    path: Path
    name: str
    version: str
    sha256: str


def read_lock(text: str) -> list[Requirement]:
    """Read a requirements file as `uv pip compile --generate-hashes` writes it."""
    found = []
    for block in text.replace("\\\n", " ").splitlines():
        if match := re.match(r"^([A-Za-z0-9._-]+)==(\S+)", block):
            hashes = frozenset(re.findall(r"--hash=sha256:([0-9a-f]{64})", block))
            found.append(Requirement(normalised(match[1]), match[2], hashes))
    return found


def matching(requirement: Requirement, wheels: Iterable[Path]) -> list[Path]:
    """Choose the files among *wheels* whose names say that they hold *requirement*."""
    wanted = (requirement.name, requirement.version)
    return [path for path in wheels if (normalised(path.name.split("-")[0]), path.name.split("-")[1]) == wanted]


def normalised(name: str) -> str:
    """Write a package's name as PEP 503 has it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def fetch(requirements: Sequence[Requirement], cache: Path, say: Callable[[str], None]) -> list[Wheel]:
    """
    Find the wheel of every one of *requirements* in *cache*, or download what is missing.

    Args:
        requirements: What the lock demands.
        cache: Directory of wheels; every file taken from it has a locked hash.
        say: Told of a download.

    Raises:
        BuildError: If a wheel can neither be found nor be downloaded.
    """
    with files.readable_disk_faults(cache):
        cache.mkdir(parents=True, exist_ok=True)
    for left in cache.glob(f"{_DOWNLOAD}*"):  # of a process that was killed
        shutil.rmtree(left)
    found = {requirement: _cached(requirement, cache) for requirement in requirements}
    if missing := [requirement for requirement, wheel in found.items() if wheel is None]:
        say(f"downloading {len(missing)} wheels")
        _download(missing, cache)
        found |= {requirement: _cached(requirement, cache) for requirement in missing}
    wheels = []
    for requirement, wheel in found.items():
        if wheel is None:
            raise BuildError(
                f"the image's lock: {requirement.name}=={requirement.version}: no wheel with a locked hash."
            )
        wheels.append(wheel)
    return sorted(wheels, key=lambda wheel: wheel.name)


def _cached(requirement: Requirement, cache: Path) -> Wheel | None:
    for path in matching(requirement, cache.glob("*.whl")):
        digest = files.sha256_file(path).removeprefix("sha256:")
        if digest in requirement.hashes:
            return Wheel(path, requirement.name, requirement.version, digest)
        path.unlink(missing_ok=True)
    return None


def _download(requirements: Sequence[Requirement], cache: Path) -> None:
    lines = [f"{r.name}=={r.version} {' '.join(f'--hash=sha256:{h}' for h in sorted(r.hashes))}" for r in requirements]
    with files.readable_disk_faults(cache), tempfile.TemporaryDirectory(dir=cache, prefix=_DOWNLOAD) as place:
        wanted = Path(place, "wanted.txt")
        wanted.write_text("\n".join(lines) + "\n", encoding="utf-8")
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
        status, output = procs.run_owned(
            [
                *pip,
                "--require-hashes",
                "--no-deps",
                "--only-binary=:all:",
                *_TARGET,
                "--dest",
                place,
                "-r",
                str(wanted),
            ],
            env=os.environ | {"TMPDIR": place},
        )
        if status:
            raise BuildError(pip_complaint(output))
        for wheel in Path(place).glob("*.whl"):
            wheel.replace(cache / wheel.name)


def pip_complaint(output: str) -> str:
    """Make one line of what pip wrote when it failed."""
    errors = [line.removeprefix("ERROR: ") for line in output.splitlines() if line.startswith("ERROR:")]
    cause = errors[0] if errors else (output.strip().splitlines() or ["no reason given"])[-1]
    if "No space left" in output:
        return "No space left on the disk while wheels were downloaded. Free some space and run again."
    if re.search(r"NewConnectionError|Temporary failure in name resolution|ConnectTimeout|Max retries", output):
        return "The package index cannot be reached, and wheels are missing from the cache. Check the network and run again."
    return f"pip could not download the image's wheels: {cause}"


# --- into a layer ----------------------------------------------------------------------------------


def wheel_entries(wheel: Wheel, *, slim: bool, compiler: Compiler) -> Iterator[Entry]:
    """
    Give the files of *wheel* as an image holds them, with .pyc files beside the sources.

    Raises:
        BuildError: While a content is read, if it departs from the wheel's own RECORD.
    """
    container = zipfile.ZipFile(wheel.path)
    recorded = _recorded_hashes(container)
    for info in container.infolist():
        inside = _destination(info.filename)
        if info.is_dir() or inside is None or (slim and is_left_out(inside)):
            continue
        path = f"{SITE_PACKAGES}/{inside}"
        expected = recorded.get(info.filename)
        if inside.endswith(".py"):
            source = container.read(info)
            _check(wheel, info.filename, hashlib.sha256(source).digest(), expected)
            yield archive.file(path, source)
            yield pyc_entry(path, compiler.submit(f"/{path}", source))
        else:
            is_program = bool(info.external_attr >> 16 & 0o111)
            yield archive.lazy_file(path, _opener(container, info, wheel, expected), executable=is_program)


def pyc_entry(path: str, future: Future[bytes]) -> Entry:
    """Make the .pyc file that belongs to the source at *path*."""

    def opened() -> tuple[int, io.BytesIO] | None:
        content = future.result()
        return (len(content), io.BytesIO(content)) if content else None

    return archive.lazy_file(pyc_path(path), opened)


def is_left_out(path: str) -> bool:
    """Whether a slim image goes without the file at *path* of a wheel."""
    return bool(_LEFT_OUT.search(path)) and not _NEEDED.match(path)


def _destination(name: str) -> str | None:
    """Where a file of a wheel goes, relative to site-packages; None: nowhere (scripts, headers, data)."""
    match = re.match(r"^[^/]+\.data/([^/]+)/(.*)$", name)
    if match is None:
        return name
    return match[2] if match[1] in ("purelib", "platlib") else None


def _recorded_hashes(container: zipfile.ZipFile) -> dict[str, str]:
    record = next(name for name in container.namelist() if name.endswith(".dist-info/RECORD"))
    rows = csv.reader(io.StringIO(container.read(record).decode()))
    return {row[0]: row[1].removeprefix("sha256=") for row in rows if len(row) > 1 and row[1]}


def _opener(
    container: zipfile.ZipFile, info: zipfile.ZipInfo, wheel: Wheel, expected: str | None
) -> Callable[[], tuple[int, archive.Readable]]:
    def opened() -> tuple[int, archive.Readable]:
        return info.file_size, _Verified(container, info, wheel, expected)

    return opened


class _Verified:
    """Content of a wheel's file; at its end the hash is compared."""

    def __init__(self, container: zipfile.ZipFile, info: zipfile.ZipInfo, wheel: Wheel, expected: str | None) -> None:
        self._stream = container.open(info)
        self._name, self._wheel, self._expected = info.filename, wheel, expected
        self._hash = hashlib.sha256()

    def read(self, size: int = -1, /) -> bytes:
        data = self._stream.read(size)
        self._hash.update(data)
        if not data:
            _check(self._wheel, self._name, self._hash.digest(), self._expected)
        return data


def _check(wheel: Wheel, name: str, found: bytes, expected: str | None) -> None:
    if expected is not None and base64.urlsafe_b64encode(found).rstrip(b"=").decode() != expected:
        raise BuildError(f"{wheel.path}: {name} departs from the wheel's own RECORD. Delete the file and run again.")
