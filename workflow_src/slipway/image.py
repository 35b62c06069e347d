"""
Assemble the OCI image of a model: base, Python packages, our server, all versions, configuration.

The layers are put together file by file, in the order of how rarely they change, without a daemon and without
running anything in a container; the same inputs give the same image id. A layout is written that podman, skopeo
and docker load; layers that did not change come from the cache.
"""

import contextlib
import os
import platform
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from slipway import files, locks
from slipway.arguments import by_version, section
from slipway.errors import BuildError, SettingsError, SourceError
from slipway.oci import archive, layout, serving_config
from slipway.oci.assembly import ENTRYPOINT, Assembly
from slipway.oci.layout import ContainerConfig
from slipway.records import ImageRecord, LayerRecord, ServableRecord
from slipway.serving_settings import ServingSettings
from slipway.settings import ImageSettings, ServerSettings
from slipway_wire import __version__, stablehlo

GRPC_PORT, REST_PORT = 8500, 8501


def add_arguments(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--model", required=True, help="name of the model")
    parser.add_argument("--settings", required=True, help="section `image` of the settings, as JSON")
    parser.add_argument("--server-settings", required=True, help="section `server` of the settings, as JSON")
    parser.add_argument("--serving", default="{}", help="the model's `serving` settings, as JSON")
    parser.add_argument("--version-dir", required=True, nargs="+", metavar="V=DIR", help="servable of each version")
    parser.add_argument("--servable-record", required=True, nargs="+", metavar="V=FILE", help="its record")
    parser.add_argument("--cache", required=True, type=Path, help="directory for wheels and layers")
    parser.add_argument("--out-layout", required=True, type=Path, help="OCI layout to write")
    parser.add_argument("--record", required=True, type=Path, help="record to write")


def run(arguments: Namespace) -> None:
    """Build the image and write its record."""
    record = build(
        model=arguments.model,
        settings=section(ImageSettings, arguments.settings, "image"),
        server=section(ServerSettings, arguments.server_settings, "server"),
        serving=section(ServingSettings, arguments.serving, "serving"),
        servables=servables(by_version(arguments.version_dir), by_version(arguments.servable_record)),
        cache=arguments.cache,
        out=arguments.out_layout,
        epoch=source_date_epoch(os.environ),
    )
    record.write(arguments.record)
    _say(f"{record.reference}  {record.bytes / 1e6:.0f} MB  {record.image_id}")


@dataclass(frozen=True, slots=True)
class Servable:
    """One version, as the servable stage left it."""

    directory: Path
    record: ServableRecord


def servables(directories: Mapping[int, Path], records: Mapping[int, Path]) -> dict[int, Servable]:
    """
    Pair directories with their records, and verify every file.

    Raises:
        SettingsError: If a version has only one of the two.
        SourceError: If a file differs from its record, or is a link.
    """
    if directories.keys() != records.keys():
        odd = min(directories.keys() ^ records.keys())
        raise SettingsError(f"version {odd}: --version-dir and --servable-record must name the same versions.")
    found = {}
    for version, directory in sorted(directories.items()):
        record = ServableRecord.read(records[version])
        if links := [path for path in directory.rglob("*") if path.is_symlink()]:
            raise SourceError(f"{links[0]}: a link; a servable holds plain files. Delete {directory} and run again.")
        record.tree.verify(directory)
        found[version] = Servable(directory, record)
    return found


def check_stablehlo(servables: Mapping[int, Servable]) -> None:
    """Raise SettingsError unless every version has what an image without TensorFlow can serve."""
    if missing := [
        one.directory for one in servables.values() if not (one.directory / stablehlo.MANIFEST_FILE).is_file()
    ]:
        raise SettingsError(
            f"{missing[0]}: no {stablehlo.MANIFEST_FILE}, and with server.backend: stablehlo the image has no TensorFlow. "
            "Run `slipway stablehlo` and `slipway servable`, or `snakemake --cores all`."
        )


def source_date_epoch(environment: Mapping[str, str], directory: Path = Path()) -> int:
    """
    Find the time (s since the epoch) that the image says it was created at; never the time of the build.

    SOURCE_DATE_EPOCH if it is set (reproducible-builds.org), else the time of the last commit in *directory*,
    else the constant that its files carry.
    """
    given = environment.get("SOURCE_DATE_EPOCH", "")
    if given:
        if not given.isdigit():
            raise SettingsError(f"SOURCE_DATE_EPOCH: must be seconds since 1970, got {given!r}")
        return int(given)
    with contextlib.suppress(OSError):
        argv = ["git", "-C", str(directory), "log", "-1", "--format=%ct"]
        told = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if told.returncode == 0 and told.stdout.strip().isdigit():
            return int(told.stdout)
    return archive.MTIME


def build(
    *,
    model: str,
    settings: ImageSettings,
    server: ServerSettings,
    serving: ServingSettings | None = None,
    servables: Mapping[int, Servable],
    cache: Path,
    out: Path,
    epoch: int,
) -> ImageRecord:
    """
    Write the image to *out*, whole or not at all.

    Raises:
        BuildError: If a tool, a package or the network is missing.
        StorageError: If the disk is full.
    """
    if platform.machine() != "x86_64":
        raise BuildError(
            f"The image is for x86_64 and is compiled by its own interpreter; this machine: {platform.machine()}."
        )
    if server.backend == "stablehlo":
        check_stablehlo(servables)
    reference = f"{settings.repository.format(model=model)}:{max(servables)}"
    created = layout.created_at(epoch)
    with files.readable_disk_faults(cache):
        cache.mkdir(parents=True, exist_ok=True)
        (cache / "lock").touch()
    files.remove_partials(out.parent)
    with (
        locks.waiting_lock(cache / "lock", lambda pid: _say(f"waiting for process {pid}, which builds an image")),
        files.new_directory(out) as place,
        Assembly(place, cache, settings, _say, server.backend) as assembly,
    ):
        layers = [
            assembly.base(),
            assembly.framework(),
            assembly.packages(),
            assembly.server(),
            assembly.model(model, {version: servable.directory for version, servable in servables.items()}),
            assembly.config(model, server, serving),
        ]
        config = ContainerConfig(
            user=f"{settings.user}:{settings.user}",
            environment=_environment(model),
            entrypoint=("/usr/bin/tini", "--", f"/{ENTRYPOINT}"),
            ports=(GRPC_PORT, REST_PORT),
            labels=_labels(model, servables, layers, created),
        )
        image_id, manifest_digest = layout.write_image(
            place, config, layers, compression=settings.compression, created=created, reference=reference
        )
    return ImageRecord(
        model=model,
        versions=sorted(servables),
        reference=reference,
        image_id=image_id,
        manifest_digest=manifest_digest,
        layers=layers,
        compression=settings.compression,
        base=assembly.base_description,
        packages={requirement.name: requirement.version for requirement in assembly.requirements},
        created=created,
    )


def _environment(model: str) -> dict[str, str]:
    return {
        "HOME": "/tmp",  # noqa: S108 - the only place that is writable
        "LANG": "C.UTF-8",
        "MODEL_BASE_PATH": serving_config.MODELS_DIRECTORY,
        "MODEL_NAME": model,
        "PATH": "/usr/bin",
        # TensorFlow's own lines below warnings: nothing a server's operator can act on.
        "TF_CPP_MIN_LOG_LEVEL": "1",
    }


def _labels(
    model: str, servables: Mapping[int, Servable], layers: Sequence[LayerRecord], created: str
) -> dict[str, str]:
    """Say what is inside. Names: OCI image specification, annotations.md; ours begin with io.slipway."""
    return {
        "org.opencontainers.image.title": f"{model}, served by Slipway",
        "org.opencontainers.image.created": created,
        "org.opencontainers.image.version": str(max(servables)),
        "io.slipway.version": __version__,
        "io.slipway.model.name": model,
        "io.slipway.model.versions": ",".join(map(str, servables)),
        **{f"io.slipway.servable.{v}.digest": servable.record.tree.digest for v, servable in servables.items()},
        **{f"io.slipway.layer.{layer.name}.digest": layer.diff_id for layer in layers},
    }


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
