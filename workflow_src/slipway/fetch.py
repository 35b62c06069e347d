"""
Sources from elsewhere (https://, s3://, gs://), fetched once into the cache and named there by their SHA-256.

The digest decides: a file with another one is never handed on and never kept. So it does not matter whether a download was
resumed, who else uses the cache, or what a server says its bytes are.
"""

import contextlib
import random
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urljoin, urlsplit

from slipway import files, locks
from slipway.errors import SourceError, StorageError, one_line

_CHUNK_BYTES = 1 << 20
_REDIRECTS = 5
_RETRIED_STATUSES = {408, 425, 429, 500, 502, 503, 504}
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)$")
_EXTRAS = {"s3": "s3", "gs": "gs"}
_TOLD_EVERY_S = 5.0

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Patience:
    """
    How long to wait, how often to try again, and what is too much.

    Attributes:
        connect_s: For a connection.
        read_s: For the next bytes.
        attempts: Tries without any progress; a try that brought bytes starts the count again.
        pause_s: In front of the second try; doubled for each further one, up to *longest_pause_s*.
        longest_pause_s: Also for a server that asks for more (Retry-After).
        slowest_bytes_per_s: A download below this, over *read_s*, counts as stalled.
        most_bytes: Largest file.
    """

    connect_s: float = 10
    read_s: float = 60
    attempts: int = 5
    pause_s: float = 0.5
    longest_pause_s: float = 30
    slowest_bytes_per_s: float = 100
    most_bytes: int = 64 << 30


DEFAULT_PATIENCE = Patience()


class _TryAgainError(Exception):
    """What may go better next time."""

    def __init__(self, what: str, after_s: float = 0) -> None:
        super().__init__(what)
        self.after_s = after_s


def shown(url: str) -> str:
    """Write *url* without what is secret in it: password and query (signed URLs)."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=host, query="…" if parts.query else "", fragment="").geturl()


def fetch(url: str, sha256: str, cache: Path, say: Say, patience: Patience = DEFAULT_PATIENCE) -> Path:
    """
    Give the file at *url*, from *cache* or else from there.

    Args:
        url: By https, http (`https_proxy` and the like are honoured), s3 or gs (with the credentials of their libraries).
        sha256: 64 hex digits. A file in the cache is read and held against it, too.
        cache: Directory of the cache.
        say: Told of a download and how it goes on.
        patience: Time-outs and limits.

    Returns:
        The file in the cache; its name is its digest.

    Raises:
        SourceError: It cannot be had, is too large, or has another digest. Nothing is kept then, but what came of a
            download that was cut off, for the next one.
    """
    place = cache / "sources" / sha256
    with files.readable_disk_faults(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        with locks.waiting_lock(
            place.with_suffix(".lock"), lambda holder: say(f"waiting for process {holder}, which fetches it")
        ):
            if place.is_file():
                if _digest(place) == sha256:
                    return place
                say(f"{place}: damaged in the cache; fetching it again")
                place.unlink()
            _download(url, sha256, place, say, patience)
    return place


def _digest(path: Path) -> str:
    return files.sha256_file(path).removeprefix("sha256:")


def _download(url: str, sha256: str, place: Path, say: Say, patience: Patience) -> None:
    # One name for all processes, under the lock: the next one goes on where a killed one stopped.
    partial = place.with_suffix(".partial")
    remote = _remote(url, patience)
    say(f"fetching {shown(url)}")
    try:
        resumed = _fill(remote, partial, url, say, patience)
        found = _digest(partial)
        if found != sha256 and resumed:
            # The bytes that lay there may have been those of another file.
            partial.unlink()
            _fill(remote, partial, url, say, patience)
            found = _digest(partial)
    except SourceError as error:
        if not isinstance(error.__cause__, _TryAgainError):
            partial.unlink(missing_ok=True)
        raise
    except OSError as error:
        if error.filename is None:  # no file of ours: the network's
            raise SourceError(f"{shown(url)}: {one_line(error)}.") from error
        raise
    if found != sha256:
        partial.unlink()
        raise SourceError(
            f"{shown(url)}: expected SHA-256 {sha256}, found {found}; nothing is kept. Correct sha256 in the config only "
            "if you know that this file is the right one."
        )
    partial.replace(place)


def _fill(remote: "_Remote", partial: Path, url: str, say: Say, patience: Patience) -> bool:
    """Lengthen *partial* to the whole file, in as many tries as it takes; tell whether it came in several parts."""
    fruitless, resumed = 0, False
    while True:
        before = partial.stat().st_size if partial.exists() else 0
        resumed |= before > 0
        try:
            _append(remote, partial, say, patience)
        except _TryAgainError as error:
            came = partial.stat().st_size - before if partial.exists() else 0
            fruitless = 1 if came > 0 else fruitless + 1
            if fruitless >= patience.attempts:
                raise SourceError(
                    f"{shown(url)}: cannot be fetched: {error} ({fruitless} tries). Check the address and the network "
                    "(https_proxy, no_proxy); the next run goes on where this one stopped."
                ) from error
            doubled = patience.pause_s * 2 ** (fruitless - 1)
            pause = min(patience.longest_pause_s, max(error.after_s, doubled * random.uniform(0.5, 1)))  # noqa: S311 - no secret
            say(f"{error}; trying again in {pause:.1f} s")
            time.sleep(pause)
        else:
            return resumed


def _append(remote: "_Remote", partial: Path, say: Say, patience: Patience) -> None:
    have = partial.stat().st_size if partial.exists() else 0
    with remote.opened(have) as (start, total, chunks):
        _check_size(total, patience)
        told = _Told(say, total)
        with partial.open("r+b" if start else "wb") as file:
            file.truncate(start)
            file.seek(start)
            at, began, counted = start, time.monotonic(), start
            for chunk in chunks:
                with files.readable_disk_faults(partial):  # the disk's faults are not the network's
                    file.write(chunk)
                at += len(chunk)
                _check_size(at, patience)
                told(at)
                if (elapsed := time.monotonic() - began) > patience.read_s:
                    if (at - counted) / elapsed < patience.slowest_bytes_per_s:
                        raise _TryAgainError(f"stalled at {at} bytes")
                    began, counted = time.monotonic(), at
    if total is not None and at < total:
        raise _TryAgainError(f"cut off after {at} of {total} bytes")


def _check_size(size: int | None, patience: Patience) -> None:
    if size is not None and size > patience.most_bytes:
        raise SourceError(f"the file is larger than {patience.most_bytes} bytes ({size}); nothing is kept.")


class _Told:
    """Tells how a download goes on, not too often."""

    def __init__(self, say: Say, total: int | None) -> None:
        self._say, self._total, self._at = say, total, time.monotonic()

    def __call__(self, at: int) -> None:
        if time.monotonic() - self._at < _TOLD_EVERY_S:
            return
        self._at = time.monotonic()
        of = f" of {self._total / 1e6:.0f} ({at / self._total:.0%})" if self._total else ""
        self._say(f"{at / 1e6:.0f}{of} MB")


# --- where from ------------------------------------------------------------------------------------

Opened = contextlib.AbstractContextManager[tuple[int, int | None, Iterator[bytes]]]


class _Remote(Protocol):
    """A file that can be read from a place on."""

    def opened(self, at: int) -> Opened:
        """Give where the bytes really start (0 or *at*), the whole size if it is known, and the bytes in chunks."""


def _remote(url: str, patience: Patience) -> _Remote:
    scheme = urlsplit(url).scheme.lower()
    return _Http(url, patience) if scheme in {"http", "https"} else _Store(url, scheme)


class _Http:
    def __init__(self, url: str, patience: Patience) -> None:
        self._url, self._patience = url, patience

    @contextlib.contextmanager
    def opened(self, at: int) -> Iterator[tuple[int, int | None, Iterator[bytes]]]:
        import requests  # noqa: PLC0415 - a tenth of a second, where something is fetched
        import urllib3  # noqa: PLC0415

        try:
            with requests.Session() as session, self._get(session, at) as response:
                start, total = self._range(response, at)
                yield start, total, self._chunks(response)
        except (
            requests.exceptions.SSLError,
            requests.exceptions.InvalidURL,
            requests.exceptions.InvalidSchema,
        ) as error:
            raise SourceError(f"{shown(self._url)}: {one_line(error)}.") from error
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise _TryAgainError(_cause(error)) from error

    def _get(self, session: Any, at: int) -> Any:
        """Ask for the bytes from *at* on, along redirects that stay within http and https."""
        url = self._url
        # As they are: what is packed stays packed, or its digest would be another.
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={at}-"} if at else {})
        for _ in range(_REDIRECTS + 1):
            response = session.get(
                url,
                headers=headers,
                stream=True,
                allow_redirects=False,
                timeout=(self._patience.connect_s, self._patience.read_s),
            )
            if not response.is_redirect:
                return response
            response.close()
            before, url = urlsplit(url).scheme, urljoin(url, response.headers["location"])
            after = urlsplit(url).scheme
            if after not in {"http", "https"} or (before, after) == ("https", "http"):
                raise SourceError(f"{shown(self._url)}: redirects from {before} to {shown(url)}: refused.")
        raise SourceError(f"{shown(self._url)}: redirects more than {_REDIRECTS} times.")

    def _range(self, response: Any, at: int) -> tuple[int, int | None]:
        status, url = response.status_code, shown(self._url)
        if status == 206 and (found := _RANGE.match(response.headers.get("content-range", ""))):
            return int(found[1]), None if found[2] == "*" else int(found[2])
        if status == 200:
            length = response.headers.get("content-length", "")
            return 0, int(length) if length.isdigit() else None
        if status == 416 and at:  # nothing behind what is there: whole already, or not this file's; the digest decides
            return at, None
        if status in _RETRIED_STATUSES:
            wait = response.headers.get("retry-after", "")
            raise _TryAgainError(f"status {status} {response.reason}", float(wait) if wait.isdigit() else 0)
        hint = " Has it moved, or is a token missing?" if status in {401, 403, 404, 410} else ""
        raise SourceError(f"{url}: answered {status} {response.reason}.{hint}")

    def _chunks(self, response: Any) -> Iterator[bytes]:
        if response.status_code == 416:
            return
        # What has come, not a whole chunk: a trickle must be seen.
        while chunk := response.raw.read1(_CHUNK_BYTES, decode_content=False):
            yield chunk


def _cause(error: BaseException) -> str:
    """Give what lies at the bottom of wrapped errors, without the addresses of objects."""
    while (inner := error.__cause__ or error.__context__) is not None and str(inner):
        error = inner
    return re.sub(r"<[^>]*>: ?", "", one_line(error))


class _Store:
    """An object store, by fsspec and the library that knows it."""

    def __init__(self, url: str, scheme: str) -> None:
        self._url, self._scheme = url, scheme

    @contextlib.contextmanager
    def opened(self, at: int) -> Iterator[tuple[int, int | None, Iterator[bytes]]]:
        try:
            import fsspec  # noqa: PLC0415 - an optional extra

            system, path = fsspec.core.url_to_fs(self._url)
        except ImportError as error:
            extra = f"slipway[{_EXTRAS.get(self._scheme, self._scheme)}]"
            raise SourceError(
                f"{self._url}: {self._scheme}:// needs a library that is not installed ({error}): pip install '{extra}'"
            ) from error
        try:
            total = int(system.size(path))
            start = at if at <= total else 0
            with system.open(path, "rb", block_size=_CHUNK_BYTES, cache_type="readahead") as file:
                if start:
                    file.seek(start)
                yield start, total, iter(lambda: file.read(_CHUNK_BYTES), b"")
        except (SourceError, StorageError, _TryAgainError):
            raise
        except (FileNotFoundError, PermissionError) as error:
            raise SourceError(f"{self._url}: {one_line(error)}. Has it moved, or are credentials missing?") from error
        except Exception as error:  # each library has exceptions of its own
            raise _TryAgainError(one_line(error)) from error
