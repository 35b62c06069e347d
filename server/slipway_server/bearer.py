"""Bearer tokens: who does not know the token in the file is not answered."""

import contextlib
import hmac
from pathlib import Path

from slipway_wire.status import InvalidArgument, Unauthenticated

_SCHEME = "bearer "


class BearerToken:
    """
    The token in a file.

    The file is read again when it has changed, so that a token can be exchanged while the server runs. As long as it
    cannot be read, the token before holds.
    """

    def __init__(self, path: Path, flag: str) -> None:
        """
        Read the token.

        Args:
            path: One line: the token, of visible ASCII characters.
            flag: Which flag named it, for errors.

        Raises:
            InvalidArgument: There is no token in it.
        """
        self._path = path
        self._flag = flag
        self._stamp = _stamp(path)
        self._token = self._read()

    def check(self, authorization: str | bytes | None) -> None:
        """
        Compare with the value of an Authorization header, in a time that tells nothing about the token.

        Raises:
            Unauthenticated: It is missing, no bearer token, or another one.
        """
        stamp = _stamp(self._path)
        if stamp not in {self._stamp, None}:
            self._stamp = stamp
            # It may be half-written; the next change brings another look.
            with contextlib.suppress(InvalidArgument):
                self._token = self._read()
        sent = authorization.decode("latin-1") if isinstance(authorization, bytes) else authorization or ""
        is_bearer = sent[: len(_SCHEME)].lower() == _SCHEME
        token = sent[len(_SCHEME) :].strip().encode("utf-8", "surrogateescape") if is_bearer else b""
        if not hmac.compare_digest(token, self._token):
            raise Unauthenticated("Expected the header Authorization: Bearer TOKEN with the server's token")

    def _read(self) -> bytes:
        try:
            token = self._path.read_bytes().strip()
        except OSError as error:
            raise InvalidArgument(f"--{self._flag}={self._path}: {error.strerror}") from error
        if not token or not all(0x21 <= byte <= 0x7E for byte in token):
            raise InvalidArgument(
                f"--{self._flag}={self._path}: expected one line of visible ASCII characters, the token"
            )
        return token


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
