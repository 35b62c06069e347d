"""Run the training script of a source, in a process of its own; what it leaves is the source."""

import argparse
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from slipway import files, procs
from slipway.arguments import section
from slipway.errors import SourceError
from slipway.provenance import tool_versions
from slipway.records import TrainRecord, TreeManifest
from slipway.train_settings import TrainSettings

_TOOLS = ("tensorflow-cpu", "tensorflow", "keras", "tf_keras", "numpy", "scikit-learn")
_LINE_OF_SCRIPT = re.compile(r'^ *File "([^"]+)", line (\d+)')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the stage reads and writes."""
    parser.add_argument("--model", required=True, help="name of the model")
    parser.add_argument("--version", type=int, required=True, help="number of the version")
    parser.add_argument("--settings", required=True, metavar="JSON", help="`train` of the version's source")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="gets what the script writes")
    parser.add_argument("--record", type=Path, required=True, metavar="FILE", help="gets the record (JSON)")


def run(arguments: argparse.Namespace) -> None:
    """Run the script; keep what it wrote if it ends well and wrote something."""
    train = section(TrainSettings, arguments.settings, "train")
    if missing := [name for name in train.files() if not Path(name).is_file()]:
        raise SourceError(f"train: no file {missing[0]}; looked in {Path.cwd()}. Correct `train` in the config.")
    sources = {name: files.sha256_file(Path(name)) for name in train.files()}
    with files.new_directory(arguments.out) as directory:
        argv = [sys.executable, str(train.script), "--out", str(directory), "--options", json.dumps(train.options)]
        status, tail = procs.relay_owned(argv, sys.stdout.buffer, env=environment(train, os.environ))
        where = f"{arguments.model} {arguments.version}: {train.script}"
        if status:
            raise SourceError(f"{where}: {failure(status, tail, train.script)}")
        tree = TreeManifest.of(directory)
        if not tree.files:
            raise SourceError(f"{where}: ended well but wrote no file. It gets the directory to write to as --out.")
    TrainRecord(
        model=arguments.model,
        version=arguments.version,
        script=str(train.script),
        sources=sources,
        options=train.options,
        threads=train.threads,
        tree=tree,
        tools={name: version for name, version in tool_versions(*_TOOLS).items() if version != "absent"},
    ).write(arguments.record)


def environment(train: TrainSettings, ours: Mapping[str, str]) -> dict[str, str]:
    """
    Give the script an environment in which TensorFlow computes the same bits each time.

    Args:
        train: Says how many threads there are, and whether a GPU is seen.
        ours: The environment of this process; what is not changed is passed on.

    Source: `OpDeterminismRequired` (tensorflow/core/util/determinism.cc), `NumIntraOpThreadsFromEnvironment` and its
    sister (tensorflow/core/common_runtime/process_util.cc), `IsMklEnabled` (tensorflow/core/util/port.cc).
    """
    threads = str(train.threads)
    changed = {
        # Where builders are imported from, too; the script's own folder comes first by Python's rule.
        "PYTHONPATH": os.pathsep.join(filter(None, [str(Path.cwd()), ours.get("PYTHONPATH", "")])),
        "PYTHONHASHSEED": "0",
        # Nothing is left beside the user's files.
        "PYTHONDONTWRITEBYTECODE": "1",
        # A log is no terminal: without this its lines would come in blocks.
        "PYTHONUNBUFFERED": "1",
        "KERAS_BACKEND": "tensorflow",
        "TF_CPP_MIN_LOG_LEVEL": ours.get("TF_CPP_MIN_LOG_LEVEL", "2"),
        "TF_DETERMINISTIC_OPS": "1",
        "TF_ENABLE_ONEDNN_OPTS": "0",
        **dict.fromkeys(("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"), threads),
    }
    if not train.gpu:
        changed["CUDA_VISIBLE_DEVICES"] = "-1"
    return {**ours, **changed}


def failure(status: int, tail: Sequence[str], script: Path) -> str:
    """
    Tell in one line why a script failed.

    Args:
        status: As `Popen.returncode` has it.
        tail: The last lines it wrote; Python's errors end with the error itself.
        script: Its file; the last place in it that a traceback names is told, too.
    """
    how = f"killed by signal {-status}" if status < 0 else f"exit status {status}"
    lines = [line.strip() for line in tail if line.strip()]
    # TensorFlow ends an error with the node that it is about.
    said = next((line for line in reversed(lines) if not line.startswith("[[{{node")), "it said nothing")
    places = [
        found[2] for line in tail if (found := _LINE_OF_SCRIPT.match(line)) and Path(found[1]).name == script.name
    ]
    at = f" (line {places[-1]})" if places else ""
    return f"{how}: {said if len(said) <= 300 else f'{said[:299]}…'}{at}. All it said is in the log."
