"""
The index of a checkpoint (`.index`), read without TensorFlow: which tensors there are, and where they lie.

It is a table of sorted keys as LevelDB writes them, whose values are messages; TensorFlow calls index and data files
together a tensor bundle. Source: tensorflow/core/lib/io/table_format.txt, tensorflow/core/protobuf/tensor_bundle.proto.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import google_crc32c

from slipway.detection import snappy
from slipway.detection.fields import BYTES, VARINT, Malformed, View, fields, varint
from slipway.errors import SourceError, printable
from slipway_wire import dtypes
from slipway_wire.status import InvalidArgument

# The key that tf.train.Checkpoint, and nothing before it, writes: how its objects hang together.
OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"

MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
_FOOTER_BYTES = 48
_TRAILER_BYTES = 5  # kind of compression, checksum
_SNAPPY = 1  # table_options.h: what TensorFlow wrote until 1.15, and still reads
_CRC_MASK = 0xA282EAD8  # leveldb/util/crc32c.h
_MOST_INDEX_BYTES = 1 << 28  # a million tensors
_MOST_ELEMENTS = 1 << 62


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor: where it lies, in bytes; `dtype` as TensorFlow counts them, `shape` None where it is not known."""

    dtype: int
    shape: tuple[int, ...] | None
    shard: int
    offset: int
    size: int

    def __str__(self) -> str:
        """Say it as people write it, e.g. `float32 [3, 3, 1, 32]`."""
        try:
            name = dtypes.from_number(self.dtype).name
        except InvalidArgument:
            name = f"dtype {self.dtype}"
        return f"{name} {list(self.shape) if self.shape is not None else '[…]'}"


@dataclass(frozen=True, slots=True)
class Bundle:
    """What an index says: name -> tensor, and how many data files there must be."""

    shards: int
    tensors: dict[str, Entry]

    @property
    def is_object_based(self) -> bool:
        """Whether tf.train.Checkpoint wrote it, and not a TF1 Saver."""
        return OBJECT_GRAPH in self.tensors

    def shard_bytes(self, shard: int) -> int:
        """Give how long data file *shard* must be at least."""
        return max((entry.offset + entry.size for entry in self.tensors.values() if entry.shard == shard), default=0)


def read_index(path: Path) -> Bundle:
    """
    Read the index at *path*.

    Raises:
        SourceError: If it cannot be read, is cut off, is damaged (blocks carry checksums) or is no index.
    """
    try:
        if path.stat().st_size > _MOST_INDEX_BYTES:
            raise SourceError(f"{path}: {path.stat().st_size} bytes are too many for the index of a checkpoint.")
        return _bundle(path.read_bytes())
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror}).") from error
    except Malformed as error:
        raise SourceError(f"{path}: no index of a checkpoint, or damaged: {error}. Copy the file again.") from error


def _bundle(content: bytes) -> Bundle:
    if len(content) < _FOOTER_BYTES or not content.endswith(MAGIC):
        raise Malformed("its last bytes are not those of an index (cut off?)")
    view = memoryview(content)
    footer = view[-_FOOTER_BYTES:]
    _, at = _handle(footer, 0)
    index, _ = _handle(footer, at)
    shards, tensors, end = 1, {}, 0
    for _, where in _entries(_block(view, index)):
        handle, _ = _handle(where, 0)
        # One block told many times over would unpack to far more than the file.
        if handle[0] < end:
            raise Malformed("its blocks overlap")
        end = sum(handle)
        for key, value in _entries(_block(view, handle)):
            if key:
                name = printable(key.decode(errors="backslashreplace"))
                tensors[name] = _entry(name, value)
            else:  # the header stands under the empty key
                shards = next((v for n, t, v in fields(value) if n == 1 and t == VARINT and isinstance(v, int)), 1)
    if not 1 <= shards <= 100_000:
        raise Malformed(f"{shards} data files")
    return Bundle(shards, tensors)


def _handle(view: View, at: int) -> tuple[tuple[int, int], int]:
    offset, at = varint(view, at)
    size, at = varint(view, at)
    return (offset, size), at


def _block(view: View, handle: tuple[int, int]) -> View:
    offset, size = handle
    end = offset + size
    if end + _TRAILER_BYTES > len(view):
        raise Malformed("a block lies behind the end (cut off?)")
    compression = view[end]
    masked = int.from_bytes(view[end + 1 : end + _TRAILER_BYTES], "little")
    checksum = google_crc32c.value(bytes(view[offset : end + 1]))
    if (((checksum >> 15) | (checksum << 17)) + _CRC_MASK) & 0xFFFF_FFFF != masked:
        raise Malformed("a block has another checksum than it was written with")
    if compression == _SNAPPY:
        return memoryview(snappy.unpack(view[offset:end]))
    if compression:
        raise Malformed(f"a block has compression {compression}, which TensorFlow does not write")
    return view[offset:end]


def _entries(block: View) -> Iterator[tuple[bytes, View]]:
    """Walk a block: each key tells how much of the one before it it shares, and the rest."""
    if len(block) < 4:
        raise Malformed("a block is too short")
    restarts = int.from_bytes(block[-4:], "little")
    end, at, key = len(block) - 4 * (restarts + 1), 0, b""
    if end < 0:
        raise Malformed("a block is too short")
    while at < end:
        shared, at = varint(block, at)
        unshared, at = varint(block, at)
        length, at = varint(block, at)
        if shared > len(key) or at + unshared + length > end:
            raise Malformed("a block's entries do not add up")
        key = key[:shared] + bytes(block[at : at + unshared])
        at += unshared
        yield key, block[at : at + length]
        at += length


def _entry(name: str, message: View) -> Entry:
    numbers = {1: 0, 3: 0, 4: 0, 5: 0}
    is_whole = True
    shape: tuple[int, ...] | None = ()
    for number, wire_type, value in fields(message):
        if wire_type == VARINT and number in numbers and isinstance(value, int):
            numbers[number] = value
        elif number == 2 and wire_type == BYTES and isinstance(value, memoryview):
            shape = _shape(value)
        elif number == 7:  # a partitioned variable, whose parts are entries of their own
            is_whole = False
    entry = Entry(dtype=numbers[1], shape=shape, shard=numbers[3], offset=numbers[4], size=numbers[5])
    _refuse_impossible(name, entry, is_whole=is_whole)
    return entry


def _refuse_impossible(name: str, entry: Entry, *, is_whole: bool) -> None:
    """Raise Malformed if an entry's shape is none, or not that of its bytes: TensorFlow makes room for it before it looks."""
    elements = math.prod(entry.shape or ())
    if elements > _MOST_ELEMENTS or any(size >> 63 for size in entry.shape or ()):
        raise Malformed(f"{name} has the shape {list(entry.shape or ())}")
    try:
        dtype = dtypes.from_number(entry.dtype).numpy
    except InvalidArgument:
        raise Malformed(f"{name} has dtype {entry.dtype}, which TensorFlow has not") from None
    if dtype is None or dtype.kind == "O" or entry.shape is None or not is_whole:
        return
    if elements * dtype.itemsize != entry.size:
        raise Malformed(f"{name} ({entry}) takes {elements * dtype.itemsize} bytes, and is said to have {entry.size}")


def _shape(message: View) -> tuple[int, ...] | None:
    sizes = []
    for number, _, value in fields(message):
        if number == 3 and value:
            return None
        if number == 2 and isinstance(value, memoryview):
            sizes.append(next((v for n, _, v in fields(value) if n == 1 and isinstance(v, int)), 0))
    return tuple(sizes)
