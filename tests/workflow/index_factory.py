"""Indexes of checkpoints, as TensorFlow writes them, from a dictionary; and checkpoints of zeros around them."""

import google_crc32c

from slipway_wire.protobuf import bytes_field, varint, varint_field

MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")


def block(entries, pack=None):
    """A block of a LevelDB table, without shared prefixes, and its trailer; *pack* compresses as Snappy does."""
    body = b"".join(
        varint(0) + varint(len(key)) + varint(len(value)) + key + value for key, value in sorted(entries.items())
    )
    body += (0).to_bytes(4, "little") + (1).to_bytes(4, "little")
    body, kind = (pack(body), b"\1") if pack else (body, b"\0")
    crc = google_crc32c.value(body + kind)
    masked = (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFF_FFFF
    return body, kind + masked.to_bytes(4, "little")


def index(tensors, shards=1, pack=None):
    """The bytes of an index: name -> (dtype, shape, shard, offset, size)."""
    entries = {b"": varint_field(1, shards)}
    for name, (dtype, shape, shard, offset, size) in tensors.items():
        sizes = b"".join(bytes_field(2, varint_field(1, length)) for length in shape)
        numbers = varint_field(3, shard) + varint_field(4, offset) + varint_field(5, size)
        entries[name.encode()] = varint_field(1, dtype) + bytes_field(2, sizes) + numbers
    content, handles = b"", {}
    for key, part in (("data", entries), ("meta", {})):
        body, trailer = block(part, pack)
        handles[key] = varint(len(content)) + varint(len(body))
        content += body + trailer
    body, trailer = block({b"~": handles["data"]}, pack)
    footer = handles["meta"] + varint(len(content)) + varint(len(body))
    return content + body + trailer + footer.ljust(40, b"\0") + MAGIC


def checkpoint(prefix, names=("w",), shards=1):
    """Write a checkpoint of float vectors [4]; a name of objects (`a/.ATTRIBUTES/…`) makes it one of tf.train.Checkpoint."""
    tensors = {name: (1, [4], number % shards, 16 * (number // shards), 16) for number, name in enumerate(names)}
    prefix.parent.mkdir(parents=True, exist_ok=True)
    prefix.with_name(f"{prefix.name}.index").write_bytes(index(tensors, shards))
    for shard in range(shards):
        size = sum(16 for tensor in tensors.values() if tensor[2] == shard)
        prefix.with_name(f"{prefix.name}.data-{shard:05}-of-{shards:05}").write_bytes(bytes(size))
    return prefix


OBJECTS = ("_CHECKPOINTABLE_OBJECT_GRAPH", "model/w/.ATTRIBUTES/VARIABLE_VALUE")
