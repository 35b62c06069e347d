import copy
import json
from pathlib import Path

import pytest
import yaml

from slipway import baseline
from slipway.contract import Contract

DIGITS = yaml.safe_load((Path(__file__).parents[2] / "config/contracts/digits.yaml").read_text())


def publish(directory, run_id, contract=DIGITS, model="digits"):
    path = directory / run_id / "contracts" / f"{model}.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(contract) if isinstance(contract, dict) else contract)
    return path


def without_label():
    contract = copy.deepcopy(DIGITS)
    del contract["signatures"]["serving_default"]["outputs"]["label"]
    del contract["golden"]
    return Contract.model_validate(contract)


def lines(checks):
    return [(check.ok, check.line()) for check in checks]


def test_the_last_one_published_of_the_model_counts(tmp_path):
    publish(tmp_path, "20310502T071200Z-0000000a")
    newest = publish(tmp_path, "20310601T071200Z-0000000a")
    publish(tmp_path, "20310701T071200Z-0000000a", model="others")
    (tmp_path / "index.html").touch()

    assert baseline.published(tmp_path, "digits") == newest
    assert baseline.published(tmp_path, "unheard") is None
    assert baseline.published(tmp_path / "nowhere", "digits") is None


def test_nothing_is_asked_of_a_first_contract():
    assert baseline.check(without_label(), None, None) == []


def test_a_contract_that_keeps_its_promises_passes(tmp_path):
    path = publish(tmp_path, "run")

    (check,) = baseline.check(Contract.model_validate(DIGITS), path, None)

    assert check.ok
    assert check.found == "no change that breaks callers"


def test_every_break_is_a_line_with_both_ways_out(tmp_path):
    path = publish(tmp_path, "run")

    checks = lines(baseline.check(without_label(), path, None))

    advice = f" (compared with {path}; if it is wanted, say why in models.<name>.allow_breaking)"
    assert [ok for ok, _ in checks] == [False, False, False]
    assert checks[2][1] == (
        "contract: expected nothing that breaks callers, found signatures.serving_default.outputs.label: output removed"
        + advice
    )
    assert all(line.endswith(advice) for _, line in checks)


def test_a_break_with_a_reason_passes_and_is_kept_with_it(tmp_path):
    (check,) = baseline.check(without_label(), publish(tmp_path, "run"), "nobody read it")

    assert check.ok
    assert check.found.startswith("3 allowed (nobody read it): golden.label: ")


def test_a_label_that_moves_is_seen_by_what_was_published_without_its_file(tmp_path):
    labels = tmp_path / "labels.txt"
    contract = copy.deepcopy(DIGITS)
    contract["signatures"]["classify"]["classes"] = {"file": str(labels)}
    labels.write_text("".join(f"{name}\n" for name in "abcdefghij"))
    path = publish(tmp_path, "run", Contract.model_validate(contract).published())
    assert all(check.ok for check in baseline.check(Contract.model_validate(contract), path, None))

    (tmp_path / "old.json").write_text(json.dumps(contract))
    assert baseline.word_files(tmp_path / "old.json") == [labels]
    assert baseline.word_files(path) == baseline.word_files(labels) == []

    labels.write_text("".join(f"{name}\n" for name in "bacdefghij"))
    (check,) = baseline.check(Contract.model_validate(contract), path, None)

    assert not check.ok
    assert check.found.startswith("signatures.classify.classes[0]: classes reordered: a → b; a place now stands for")


@pytest.mark.parametrize("content", ["{", '{"format": 9}'])
def test_a_contract_that_cannot_be_read_is_told_and_may_be_passed_over(content, tmp_path):
    path = publish(tmp_path, "run", content)

    (check,) = baseline.check(without_label(), path, None)
    assert not check.ok
    assert str(path) in check.found
    assert "models.<name>.contract_baseline" in check.found
    assert all(check.ok for check in baseline.check(without_label(), path, "new format"))
