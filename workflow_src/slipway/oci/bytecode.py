"""
.pyc files for a layer, the same bytes in every build.

A read-only image cannot keep what it compiles, and `import tensorflow` takes twice as long without. The
image's own interpreter compiles, run through its own loader: it needs no root and no container, and the
version of the Python that runs us does not matter.
"""

import contextlib
import os
import queue
import struct
import subprocess
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Self

from slipway.errors import BuildError
from slipway.oci import bytecode_worker

CACHE_TAG = "cpython-311"


def pyc_path(path: str) -> str:
    """Name the .pyc file of the source at *path* (PEP 3147)."""
    parent, _, name = path.rpartition("/")
    return f"{parent}/__pycache__/{name.removesuffix('.py')}.{CACHE_TAG}.pyc".removeprefix("/")


class Compiler:
    """Compiles on all cores. Use it as a context manager."""

    def __init__(self, interpreter: Sequence[str], home: Path | None = None) -> None:
        """
        Say whose bytecode it is.

        Args:
            interpreter: Command of the interpreter.
            home: PYTHONHOME for it, where it is not installed in the place it was built for.
        """
        self._argv = [*interpreter, "-S", "-s", "-B", bytecode_worker.__file__]
        # The order of a frozenset among the constants depends on the hash seed.
        self._env = {"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"} | ({"PYTHONHOME": str(home)} if home else {})
        self._workers: queue.SimpleQueue[subprocess.Popen[bytes]] = queue.SimpleQueue()
        self._count = os.cpu_count() or 1
        self._pool = ThreadPoolExecutor(self._count, thread_name_prefix="bytecode")

    def __enter__(self) -> Self:
        for _ in range(self._count):
            self._workers.put(
                subprocess.Popen(self._argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=self._env)
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        while not self._workers.empty():
            worker = self._workers.get()
            assert worker.stdin is not None
            assert worker.stdout is not None
            with contextlib.suppress(BrokenPipeError):  # it died before, and was told of
                worker.stdin.close()
            worker.stdout.close()
            worker.wait()

    def submit(self, path: str, source: bytes) -> Future[bytes]:
        """Compile *source*, which will lie at the absolute *path*; the future gives a .pyc file, or b""."""
        return self._pool.submit(self._compile, path.encode(), source)

    def _compile(self, path: bytes, source: bytes) -> bytes:
        worker = self._workers.get()
        assert worker.stdin is not None
        assert worker.stdout is not None
        try:
            worker.stdin.write(struct.pack("<II", len(path), len(source)) + path + source)
            worker.stdin.flush()
            header = worker.stdout.read(4)
            return worker.stdout.read(int(struct.unpack("<I", header)[0]))
        except (BrokenPipeError, struct.error) as error:
            raise BuildError(
                f"{self._argv[0]}: the image's interpreter does not run on this machine, or died."
            ) from error
        finally:
            self._workers.put(worker)


def compiler_of(root: Path) -> Compiler:
    """Make a compiler of the interpreter in the root file system *root*; it need not be the root of this process."""
    libraries = root / "usr/lib/x86_64-linux-gnu"
    loader = str(libraries / "ld-linux-x86-64.so.2")
    return Compiler([loader, "--library-path", str(libraries), str(root / "usr/bin/python3.11")], home=root / "usr")
