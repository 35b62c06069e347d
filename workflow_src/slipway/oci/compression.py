"""Blobs compressed on all cores; the bytes depend on the content alone, not on how many cores there are."""

import hashlib
import os
import struct
import zlib
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import BinaryIO, Literal, Self

import zstandard

Compression = Literal["gzip", "zstd", "none"]
MEDIA_TYPES: dict[Compression, str] = {
    "gzip": "application/vnd.oci.image.layer.v1.tar+gzip",
    "zstd": "application/vnd.oci.image.layer.v1.tar+zstd",
    "none": "application/vnd.oci.image.layer.v1.tar",
}
_BLOCK_BYTES = 1 << 20
_WINDOW_BYTES = 32 << 10
_GZIP_LEVEL = 6
_ZSTD_LEVEL = 3
# No name, no time, "unknown" system (RFC 1952).
_GZIP_HEADER = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"


def implementation(compression: Compression) -> str:
    """Name the library whose version decides the compressed bytes; the uncompressed ones never depend on it."""
    return {
        "gzip": f"zlib {zlib.ZLIB_RUNTIME_VERSION} level {_GZIP_LEVEL}",
        "zstd": f"zstandard {zstandard.__version__} level {_ZSTD_LEVEL}",
        "none": "none",
    }[compression]


def _deflate(block: bytes, before: bytes) -> bytes:
    # A block continues the stream of the one before it: that one's last 32 KiB are its dictionary, and it
    # ends at a byte boundary. This is how pigz divides its work.
    compressor = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, -15, zdict=before[-_WINDOW_BYTES:])
    return compressor.compress(block) + compressor.flush(zlib.Z_SYNC_FLUSH)


def _zstd(block: bytes, _before: bytes) -> bytes:
    # Frames follow one another in one file (RFC 8878).
    return zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_checksum=True).compress(block)


def _store(block: bytes, _before: bytes) -> bytes:
    return block


_COMPRESS: dict[Compression, Callable[[bytes, bytes], bytes]] = {"gzip": _deflate, "zstd": _zstd, "none": _store}


class CompressedBlob:
    """
    A sink that writes what it is given, compressed, to a file. Use it as a context manager.

    Attributes (once closed):
        raw_digest, raw_bytes: Of what was written to it.
        digest, bytes: Of what went to the file.
    """

    def __init__(self, file: BinaryIO, compression: Compression) -> None:
        self._file = file
        self._compression = compression
        self._block = bytearray()
        self._before = b""
        self._raw_hash, self._hash = hashlib.sha256(), hashlib.sha256()
        self._checksum = 0
        self.raw_bytes, self.bytes = 0, 0
        workers = os.cpu_count() or 1
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="compress")
        self._pending: deque[Future[bytes]] = deque()
        self._most_pending = 4 * workers

    @property
    def raw_digest(self) -> str:
        """Digest of what was written to it."""
        return f"sha256:{self._raw_hash.hexdigest()}"

    @property
    def digest(self) -> str:
        """Digest of what went to the file."""
        return f"sha256:{self._hash.hexdigest()}"

    def __enter__(self) -> Self:
        if self._compression == "gzip":
            self._emit(_GZIP_HEADER)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self._pool.shutdown(cancel_futures=True)

    def write(self, data: bytes, /) -> None:
        """Take *data*."""
        self._block += data
        while len(self._block) >= _BLOCK_BYTES:
            self._submit(bytes(self._block[:_BLOCK_BYTES]))
            del self._block[:_BLOCK_BYTES]

    def _submit(self, block: bytes) -> None:
        self._raw_hash.update(block)
        self.raw_bytes += len(block)
        if self._compression == "gzip":
            self._checksum = zlib.crc32(block, self._checksum)
        self._pending.append(self._pool.submit(_COMPRESS[self._compression], block, self._before))
        self._before = block
        while len(self._pending) > self._most_pending:
            self._emit(self._pending.popleft().result())

    def _finish(self) -> None:
        if self._block:
            self._submit(bytes(self._block))
        while self._pending:
            self._emit(self._pending.popleft().result())
        if self._compression == "gzip":
            # An empty last block, the checksum, the size modulo 2**32.
            self._emit(b"\x03\0" + struct.pack("<II", self._checksum, self.raw_bytes & 0xFFFFFFFF))

    def _emit(self, data: bytes) -> None:
        self._hash.update(data)
        self.bytes += len(data)
        self._file.write(data)
