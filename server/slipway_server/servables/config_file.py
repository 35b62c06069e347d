"""The model configuration file: read again and again, and written back if that is wanted."""

import logging
import os
import threading
from concurrent.futures import Future
from pathlib import Path

from google.protobuf import text_format

from slipway_server.config_files import read_model_server_config
from slipway_server.servables.configuration import Change, Configuration, Snapshot, replace_by
from slipway_wire.status import WireError

logger = logging.getLogger(__name__)


class ConfigFile:
    """Keeps the configuration as the file says; and, with *persists*, the file as the configuration is."""

    def __init__(
        self, path: Path, configuration: Configuration, *, period_s: float = 0.0, persists: bool = False
    ) -> None:
        """
        Prepare; nothing is read before `start`.

        Args:
            path: Text-format ModelServerConfig.
            configuration: Is given what the file says.
            period_s: Pause between two readings; 0 or less: it is read only when told.
            persists: Write the file, whole, after every change that did not come from it. Its comments are lost then.
        """
        self._path = path
        self._configuration = configuration
        self._period_s = period_s
        self._persists = persists
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="config_file", daemon=True)
        self._told = ""
        self._lock = threading.Lock()
        self._read: object = None

    def start(self) -> None:
        """Begin to poll, and to write if that is wanted: to be called when the first configuration is in force."""
        self._read = self._configuration.current.config
        if self._persists:
            self._configuration.tell(self._write)
        if self._period_s > 0:
            self._thread.start()

    def stop(self) -> None:
        """Read and write no more."""
        self._persists = False
        self._stopping.set()

    def reload(self, *, dry_run: bool = False) -> "Future[Change]":
        """
        Read the file now, and put in force what it says.

        Raises:
            InvalidArgument: It cannot be read or parsed.
            WireError: Through the future; see `Configuration.change`.
        """
        config = read_model_server_config(self._path)
        if not dry_run:
            with self._lock:
                self._read = config
        return self._configuration.change(replace_by(config), dry_run=dry_run)

    def _poll(self) -> None:
        unreadable = None
        while not self._stopping.wait(self._period_s):
            state = self._state()
            # One that cannot be parsed says so on stderr each time it is; what is refused may be accepted later.
            if state == unreadable:
                continue
            unreadable = None
            try:
                self.reload().add_done_callback(self._note)
            except WireError as error:
                unreadable = state
                self._tell(error)
            except Exception:
                logger.exception("%s cannot be read", self._path)

    def _state(self) -> tuple[int, ...]:
        try:
            status = self._path.stat()
        except OSError:
            return ()
        return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns

    def _note(self, future: "Future[Change]") -> None:
        error = future.exception()
        if error is None:
            self._told = ""
        elif isinstance(error, WireError):
            self._tell(error)
        else:
            logger.error("%s: %r", self._path, error)

    def _tell(self, error: WireError) -> None:
        """Log what is wrong with the file, once."""
        if error.message != self._told:
            self._told = error.message
            logger.error("%s: %s: %s", self._path, error.code.name, error.message)

    def _write(self, snapshot: Snapshot) -> None:
        with self._lock:
            if not self._persists or snapshot.config == self._read:
                return
            partial = self._path.with_name(f"{self._path.name}.partial")
            try:
                with partial.open("w") as file:
                    file.write(text_format.MessageToString(snapshot.config))
                    file.flush()
                    os.fsync(file.fileno())
                partial.replace(self._path)
            except OSError as error:
                logger.error("--persist_model_config: %s: %s", self._path, error.strerror)  # noqa: TRY400  # says it all
            else:
                self._read = snapshot.config
