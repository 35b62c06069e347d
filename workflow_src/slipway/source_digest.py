"""What a version's source holds, as one digest: the same content is the same version, wherever its files lie."""

from pathlib import Path

from slipway import files
from slipway.errors import SourceError
from slipway.source_settings import BuiltinSource, Source

# Where the content lies, and what it is compared with, is no part of it.
_PLACES = frozenset({"path", "url", "sha256", "golden"})


def content_digest(source: Source) -> str:
    """
    Digest what *source* is made of: its settings, without paths, and the content of its files.

    A builder's module, a training script and golden rows count: they change what is made. Names of files count only
    as far as they differ from `path`, so that a copy elsewhere has the same digest. What is fetched counts by its sha256.

    Raises:
        SourceError: A file is missing or cannot be read.
    """
    # Defaults are left out, so that a key that is added to Slipway later changes no digest.
    said = source.model_dump(mode="json", exclude_defaults=True, exclude=set(_PLACES))
    if isinstance(source, BuiltinSource):
        return files.sha256_bytes(files.canonical_json({"source": said, "files": {}}))
    if source.train:
        said["path"] = source.path.as_posix()
    if source.url:
        said["sha256"] = source.digests
    try:
        digests = {_part_name(path, source.path, source.golden): _digest(Path(path)) for path in source.files()}
    except OSError as error:
        raise SourceError(
            f"{error.filename}: cannot be read ({error.strerror}). Correct the source's `path`."
        ) from error
    return files.sha256_bytes(files.canonical_json({"source": said, "files": digests}))


def _digest(path: Path) -> str:
    files.refuse_special(path)
    return files.sha256_file(path)


def _part_name(file: str, path: Path, golden: Path | None) -> str:
    if golden is not None and file == str(golden):
        return "golden"
    return f"path{file.removeprefix(str(path))}" if file.startswith(str(path)) else file


def verify(source: Source, digest: str) -> None:
    """Raise SourceError unless the content of *source* still has the *digest* that the config gives."""
    if (found := content_digest(source)) != digest:
        raise SourceError(
            f"expected content {digest}, found {found}: the source's files have changed since this version was added. "
            "A version does not change: put the old files back, or keep the new ones elsewhere and run `slipway add-version`."
        )
