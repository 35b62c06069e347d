"""Has a version directory arrived as a whole? What is missing from it, and whether it still changes."""

import hashlib
from pathlib import Path

from slipway_server.servables import bundle
from slipway_server.servables.diagnosis import diagnose_version
from slipway_server.servables.loader import Loader, Servable
from slipway_server.servables.storage import LocalStorage, Storage, Tree, join
from slipway_wire import manifest
from slipway_wire.manifest import MANIFEST_FILE
from slipway_wire.status import DataLoss, WireError, error_of

_INDEX = "variables/variables.index"
_MODELS = ("saved_model.pb", "saved_model.pbtxt", "model.tflite", "stablehlo/manifest.json")
# Far more than any index or manifest has; what is longer is not read into memory.
_LIMIT_BYTES = 256 * 2**20


class Arrival:
    """
    Watches one directory until nothing in it changes any more. Owns no clock.

    Times are in seconds: *now* by a monotonic clock, *wall* since the epoch.
    """

    def __init__(self) -> None:
        self.tree: Tree | None = None
        self.was_restless = False
        """Whether two looks have differed."""
        self._since = 0.0

    def look(self, tree: Tree, now: float) -> None:
        """Take note of what is there."""
        if tree != self.tree:
            self.was_restless = self.tree is not None
            self.tree = tree
            self._since = now

    def quiet_s(self, now: float, wall: float) -> float:
        """Say for how long nothing has changed, as far as can be known from looking and from the files' own times."""
        newest = max((file.changed_at for file in (self.tree or {}).values()), default=wall)
        return max(now - self._since, wall - newest, 0.0)


def missing(storage: Storage, directory: str, tree: Tree) -> str | None:
    """
    Say what a version lacks to be whole; None if nothing is known to be missing.

    Args:
        storage: Where it lies.
        directory: The version directory.
        tree: All its files.

    Raises:
        OSError: The index or the manifest cannot be read.
    """
    if MANIFEST_FILE in tree:
        for name in manifest.decode(storage.read(join(directory, MANIFEST_FILE), _LIMIT_BYTES)):
            if name not in tree:
                return f"{name}, which {MANIFEST_FILE} lists, is missing"
    if not any(name in tree for name in _MODELS):
        return "saved_model.pb is missing"
    for name in _MODELS:
        if name in tree and tree[name].size_bytes == 0:
            return f"{name} is empty"
    return _missing_variables(storage, directory, tree)


def _missing_variables(storage: Storage, directory: str, tree: Tree) -> str | None:
    shards = [found for name in tree if (found := bundle.DATA_FILE.fullmatch(name.removeprefix("variables/")))]
    if _INDEX not in tree:
        return f"{_INDEX} is missing, though {shards[0].group()} is there" if shards else None
    try:
        sizes = bundle.shard_sizes(storage.read(join(directory, _INDEX), _LIMIT_BYTES))
    except bundle.DamagedIndex:
        return f"{_INDEX} is cut off or damaged ({tree[_INDEX].size_bytes} bytes)"
    if not sizes:
        return None
    count = int(shards[0][2]) if shards else max(sizes) + 1
    for shard, size in sorted(sizes.items()):
        name = f"variables/variables.data-{shard:05d}-of-{count:05d}"
        if name not in tree:
            return f"{name} is missing"
        if tree[name].size_bytes < size:
            return f"{name} is cut off: it has {tree[name].size_bytes} of {size} bytes"
    return None


class VerifiedLoader:
    """
    A loader that is asked only after the version has been held against its manifest, if it has one.

    If it fails, its error goes on with what the directory seems to be, where that is no SavedModel.
    """

    def __init__(self, loader: Loader, directory: Path) -> None:
        self._loader = loader
        self._directory = directory

    def load(self) -> Servable:
        """
        Verify, then load.

        Raises:
            DataLoss: A file is not the one that the manifest lists.
            Exception: What the loader raises.
        """
        verify(self._directory)
        try:
            return self._loader.load()
        except WireError as error:
            diagnosis = diagnose_version(LocalStorage(), str(self._directory))
            if diagnosis is None:
                raise
            raise error_of(error.code, f"{error.message}. {diagnosis}") from error


def verify(directory: Path) -> None:
    """
    Compare the files of *directory* with its manifest; without one there is nothing to compare.

    Raises:
        DataLoss: One is missing or differs.
    """
    try:
        digests = manifest.decode((directory / MANIFEST_FILE).read_bytes())
    except FileNotFoundError:
        return
    for name, expected in digests.items():
        try:
            with (directory / name).open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise DataLoss(
                f"{directory / name}: {error.strerror}, but {MANIFEST_FILE} lists it. Copy it again."
            ) from error
        if found != expected:
            raise DataLoss(
                f"{directory / name}: differs from what {MANIFEST_FILE} lists: expected sha256 {expected}, found {found}. "
                "Copy it again."
            )
