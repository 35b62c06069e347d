"""The stage: what it reads, what it leaves."""

import json

import pytest
from tests.workflow import served_models as served

from slipway import cli
from slipway import golden as golden_data
from slipway.records import ApiRecord


@pytest.fixture
def place(tmp_path, golden, monkeypatch):
    monkeypatch.setattr(cli.procs, "exit_on_signals", lambda: None)
    monkeypatch.setattr(cli.procs, "die_with_snakemake", lambda: None)
    (tmp_path / "contract.yaml").write_text(json.dumps(served.DIGITS))
    golden_data.write(tmp_path / "golden.npz", golden)
    return tmp_path


def stage(place, *more, **changes):
    options = {"model": "digits", "version": 2, "contract": place / "contract.yaml", "golden": place / "golden.npz"}
    options |= {"out": place / "api", "record": place / "api.json"} | changes
    return cli.main(["api", *(str(word) for name, value in options.items() for word in (f"--{name}", value)), *more])


def test_it_leaves_the_files_and_a_record_of_them(place):
    assert stage(place) == 0

    record = ApiRecord.read(place / "api.json")
    record.tree.verify(place / "api")
    assert (record.model, record.version, record.signature) == ("digits", 2, "serving_default")
    assert [snippet.title for snippet in record.snippets] == ["curl", "Python, REST", "Python, gRPC"]
    assert all((place / "api" / snippet.file).read_text() == snippet.text for snippet in record.snippets)
    assert {"README.md", "openapi.json", "grpc_client.py"} <= record.tree.files.keys()


def test_the_report_may_show_another_signature_and_another_address(place):
    assert stage(place, "--signature", "classify", "--rest-address", "models.example:80") == 0

    record = ApiRecord.read(place / "api.json")
    assert "http://models.example:80/v1/models/digits:classify" in record.snippets[0].text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"signature": "other"},
            "--signature: no signature other in the contract; there are: serving_default, classify",
        ),
        ({"golden": "missing.npz"}, "missing.npz: not there"),
        ({"contract": "missing.yaml"}, "missing.yaml: no contract there"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(place, capsys, changes, said):
    assert stage(place, **changes) == 2

    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("slipway api: error: ")
    assert said in line
    assert not (place / "api").exists()
