"""
Proof that a server loads a version with its warm-up records: ours does, as a process, and counts what it replayed.

A record that fails would keep the version from being served; here it is found before an image is built. No batching:
each record runs as it is. What the batcher makes of it the launch shows, with the image's own settings.
"""

import contextlib
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from slipway import files, server_metrics
from slipway.errors import ContractViolation, ServerError
from slipway.oci import serving_config
from slipway.records import WarmupEntry
from slipway.servers import ServerSpec, running_server
from slipway.settings import LaunchSettings, ServerSettings
from slipway_wire.warmup_log import WARMUP_FILE

# As docs/operations.md has it; the server logs it whether it goes on or, with no version left to serve, ends.
_FAILED = re.compile(rf"{WARMUP_FILE}: warm-up record (\d+)(?: \([^)\n]*\))?: (.*)$", re.MULTILINE)


def replay(
    model: str,
    version: int,
    export: Path,
    content: bytes,
    entries: Sequence[WarmupEntry],
    *,
    ready_timeout_s: float,
    log: Path,
) -> int:
    """
    Let a server load *export* with the records *content*.

    Args:
        model: Name of the model.
        version: Number of the version.
        export: The SavedModel; nothing is written into it.
        content: The whole TFRecord file.
        entries: What its records are.
        ready_timeout_s: How long loading and replaying may take.
        log: Gets what the server writes.

    Returns:
        How many records were replayed, by the server's own count.

    Raises:
        ContractViolation: At a record that fails: its number, signature and rows.
        ServerError: If the server does not start, or did not replay every record.
    """
    settings = LaunchSettings(engine="process", ready_timeout_s=ready_timeout_s)
    with _servable(model, version, export, content, log.parent) as (root, config):
        flags = (f"--monitoring_config_file={config}", "--max_num_load_retries=0")
        spec = ServerSpec(model, None, None, root, settings, flags)
        try:
            with running_server(spec, log=log) as server:
                replayed = server_metrics.replayed(server_metrics.scrape(server.host, server.rest_port), model)
        except ServerError as error:
            if violation := failure(log.read_text(encoding="utf-8", errors="replace"), entries):
                raise violation from error
            raise
    found = replayed.get(version, 0)
    if found != len(entries):
        raise ServerError(
            f"{model} version {version}: expected {len(entries)} records replayed, found {found}. Its log: {log}"
        )
    return found


def failure(log: str, entries: Sequence[WarmupEntry]) -> ContractViolation | None:
    """Find in the server's *log* which record is at fault; None if none is."""
    found = _FAILED.search(log)
    if found is None or int(found[1]) >= len(entries):
        return None
    entry = entries[int(found[1])]
    return ContractViolation(
        f"warm-up record {found[1]} ({entry.signature}, {entry.rows} rows): expected an answer, found: {found[2]}"
    )


@contextlib.contextmanager
def _servable(model: str, version: int, export: Path, content: bytes, beside: Path) -> Iterator[tuple[Path, Path]]:
    """Make a base path with links to *export* and the records; yield it, and the configuration that turns metrics on."""
    place = files.partial_path(beside.absolute() / "replay")
    try:
        directory = place / model / str(version)
        directory.mkdir(parents=True)
        for path in export.absolute().iterdir():
            if path.name not in (Path(WARMUP_FILE).parts[0], files.SNAKEMAKE_TIMESTAMP):
                (directory / path.name).symlink_to(path)
        warmup = directory / WARMUP_FILE
        extra = export.absolute() / warmup.parent.name
        warmup.parent.mkdir()
        for path in extra.iterdir() if extra.is_dir() else ():
            if path.name != warmup.name:
                (warmup.parent / path.name).symlink_to(path)
        warmup.write_bytes(content)
        config = place / "monitoring.config"
        config.write_bytes(serving_config.config_files(model, ServerSettings(batching=None))[config.name])
        yield place / model, config
    finally:
        shutil.rmtree(place, ignore_errors=True)
