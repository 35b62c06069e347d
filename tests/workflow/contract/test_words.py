import pytest
from pydantic import ValidationError

from slipway.contract import Vocabulary, Words


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
