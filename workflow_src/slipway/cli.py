"""The `slipway` command: one subcommand per stage, imported only when it is called; the one error boundary."""

import argparse
import contextlib
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Sequence

from slipway import procs
from slipway.errors import SlipwayError
from slipway_wire import __version__

# Subcommand -> what `slipway --help` says of it. The module of the same name has `add_arguments` and `run`;
# its docstring is the help of the command.
STAGES = {
    "train": "run a source's training script",
    "checkpoint": "make or read a checkpoint; keep golden answers",
    "export": "checkpoint -> SavedModel",
    "validate": "check a SavedModel against its contract",
    "stablehlo": "SavedModel -> programs that a server without TensorFlow runs",
    "warmup": "write warm-up records and replay them",
    "servable": "assemble SavedModel and warm-up records",
    "api": "write OpenAPI, request bodies and ready programs",
    "image": "assemble the OCI image",
    "launch": "run the image and compare its answers with the checkpoint's",
    "benchmark": "measure REST and gRPC under load",
    "report": "draw the report from what was measured",
    "publish": "keep the report and its data under a run id",
}
TOOLS = {
    "convert": "make a proven SavedModel of any checkpoint, in one command",
    "add-version": "claim the next version of a model, in the config or in a server's directory",
    "rollback": "let an older version answer, in the config and on a running server",
    "contract": "write a contract from a model, check it, or compare two",
    "inspect": "print what a SavedModel, or any other file of a model, is, without TensorFlow",
    "verify": "measure how often a served model is wrong",
    "predict": "call a served model once",
    "bench": "measure any server with TensorFlow Serving's interface under load",
    "compare": "say whether a model, a server or its settings got worse",
    "samples": "write a benchmark's raw samples as CSV",
    "overview": "say what was made of which source",
    "doctor": "say what this machine can and cannot do",
    "schema": "write the JSON Schemas of config and result",
}
# Where the module is called otherwise; else a command's hyphens are its module's underscores.
MODULES = {"contract": "contract_tool"}


def build_parser(only: str | None = None) -> argparse.ArgumentParser:
    """
    Build the parser.

    Args:
        only: The subcommand to import and fill in; the others get their one-line help alone, so that
            `slipway report` never loads TensorFlow. None fills in all (for shell completion).
    """
    parser = argparse.ArgumentParser(
        prog="slipway",
        description="From a TensorFlow checkpoint to a published performance report.",
        epilog="`snakemake --cores all` runs the whole line; each stage is one of these commands.",
    )
    parser.add_argument("--version", action="version", version=f"slipway {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="command", required=True)
    for name, summary in (STAGES | TOOLS).items():
        if only not in (None, name):
            commands.add_parser(name, help=summary)
            continue
        module = importlib.import_module(f"slipway.{MODULES.get(name, name.replace('-', '_'))}")
        command = commands.add_parser(name, help=summary, description=module.__doc__)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    completion = commands.add_parser("completion", help="print a shell completion script")
    completion.add_argument("shell", choices=["bash", "zsh", "tcsh"])
    completion.set_defaults(run=_print_completion)
    return parser


def _print_completion(arguments: argparse.Namespace) -> None:
    import shtab  # noqa: PLC0415 - only this command needs it

    sys.stdout.write(shtab.complete(build_parser(), shell=arguments.shell) + "\n")


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run one command.

    Returns:
        What the command says, 0 if nothing. A SlipwayError becomes one readable message and its exit code. A bug keeps its
        traceback and exits as a measurement that proves nothing, for 1 is what a tool has found: something got worse.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    chosen = next((word for word in argv if not word.startswith("-")), "")
    try:
        if chosen in STAGES:
            # Before the imports, which take their time: a Ctrl-C in them is no bug to trace, either.
            procs.exit_on_signals()
            procs.die_with_snakemake()
        arguments = build_parser(only=chosen).parse_args(argv)
        # A stage ends well or raises; a tool may have found something to say by its exit code.
        code = int(arguments.run(arguments) or 0)
        # What nobody reads any more is to be told here, not by the interpreter at its end.
        sys.stdout.flush()
    except SlipwayError as error:
        for line in str(error).splitlines():
            # What is set in belongs to the line above it, such as the end of a server's log: no error by itself.
            sys.stderr.write(f"{line}\n" if line[:1].isspace() else f"slipway {chosen}: error: {line}\n")
        return error.exit_code
    except procs.Stopped as stopped:
        sys.stderr.write(f"slipway {chosen}: error: stopped by {stopped.signal.name}; nothing half-made is kept.\n")
        return int(stopped.code or 1)
    except BrokenPipeError:
        with contextlib.suppress(OSError):
            # Else what is still to be written fails again when the interpreter ends.
            out = sys.stdout.fileno()
            os.dup2(os.open(os.devnull, os.O_WRONLY), out)
        # As shells have it: 1 is what a tool exits with that has found something.
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        # Of a tool.
        return 128 + signal.SIGINT
    except Exception:  # a bug, which Python would let exit with 1
        traceback.print_exc()
        sys.stderr.write(
            f"slipway {chosen}: error: what is traced above is a fault of Slipway itself; nothing was made.\n"
        )
        return SlipwayError.exit_code
    return code
