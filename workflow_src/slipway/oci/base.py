"""
The image's lowest layer: libraries, Python and tini from Debian packages, without a shell or a package manager.

`python -m slipway.oci.base bookworm` resolves the packages anew and prints the lock.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from slipway import procs
from slipway.errors import BuildError
from slipway.oci import archive
from slipway.oci.archive import Entry
from slipway.oci.bytecode import Compiler
from slipway.oci.wheels import pyc_entry

PACKAGES = (
    "base-files",
    "libgcc-s1",
    "libpython3.11-stdlib",
    "libstdc++6",
    "netbase",
    "python3.11-minimal",
    "tini",
    "tzdata",
)
ARCHITECTURE = "amd64"

# Made by the hook inside the root file system, read from the tar, and left out of the layer.
_LOCK_INSIDE = "slipway.lock"
_STATUS = "var/lib/dpkg/status.d"
# Runs where mmdebstrap has downloaded and unpacked: $1 is the root file system. `status.d` is where scanners
# look for packages in images without a package manager.
_HOOK = f"""set -eu; mkdir -p "$1/{_STATUS}"
for deb in "$1"/var/cache/apt/archives/*.deb; do
  name=$(dpkg-deb --field "$deb" Package)
  dpkg-deb --field "$deb" > "$1/{_STATUS}/$name"
  echo "$name $(dpkg-deb --field "$deb" Version) $(sha256sum < "$deb" | cut -d ' ' -f 1)"
done | LC_ALL=C sort > "$1/{_LOCK_INSIDE}"
"""

# Debian 12's packages still use the paths of before the merge of / and /usr.
_MERGED = ("bin", "sbin", "lib", "lib64")
_KEPT = re.compile(
    r"^(usr/bin/(python3\.11|tini)"
    r"|usr/lib64/[^/]+|usr/lib/x86_64-linux-gnu/([^/]+|ossl-modules/[^/]+)"
    r"|usr/lib/python3\.11/.+|etc/python3\.11/.+|usr/lib/os-release"
    r"|etc/(debian_version|os-release|protocols|services|host\.conf)"
    r"|usr/share/(doc/[^/]+/copyright|common-licenses/[^/]+|zoneinfo/(Etc/)?UTC)"
    rf"|{_STATUS}/[^/]+)$"
)
# In the archives only as dependencies of maintainer scripts, which never run; none of their files is kept.
_WITHOUT_FILES = ("debconf", "dpkg", "mawk", "tar", "perl-base")
_LEFT_OUT = re.compile(r"/(__pycache__|tests?|idlelib|idle_test)/|^usr/share/doc/(debconf|dpkg|mawk|tar|perl-base)/")


class StaleLockError(BuildError):
    """A locked package is not on the mirror any more."""


_GONE = re.compile(r"Version '([^']+)' for '([^']+)' was not found")


@dataclass(frozen=True, slots=True)
class LockedPackage:
    """One Debian package."""

    name: str
    version: str
    sha256: str


def lock_path(suite: str) -> Path:
    """Locate the lock of Debian release *suite*."""
    path = Path(__file__).with_name(f"debian-{suite}.lock")
    if not path.exists():
        there = ", ".join(sorted(p.stem.removeprefix("debian-") for p in Path(__file__).parent.glob("debian-*.lock")))
        raise BuildError(f"image.suite: {suite}: no lock for this Debian release; there are: {there}")
    return path


def read_lock(path: Path) -> list[LockedPackage]:
    """Read the lock at *path*: `name version sha256` in each line."""
    return _parse(path.read_text(encoding="utf-8"))


def _parse(text: str) -> list[LockedPackage]:
    return [LockedPackage(*line.split()) for line in text.splitlines() if line and not line.startswith("#")]


def bootstrap(suite: str, locked: Sequence[LockedPackage], tar: Path) -> None:
    """
    Write the root file system of the *locked* packages to *tar*; with none, of the newest versions.

    Raises:
        StaleLockError: A locked package is not on the mirror any more.
        BuildError: With one line that says what is missing and what to do.
    """
    if shutil.which("mmdebstrap") is None:
        raise BuildError(
            "mmdebstrap is not installed; it makes the image's base from Debian packages. "
            "Install it (sudo apt-get install mmdebstrap; `make setup` does), or give a root file system: image.base."
        )
    wanted = [f"{package.name}={package.version}" for package in locked] or list(PACKAGES)
    apart = _own_namespaces() if os.geteuid() == 0 else []
    argv = [
        *apart,
        "mmdebstrap",
        "--verbose",  # or apt's own complaints are kept back
        "--variant=extract",
        "--format=tar",
        f"--architectures={ARCHITECTURE}",
        f"--mode={'root' if os.geteuid() == 0 else 'unshare'}",
        f"--include={','.join(wanted)}",
        f"--extract-hook={_HOOK}",
        suite,
        str(tar),
    ]
    environment = os.environ | {"SOURCE_DATE_EPOCH": str(archive.MTIME)}
    if apart:
        environment["TMPDIR"] = str(tar.parent.absolute())
    status, output = procs.run_owned(argv, env=environment)
    if status:
        kind = StaleLockError if _GONE.search(output) else BuildError
        raise kind(bootstrap_complaint(output, suite))
    if locked and (found := _parse(_inside(tar))) != list(locked):
        odd = sorted({p.name for p in found} ^ {p.name for p in locked}) or [
            p.name for p, q in zip(found, locked, strict=True) if p != q
        ]
        raise BuildError(
            f"debian-{suite}.lock: {odd[0]}: the package from the mirror is not the locked one. "
            "Run `make locks` to lock what the mirror has now."
        )


def _own_namespaces() -> list[str]:
    """
    Make the words that run a command with mounts and processes of its own; none where the host forbids it.

    mmdebstrap mounts the host's /proc, /sys and /dev/shm below the tree that it makes. Killed, it leaves them
    there, and whoever then removes the tree goes through them into the host. In a namespace they end with it.
    """
    words = ["unshare", "--mount", "--propagation=private", "--pid", "--fork", "--kill-child=KILL"]
    if shutil.which(words[0]) is None:
        return []
    allowed = (
        subprocess.run([*words, "true"], stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0
    )
    return words if allowed else []


def bootstrap_complaint(output: str, suite: str) -> str:
    """Make one line of the wall of text that mmdebstrap and apt leave when they fail."""
    if gone := _GONE.search(output):
        return (
            f"debian-{suite}.lock: {gone[2]}={gone[1]} is not on the mirror any more (a security update replaced it). "
            "Run `make locks` to lock what the mirror has now, or give a root file system: image.base."
        )
    if re.search(
        r"Temporary failure resolving|Could not resolve|Could not connect|Connection failed|timed out", output
    ):
        return "The Debian mirror cannot be reached, and the image's base is not in the cache. Check the network and run again."
    if re.search(r"NO_PUBKEY|signatures couldn't be verified", output):
        return "The signatures of Debian's mirror cannot be checked here. Install its keys: sudo apt-get install debian-archive-keyring"
    if "No space left on device" in output:
        return "No space left on the disk while the image's base was made. Free some space and run again."
    if re.search(r"/etc/subuid|newuidmap|unshare\(\) failed|unprivileged user namespace", output):
        return (
            "mmdebstrap may not make a root file system as this user. Run the image stage once as root (the result is "
            "cached), let the user have subordinate ids (sudo usermod --add-subuids 100000-165535 --add-subgids "
            "100000-165535 $USER), or give a root file system: image.base."
        )
    lines = [line for line in output.splitlines() if line.startswith(("E:", "mmdebstrap:"))]
    return f"mmdebstrap failed: {(lines or output.strip().splitlines() or ['no reason given'])[0]}"


def _inside(tar: Path) -> str:
    with tarfile.open(tar) as packed:
        content = packed.extractfile(f"./{_LOCK_INSIDE}")
        assert content is not None
        return content.read().decode()


# --- into a layer ----------------------------------------------------------------------------------


def base_entries(tar: Path, user: int, compiler: Compiler) -> Iterator[Entry]:
    """
    Give the files of the lowest layer from the root file system in *tar*.

    A list of what is kept, not of what is dropped: a root file system made on a host holds that host's name,
    name servers and mirrors.
    """
    yield from (archive.link(name, f"usr/{name}") for name in _MERGED)
    yield from (archive.directory(name) for name in ("dev", "models", "proc", "run", "sys", "usr/sbin"))
    yield from (archive.directory(name, 0o1777) for name in ("tmp", "var/tmp"))
    yield archive.file("etc/passwd", _passwd(user))
    yield archive.file("etc/group", f"root:x:0:\nslipway:x:{user}:\nnogroup:x:65534:\n".encode())
    yield archive.file("etc/nsswitch.conf", b"passwd: files\ngroup: files\nhosts: files dns\nservices: files\n")
    with tarfile.open(tar) as packed:
        for member in packed:
            path = merged_path(member.name)
            if not is_kept(path):
                continue
            if member.issym():
                yield archive.link(path, member.linkname)
            elif member.isfile() or member.islnk():
                content = packed.extractfile(member)
                assert content is not None
                data = content.read()
                if path.startswith(f"{_STATUS}/"):
                    data = data.replace(b"\nArchitecture:", b"\nStatus: install ok installed\nArchitecture:", 1)
                yield archive.file(path, data, executable=bool(member.mode & 0o111))
                if path.startswith("usr/lib/python3.11/") and path.endswith(".py"):
                    yield pyc_entry(path, compiler.submit(f"/{path}", data))


def is_kept(path: str) -> bool:
    """Whether the layer holds what lies at *path* of the root file system."""
    if path.startswith(f"{_STATUS}/") and path.rpartition("/")[2] in _WITHOUT_FILES:
        return False
    return bool(_KEPT.match(path)) and not _LEFT_OUT.search(path)


def merged_path(name: str) -> str:
    """Write a member's name as a path in a root file system where /bin, /lib … are links into /usr."""
    path = name.removeprefix("./").strip("/")
    return f"usr/{path}" if path.split("/", maxsplit=1)[0] in _MERGED and "/" in path else path


def _passwd(user: int) -> bytes:
    return (
        "root:x:0:0:root:/root:/sbin/nologin\n"
        f"slipway:x:{user}:{user}:slipway:/nonexistent:/sbin/nologin\n"
        "nobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin\n"
    ).encode()


@contextlib.contextmanager
def interpreter_root(stream: tarfile.TarFile, place: Path) -> Iterator[Path]:
    """
    Unpack the interpreter and its libraries from a root file system or a base layer below *place*, for the block.

    Yields:
        A directory in which `bytecode.compiler_of` finds them.
    """
    with tempfile.TemporaryDirectory(dir=place, prefix="python-") as name:
        root = Path(name)
        links = []
        for member in stream:
            path = merged_path(member.name)
            if not re.match(r"^usr/(bin/python3\.11$|lib/x86_64-linux-gnu/[^/]+$|lib/python3\.11/)", path):
                continue
            place = root / path
            place.parent.mkdir(parents=True, exist_ok=True)
            if member.issym() and "/" not in member.linkname:
                links.append((place, member.linkname))
            elif member.isfile():
                content = stream.extractfile(member)
                assert content is not None
                with place.open("wb") as out:
                    shutil.copyfileobj(content, out)
                place.chmod(0o755 if member.mode & 0o111 else 0o644)
        for place, target in links:
            place.symlink_to(target)
        if not (root / "usr/bin/python3.11").exists():
            raise BuildError("The image's base has no /usr/bin/python3.11; the server needs it.")
        yield root


def newest(suite: str) -> list[LockedPackage]:
    """Resolve the packages of *suite* anew: what the mirror has now."""
    with tempfile.TemporaryDirectory() as place:
        tar = Path(place, "root.tar")
        bootstrap(suite, [], tar)
        return _parse(_inside(tar))


def main(suite: str, say: Callable[[str], object] = sys.stdout.write) -> None:
    """Resolve the packages of *suite* anew and print the lock."""
    say(f"# Debian {suite} {ARCHITECTURE}: name, version, SHA-256 of the .deb. Written by `make locks`.\n")
    for package in newest(suite):
        say(f"{package.name} {package.version} {package.sha256}\n")


if __name__ == "__main__":
    main(sys.argv[1])
