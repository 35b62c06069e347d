"""
Base paths on other file systems, such as `gs://` and `s3://`, through TensorFlow's file layer.

A version is fetched into a local directory before it is loaded, whole: what is verified is what is loaded, and all that
reads a version directory reads local files. The copy goes when the version does.
"""

import errno
import os
import shutil
import tempfile
import threading
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from slipway_server.servables.loader import Loader, Servable
from slipway_server.servables.storage import FileState, join
from slipway_wire.status import Code, Unavailable

_UNAUTHENTICATED = 16
_ERRNO = {Code.NOT_FOUND: errno.ENOENT, Code.PERMISSION_DENIED: errno.EACCES, _UNAUTHENTICATED: errno.EACCES}


def _tensorflow() -> Any:
    """Import TensorFlow when a path needs it: a server of StableHLO has none, and its versions lie on a disk."""
    try:
        import tensorflow as tf  # noqa: PLC0415
    except ImportError as error:
        raise OSError(errno.ENOTSUP, "TensorFlow, whose file systems read it, is not installed here") from error
    return tf


class RemoteStorage:
    """What TensorFlow can reach by a URI."""

    def names(self, directory: str) -> list[str]:
        """List what lies directly in *directory*; an object store knows no empty one."""
        tf = _tensorflow()
        _check_scheme(directory)
        try:
            # Directories come with a slash at their end, from some file systems.
            return sorted({name.rstrip("/") for name in tf.io.gfile.listdir(directory)} - {""})
        except tf.errors.OpError as error:
            raise _os_error(error) from error

    def is_directory(self, path: str) -> bool:
        """Say whether *path* is a directory."""
        tf = _tensorflow()
        try:
            return bool(tf.io.gfile.isdir(path))
        except tf.errors.OpError as error:
            raise _os_error(error) from error

    def tree(self, directory: str) -> dict[str, FileState]:
        """List all files below *directory*."""
        tf = _tensorflow()
        files: dict[str, FileState] = {}
        try:
            pending = [""]
            while pending:
                below = pending.pop()
                for name in self.names(join(directory, below) if below else directory):
                    relative = f"{below}/{name}" if below else name
                    status = tf.io.gfile.stat(join(directory, relative))
                    if status.is_directory:
                        pending.append(relative)
                    else:
                        files[relative] = FileState(status.length, status.mtime_nsec / 1e9)
        except tf.errors.OpError as error:
            raise _os_error(error) from error
        return files

    def read(self, path: str, limit_bytes: int) -> bytes:
        """Read *path*."""
        tf = _tensorflow()
        try:
            with tf.io.gfile.GFile(path, "rb") as file:
                content: bytes = file.read(limit_bytes)
                return content
        except tf.errors.OpError as error:
            raise _os_error(error) from error

    def device(self, _directory: str) -> int | None:
        """There is none."""
        return None

    def fetch(self, directory: str, to: Path) -> None:
        """Copy *directory* with all that is in it to the local directory *to*."""
        tf = _tensorflow()
        for name in self.tree(directory):
            target = to / name
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                tf.io.gfile.copy(join(directory, name), str(target), overwrite=True)
            except tf.errors.OpError as error:
                raise _os_error(error) from error


class LocalCopies:
    """The fetched versions of one process, below one temporary directory."""

    def __init__(self) -> None:
        self._storage = RemoteStorage()
        self._lock = threading.Lock()
        self._root: Path | None = None

    def fetch(self, path: str) -> Path:
        """
        Copy the version at *path*.

        Returns:
            Where the copy is. Its name is the same each time, for it becomes a label of metrics.

        Raises:
            Unavailable: It cannot be fetched; nothing is left behind.
        """
        with self._lock:
            if self._root is None:
                self._root = Path(tempfile.mkdtemp(prefix="slipway-versions-"))
            directory = self._root / urllib.parse.quote(path, safe="")
        shutil.rmtree(directory, ignore_errors=True)
        try:
            directory.mkdir()
            self._storage.fetch(path, directory)
        except OSError as error:
            shutil.rmtree(directory, ignore_errors=True)
            raise Unavailable(f"{path}: cannot be fetched to {directory}: {error.strerror}") from error
        return directory

    def remove(self) -> None:
        """Remove all copies: the process ends."""
        with self._lock:
            if self._root is not None:
                shutil.rmtree(self._root, ignore_errors=True)


class FetchedLoader:
    """A loader of a version that lies elsewhere."""

    def __init__(self, path: str, copies: LocalCopies, make_loader: Callable[[Path], Loader]) -> None:
        """
        Prepare; nothing is fetched yet.

        Args:
            path: URI of the version directory.
            copies: Fetches it.
            make_loader: Makes what loads the local copy.
        """
        self._path = path
        self._copies = copies
        self._make_loader = make_loader

    def load(self) -> Servable:
        """
        Fetch, then load.

        Raises:
            Unavailable: It cannot be fetched.
            Exception: What the loader of the copy raises.
        """
        directory = self._copies.fetch(self._path)
        try:
            servable = self._make_loader(directory).load()
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise
        close = servable.close

        def close_and_remove() -> None:
            try:
                close()
            finally:
                shutil.rmtree(directory, ignore_errors=True)

        # Not a wrapper, which would cost every request a call. Files may be read as long as the model runs.
        servable.close = close_and_remove  # type: ignore[method-assign]
        return servable


def _check_scheme(path: str) -> None:
    """Tell a file system that TensorFlow does not know from a directory that is not there; TensorFlow does not."""
    tf = _tensorflow()
    scheme = path.partition("://")[0]
    known = [name for name in tf.io.gfile.get_registered_schemes() if name]
    if scheme not in known:
        raise OSError(
            errno.EPROTONOSUPPORT,
            f"TensorFlow has no file system for {scheme}:// here, only for {', '.join(sorted(known))}. Install one "
            "(tensorflow-io has many) and name it in --import_module=tensorflow_io",
        )


def _os_error(error: Any) -> OSError:
    number = _ERRNO.get(error.error_code, errno.EIO)
    return OSError(number, os.strerror(number) if number != errno.EIO else error.message)
