"""
Compile Python sources; run as a script by the interpreter that the image will have.

Speaks frames on standard input and output: two little-endian uint32 (bytes of path, bytes of source), path,
source; the answer is a uint32 and the content of a .pyc file, empty where the source does not compile.
"""

import importlib.util
import marshal
import os
import struct
import sys
import warnings

# Hash-based and unchecked (PEP 552): holds no time, and a read-only image needs no check.
_UNCHECKED_HASH = 1
# Version 2 writes no back-references: with them the bytes depend on which strings happen to be interned.
_MARSHAL_VERSION = 2


def compiled(path: str, source: bytes) -> bytes:
    """Give the content of the .pyc file of *source*, or b"" where it does not compile (test data, templates)."""
    try:
        code = compile(source, path, "exec", dont_inherit=True, optimize=0)
    except (SyntaxError, ValueError):
        return b""
    header = importlib.util.MAGIC_NUMBER + struct.pack("<I", _UNCHECKED_HASH) + importlib.util.source_hash(source)
    return header + marshal.dumps(code, _MARSHAL_VERSION)


def main() -> None:
    """Answer frames until the input ends."""
    warnings.simplefilter("ignore")
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    while len(header := requests.read(8)) == 8:
        path_bytes, source_bytes = struct.unpack("<II", header)
        path = requests.read(path_bytes).decode()
        answer = compiled(path, requests.read(source_bytes))
        try:
            answers.write(struct.pack("<I", len(answer)) + answer)
            answers.flush()
        except BrokenPipeError:  # who asked was killed
            os._exit(1)


if __name__ == "__main__":
    main()
