"""Which versions of a model ought to be served: reads base paths and tells the manager, again and again."""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from slipway_server.config_files import All, Latest, ModelConfig, Specific, VersionPolicy

logger = logging.getLogger(__name__)

_INT64 = range(-(2**63), 2**63)


def read_versions(base_path: Path) -> dict[int, Path]:
    """
    Find the version directories below *base_path*: version -> directory.

    A child counts when its whole name is a decimal int64; leading zeros are fine, everything else is passed over
    in silence. Of two names for one version the first in alphabetical order wins.

    Raises:
        OSError: The base path is not there or cannot be read.

    Source: tensorflow_serving/sources/storage_path/file_system_storage_path_source.cc, ParseVersionNumber.
    """
    versions: dict[int, Path] = {}
    for path in sorted(base_path.iterdir()):
        with contextlib.suppress(ValueError):
            version = _version_number(path.name)
            if version in versions:
                logger.warning("%s and %s name the same version; using %s.", versions[version], path, versions[version])
            versions.setdefault(version, path)
    return versions


def _version_number(name: str) -> int:
    # int() reads "1_0" and digits of other scripts, which strtoll does not.
    if not name.isascii() or "_" in name:
        raise ValueError(name)
    version = int(name)
    if version not in _INT64:
        raise ValueError(name)
    return version


def aspired_versions(policy: VersionPolicy, found: Iterable[int]) -> set[int]:
    """Choose from the versions *found* those that *policy* wants served."""
    match policy:
        case Latest(num_versions):
            # 0 is what an unset field of the text format reads as; TF Serving takes it for 1.
            return set(sorted(found, reverse=True)[: max(num_versions, 1)])
        case All():
            return set(found)
        case Specific(versions):
            return set(versions) & set(found)


class Source:
    """Polls base paths and passes on which versions each model aspires to, from a thread of its own."""

    def __init__(
        self, models: Sequence[ModelConfig], period_s: float, aspire: Callable[[str, Mapping[int, Path]], None]
    ) -> None:
        """
        Prepare to watch *models*.

        Args:
            models: What to look for, and where.
            period_s: Pause between polls; 0: poll once; negative: never poll.
            aspire: Receives the name of a model and all versions it aspires to, as version -> directory.
        """
        self._models = models
        self._period_s = period_s
        self._aspire = aspire
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="source", daemon=True)
        self._seen: dict[str, set[int]] = {}

    def start(self) -> None:
        """Begin to poll."""
        if self._period_s >= 0:
            self._thread.start()

    def stop(self) -> None:
        """End polling; what is served stays as it is."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def poll(self) -> None:
        """Look once at every base path. A path that cannot be read changes nothing, and delays no other model."""
        for model in self._models:
            try:
                found = read_versions(model.base_path)
            except OSError as error:
                logger.error(  # noqa: TRY400  # a traceback would tell nothing more
                    "Could not find base path %s for servable %s: %s. Waiting for it to appear.",
                    model.base_path,
                    model.name,
                    error.strerror,
                )
                continue
            aspired = aspired_versions(model.version_policy, found)
            self._tell_what_is_missing(model, aspired)
            self._aspire(model.name, {version: found[version] for version in aspired})

    def _tell_what_is_missing(self, model: ModelConfig, aspired: set[int]) -> None:
        """Warn when a model has nothing to serve or lacks a version asked for: while empty each time, else on change."""
        if not aspired:
            logger.warning(
                "No versions of servable %s found under base path %s. Did you forget to name the leaf directory "
                "with a version number (e.g. %s/1)?",
                model.name,
                model.base_path,
                model.base_path,
            )
        elif aspired != self._seen.get(model.name) and isinstance(model.version_policy, Specific):
            for version in sorted(model.version_policy.versions - aspired):
                logger.warning("Version %d of servable %s, which was requested, was not found.", version, model.name)
        self._seen[model.name] = aspired

    def _watch(self) -> None:
        while True:
            try:
                self.poll()
            except Exception:
                logger.exception("Looking for versions failed; trying again at the next poll.")
            if self._period_s == 0 or self._stopping.wait(self._period_s):
                return
