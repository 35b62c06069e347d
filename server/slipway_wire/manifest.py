"""
The manifest of a version directory: digests by which a server knows that each file is the one that was meant.

It is what `sha256sum` writes and `sha256sum --check` reads, from within the version directory.

Source of the format: https://www.gnu.org/software/coreutils/manual/html_node/cksum-output-modes.html.
"""

import re
from collections.abc import Mapping

MANIFEST_FILE = "assets.extra/SHA256SUMS"
"""Where it lies, relative to the version directory; paths in it are relative to that directory, too."""

_LINE = re.compile(r"([0-9a-fA-F]{64}) [ *](.+)")


def encode(digests: Mapping[str, str]) -> bytes:
    """Write a manifest from relative path -> SHA-256 in hexadecimal, sorted by path."""
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items())).encode()


def decode(manifest: bytes) -> dict[str, str]:
    """Read the lines of a manifest: relative path -> SHA-256 in lower-case hexadecimal; what is no such line is passed over."""
    lines = (_LINE.fullmatch(line) for line in manifest.decode("utf-8", "replace").splitlines())
    return {line[2].removeprefix("./"): line[1].lower() for line in lines if line}
