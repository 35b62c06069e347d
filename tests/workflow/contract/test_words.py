import json
from pathlib import Path

import pytest
from pydantic import ValidationError
from tests.workflow.contract.contract_factory import small

from slipway.contract import Contract, Vocabulary, Words, read_contract
from slipway.contract.changes import changes
from slipway.contract.words import digest_of
from slipway.errors import SettingsError

ROOT = Path(__file__).parents[3]


def vocabulary(directory, **given):
    return Vocabulary.model_validate({"oov": 9} | given, context={"directory": directory})


def test_a_file_is_found_from_the_contracts_directory(tmp_path):
    (tmp_path / "words.txt").write_bytes("\ufeffyes\r\nno\n\nü\u2028x\n".encode())

    found = Words.model_validate({"file": "words.txt"}, context={"directory": tmp_path})

    assert found.lines == ("yes", "no", "", "ü\u2028x")
    assert found.path == tmp_path / "words.txt"


def test_words_may_stand_in_the_contract(tmp_path):
    found = vocabulary(tmp_path, words=["a", "b"])

    assert found.lines == ("a", "b")
    assert found.path is None


WRONG = {
    "neither": ({}, "a vocabulary has either `file` or `words`"),
    "both": ({"file": "good.txt", "words": ["a"]}, "a vocabulary has either `file` or `words`"),
    "twice": ({"words": ["a", "b", "a"]}, "words: 'a' is there twice, so that it stands for two numbers"),
    "line break": ({"words": ["a\nb"]}, "has a line break"),
    "missing": ({"file": "none.txt"}, "none.txt: expected a text file with one word a line"),
    "directory": ({"file": "."}, "expected a text file with one word a line"),
    "empty": ({"file": "empty.txt"}, "expected one word a line, the file is empty"),
    "not text": ({"file": "binary.txt"}, "expected text in UTF-8, byte 1 is none"),
}


@pytest.mark.parametrize(("given", "expected"), WRONG.values(), ids=WRONG)
def test_what_is_no_list_of_words_is_one_line(given, expected, tmp_path):
    (tmp_path / "good.txt").write_text("a\n")
    (tmp_path / "empty.txt").touch()
    (tmp_path / "binary.txt").write_bytes(b"a\xff")

    with pytest.raises(ValidationError) as caught:
        vocabulary(tmp_path, **given)

    (fault,) = caught.value.errors()
    assert expected in fault["msg"]
    assert "\n" not in fault["msg"]


# --- published: without the files ------------------------------------------------------------------

SHORT = [f"word {number}" for number in range(3)]
LONG = [f"word {number}" for number in range(20_000)]


def with_lists(directory, names):
    """Read a contract whose classes and vocabulary are *names*, in a file beside it."""
    directory.mkdir(exist_ok=True)
    (directory / "names.txt").write_text("".join(f"{name}\n" for name in names))
    contract = small()
    default = contract["signatures"]["serving_default"]
    default["inputs"]["ids"] = {"dtype": "int64", "shape": ["N"]}
    default["outputs"]["y"]["shape"] = ["N", len(names)]
    default["outputs"]["name"] = {
        "dtype": "string",
        "shape": ["N"],
        "from": "lookup(kind)",
        "classes": {"file": "names.txt"},
    }
    contract["signatures"] |= {
        "classify": {"method": "classify", "scores": "y", "top_k": 2, "classes": {"file": "names.txt"}},
        "words": {
            "method": "predict",
            "inputs": {
                "x": {"shape": ["N", 4]},
                "w": {"dtype": "string", "shape": ["N"], "to": "ids", "vocabulary": {"file": "names.txt", "oov": 0}},
            },
            "outputs": {"kind": {"dtype": "int64", "shape": ["N"], "from": "argmax(y)"}},
        },
    }
    (directory / "contract.yaml").write_text(json.dumps(contract))
    return read_contract(directory / "contract.yaml")


def published(contract, directory):
    path = directory / "published.json"
    path.write_text(json.dumps(contract.published()))
    return path


@pytest.mark.parametrize("names", [SHORT, LONG], ids=["short", "long"])
def test_what_is_published_needs_no_files_and_says_the_same(names, tmp_path):
    contract = with_lists(tmp_path / "mine", names)
    path = published(contract, tmp_path)

    assert "names.txt" not in path.read_text()
    assert path.stat().st_size < 8000
    assert changes(read_contract(path, known=True), contract) == []


@pytest.mark.parametrize("names", [SHORT, LONG], ids=["short", "long"])
@pytest.mark.parametrize(("change", "kind"), [
    (lambda names: [*names, "one more"], "compatible"),
    (lambda names: [names[1], names[0], *names[2:]], "breaking"),
    (lambda names: names[:-1], "breaking"),
    (lambda names: [*names[:-1], "another"], "breaking"),
])  # fmt: skip
def test_a_changed_file_is_seen_by_what_was_published(names, change, kind, tmp_path):
    old = read_contract(published(with_lists(tmp_path / "old", names), tmp_path), known=True)

    found = changes(old, with_lists(tmp_path / "new", change(names)))

    of_lists = {
        one.path.partition("[")[0]: one.kind for one in found if "classes" in one.path or "vocabulary" in one.path
    }
    assert of_lists == {
        "signatures.classify.classes": kind,
        "signatures.serving_default.outputs.name.classes": kind,
        "signatures.words.inputs.w.vocabulary": kind,
    }


def test_a_list_that_is_not_there_is_good_for_comparing_alone(tmp_path):
    path = published(with_lists(tmp_path / "mine", LONG), tmp_path)

    with pytest.raises(SettingsError, match="stand for a list in published contracts alone; name its `file`"):
        read_contract(path)


def test_written_out_or_in_a_file_it_is_the_same_list(tmp_path):
    in_file = with_lists(tmp_path, SHORT)
    written = json.loads((tmp_path / "contract.yaml").read_text())
    written["signatures"]["classify"]["classes"] = SHORT
    written["signatures"]["serving_default"]["outputs"]["name"]["classes"] = SHORT
    written["signatures"]["words"]["inputs"]["w"]["vocabulary"] = {"words": SHORT, "oov": 0}

    assert changes(in_file, Contract.model_validate(written)) == []


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("**/contract*.yaml")), ids=lambda path: path.parent.name)
def test_every_recipe_says_the_same_when_it_is_published(path, tmp_path):
    contract = read_contract(path)

    assert changes(read_contract(published(contract, tmp_path), known=True), contract) == []


def test_words_of_other_lengths_are_other_words():
    assert digest_of(["ab", "c"]) != digest_of(["a", "bc"])
