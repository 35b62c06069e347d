import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[3] / "server" / "bench" / "switch.py"


def test_no_request_fails_while_versions_configuration_and_labels_change(tmp_path):
    """The measurement that the documentation quotes, on a small scale; how long anything takes is none of its business."""
    out = tmp_path / "switch.json"
    done = subprocess.run(
        [sys.executable, SCRIPT, "--quick", "--rate=200", f"--json={out}"], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(out.read_text())
    assert result["failed"] == 0
    rows = {(row["phase"], row["protocol"]): row for row in result["rows"]}
    assert {phase for phase, _ in rows} == {
        "before", "version switch", "config reload", "label move", "after", "whole run",
    }  # fmt: skip
    assert all(row["events"] == 1 for (phase, _), row in rows.items() if phase in {"version switch", "label move"})
    assert all(rows["whole run", protocol]["requests"] > 100 for protocol in ("rest", "grpc"))
    assert "| version switch | rest | 1 |" in done.stdout
