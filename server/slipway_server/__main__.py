"""`slipway-server`, `tensorflow_model_server` and `python -m slipway_server`."""

import contextlib
import importlib.metadata
import logging
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import uvloop

from slipway_server import logs
from slipway_server.errors import UsageError
from slipway_server.settings import Settings, parse, usage
from slipway_wire import __version__
from slipway_wire.status import WireError

logger = logging.getLogger(__name__)

# What TF Serving's exit(-1) arrives as.
_FAILED = 255


def main() -> NoReturn:
    """Run the server, and end the process without waiting for threads: a load that is under way cannot be interrupted."""
    code = run(sys.argv[1:])
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def run(arguments: Sequence[str]) -> int:
    """
    Do what the command line asks for.

    Returns:
        Exit code: 0 after a good end, 255 if it did not start.
    """
    try:
        command = parse(arguments)
    except UsageError as error:
        sys.stderr.write(f"{error.message}\n{usage()}")
        return _FAILED
    if command.wants_help:
        sys.stdout.write(usage())
        return _FAILED
    if command.wants_version:
        sys.stdout.write(f"TensorFlow ModelServer: {__version__}\nTensorFlow Library: {_tensorflow_version()}\n")
        return 0
    for argument in command.unknown:
        sys.stderr.write(f"unknown argument: {argument}\n")
    try:
        command.settings.check()
        return _serve(command.settings)
    except UsageError as error:
        sys.stderr.write(f"{error.message}\n{usage()}")
    except WireError as error:
        sys.stdout.write(f"Failed to start server. Error: {error.code.name}: {error.message}\n")
    return _FAILED


def _serve(settings: Settings) -> int:
    logs.set_up(settings.log_format)
    # TensorFlow's and gRPC's own chatter, which a user may ask for by the same variables.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # Imports gRPC, which reads the environment then.
    from slipway_server import app  # noqa: PLC0415

    uvloop.run(app.run(settings))
    return 0


def _tensorflow_version() -> str:
    """Find the version without the seconds that importing TensorFlow takes."""
    for distribution in ("tensorflow", "tensorflow-cpu"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(distribution)
    return "not installed"


if __name__ == "__main__":
    main()
