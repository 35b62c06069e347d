"""The smallest image that runs: one program of this machine and its libraries, to try engines before any model is built."""

import re
import shutil
import subprocess
from pathlib import Path

from slipway.errors import BuildError
from slipway.oci import archive, layout
from slipway.oci.archive import Entry
from slipway.oci.layers import LayerStore
from slipway.oci.layout import ContainerConfig
from slipway.records import ImageRecord

# What to run in it: the loader is started by name, since the libraries lie where no loader looks.
ENTRYPOINT = "/probe/loader"
_REFERENCE = "slipway/probe:1"


def write_probe_image(place: Path) -> ImageRecord:
    """
    Write an OCI layout to the empty directory *place*; `ENTRYPOINT` with `probe_arguments` prints words.

    Raises:
        BuildError: If the libraries of this machine's `echo` cannot be found.
    """
    entries = [*(archive.directory(name) for name in ("dev", "etc", "proc", "run", "sys", "tmp")), *_program()]
    cache = place.with_name(f"{place.name}.cache")
    layer = LayerStore(place, cache, "gzip", lambda _: None).layer("probe", None, lambda: entries)
    shutil.rmtree(cache)
    config = ContainerConfig(user="10001:10001", environment={}, entrypoint=(ENTRYPOINT,), ports=(), labels={})
    created = layout.created_at(archive.MTIME)
    image_id, manifest_digest = layout.write_image(
        place, config, [layer], compression="gzip", created=created, reference=_REFERENCE
    )
    return ImageRecord(
        model="probe",
        versions=[],
        reference=_REFERENCE,
        image_id=image_id,
        manifest_digest=manifest_digest,
        layers=[layer],
        compression="gzip",
        base="none",
        packages={},
        created=created,
    )


def probe_arguments(*words: str) -> tuple[str, ...]:
    """Make the arguments of `ENTRYPOINT` that print *words*."""
    return ("--library-path", "/probe", "/probe/echo", *words)


def _program() -> list[Entry]:
    program = shutil.which("echo")
    if program is None:
        raise BuildError("no program `echo` on PATH to try container engines with")
    told = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    libraries = libraries_of(told)
    if not libraries:
        raise BuildError(f"the libraries of {program} cannot be found with ldd: {told.strip() or 'no answer'}")
    return [
        archive.file("probe/echo", Path(program), executable=True),
        *(archive.file(f"probe/{name}", Path(path), executable=True) for name, path in libraries.items()),
    ]


def libraries_of(ldd: str) -> dict[str, str]:
    """Read what ldd printed: file name -> path here; the loader is `loader`."""
    shared = dict(re.findall(r"^\s*(\S+) => (/\S+)", ldd, re.MULTILINE))
    loader = re.findall(r"^\s*(/\S+) \(0x", ldd, re.MULTILINE)
    return shared | {"loader": loader[0]} if loader else {}
