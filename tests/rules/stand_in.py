"""
Stand in for `slipway`: write the outputs of a stage, note the job in ./journal.

The content of a servable is what ./content holds for its version (or its number), as if the export had changed.
FAIL=<command> fails there; HANG=<command> says so by ./hanging and waits to be killed.
"""

import hashlib
import json
import os
import signal
import sys
from pathlib import Path

command, *words = sys.argv[1:]
options = {w: words[i + 1] for i, w in enumerate(words[:-1]) if w.startswith("--")}
name = (
    "" if command in ("report", "publish") else "/".join(options[k] for k in ("--model", "--version") if k in options)
)

if os.environ.get("FAIL") == command:
    print(f"slipway {command}: error: {name}: broken on purpose")  # noqa: T201 - it is a command
    sys.exit(2)
if os.environ.get("HANG") == command:
    if command == "publish":
        Path("published").mkdir(exist_ok=True)
    Path("hanging").touch()
    signal.pause()

with Path("journal").open("a") as journal:
    journal.write(f"{command} {name}".strip() + "\n")

if command == "validate":
    Path("arguments").write_text("\n".join(words))

if command == "servable":
    told = Path("content", options["--version"])
    content = told.read_text() if told.exists() else options["--version"]
    digest = f"sha256:{hashlib.sha256(content.encode()).hexdigest()}"
    Path(options["--out"]).mkdir(parents=True, exist_ok=True)
    record = {"model": options["--model"], "version": options["--version"], "tree": {"digest": digest, "files": {}}}
    record |= dict.fromkeys(("checkpoint_digest", "export_digest", "warmup_digest"), digest)
    Path(options["--record"]).write_text(json.dumps(record))
elif command == "publish":
    Path(options["--directory"]).mkdir(exist_ok=True)
    with Path(options["--directory"], "index.html").open("a") as index:
        index.write("run\n")
else:
    directories = {"export": ["--out"], "checkpoint": ["--out-source"], "image": ["--out-layout"]}
    directories |= {"train": ["--out"], "benchmark": ["--samples"], "report": ["--out"], "api": ["--out"]}
    written = {"checkpoint": ["--golden", "--record"], "image": ["--record"], "export": ["--record"]}
    written |= {"train": ["--record"], "warmup": ["--out", "--record"], "report": [], "api": ["--record"]}
    for option in directories.get(command, []):
        Path(options[option]).mkdir(parents=True, exist_ok=True)
    for option in written.get(command, ["--out"]):
        Path(options[option]).write_text("{}")
