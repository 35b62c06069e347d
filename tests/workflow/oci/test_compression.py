import gzip
import hashlib
import io
import os
import random
import subprocess
import zlib

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from slipway.oci.compression import CompressedBlob, implementation

ALL = pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])


def compressed(parts, compression):
    file = io.BytesIO()
    with CompressedBlob(file, compression) as blob:
        for part in parts:
            blob.write(part)
    return file.getvalue(), blob


def decompressed(data, compression):
    if compression == "gzip":
        return gzip.decompress(data)
    if compression == "zstd":
        return zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True).read()
    return data


def megabytes(count):
    """Text that compresses, with matches that reach over the ends of blocks."""
    generator = random.Random(7)
    words = [generator.randbytes(200) for _ in range(50)]
    return b"".join(generator.choice(words) for _ in range(count * 5000))


@ALL
@given(st.lists(st.binary(max_size=3000), max_size=6))
def test_it_reads_back(compression, parts):
    data, blob = compressed(parts, compression)

    assert decompressed(data, compression) == b"".join(parts)
    assert blob.raw_digest == f"sha256:{hashlib.sha256(b''.join(parts)).hexdigest()}"
    assert blob.digest == f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert (blob.raw_bytes, blob.bytes) == (sum(map(len, parts)), len(data))


@ALL
def test_bytes_depend_neither_on_the_parts_nor_on_the_cores(compression, monkeypatch):
    content = megabytes(3)
    whole, _ = compressed([content], compression)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    parts, _ = compressed([content[start : start + 77_777] for start in range(0, len(content), 77_777)], compression)

    assert parts == whole
    assert decompressed(whole, compression) == content


def test_blocks_share_their_dictionary_and_gzip_itself_reads_them(tmp_path):
    """Blocks on their own would lose what repeats across their ends; other programs must accept the stream."""
    content = megabytes(4)
    data, _ = compressed([content], "gzip")
    path = tmp_path / "blob.gz"
    path.write_bytes(data)

    subprocess.run(["gzip", "--test", path], check=True)
    assert len(data) < 1.02 * len(zlib.compress(content, 6))


def test_a_fault_of_the_disk_is_not_hidden_by_the_tidying_up():
    class Full(io.BytesIO):
        def write(self, data):
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"), CompressedBlob(Full(), "none") as blob:
        blob.write(b"x" * (40 << 20))


@ALL
def test_the_implementation_names_library_and_level(compression):
    assert implementation(compression) == "none" if compression == "none" else " level " in implementation(compression)
