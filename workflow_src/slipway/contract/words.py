"""Lists of words in a contract or in a text file beside it: class names, and vocabularies that turn words into numbers."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field, PrivateAttr, ValidationInfo, model_validator

from slipway.contract.sections import Section

# A vocabulary of ten million words; what is larger is some other file.
_MOST_BYTES = 128 * 1024 * 1024


class Words(Section):
    """
    Words in an order, one a line of `file`.

    A relative path is found from the directory that the validation's context names `directory`: the contract's own.
    """

    file: Path = Field(description="Text file (UTF-8), one word a line; relative to the contract's directory.")
    _lines: tuple[str, ...] = PrivateAttr(())
    _path: Path | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _read(self, info: ValidationInfo) -> "Words":
        self._path = Path((info.context or {}).get("directory", ""), self.file)
        self._lines = _lines_of(self._path)
        return self

    @property
    def lines(self) -> tuple[str, ...]:
        """The words, in the file's order."""
        return self._lines

    @property
    def path(self) -> Path:
        """Where the file was found."""
        assert self._path is not None  # as validated
        return self._path


class Vocabulary(Section):
    """Words that stand for the integers of a model's input: the first for 0."""

    file: Path | None = Field(
        None, description="Text file (UTF-8), one word a line; relative to the contract's directory."
    )
    words: tuple[str, ...] | None = Field(None, min_length=1, description="The words themselves, instead of a file.")
    oov: int = Field(description="What a word that is not among them becomes.")
    _lines: tuple[str, ...] = PrivateAttr(())
    _path: Path | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _read(self, info: ValidationInfo) -> "Vocabulary":
        if (self.file is None) == (self.words is None):
            raise ValueError("a vocabulary has either `file` or `words`")
        if self.file is not None:
            self._path = Path((info.context or {}).get("directory", ""), self.file)
        self._lines = self.words if self._path is None else _lines_of(self._path)  # type: ignore[assignment]  # one of both
        _check_lines(self._lines)
        if len(set(self._lines)) != len(self._lines):
            seen: set[str] = set()
            twice = next(word for word in self._lines if word in seen or seen.add(word))  # type: ignore[func-returns-value]
            raise ValueError(f"{self.file or 'words'}: {twice!r} is there twice, so that it stands for two numbers")
        return self

    @property
    def lines(self) -> tuple[str, ...]:
        """The words, in their order."""
        return self._lines

    @property
    def path(self) -> Path | None:
        """Where the file was found; None if the words stand in the contract."""
        return self._path


def _lines_of(path: Path) -> tuple[str, ...]:
    try:
        size = path.stat().st_size
        if size > _MOST_BYTES:
            raise ValueError(f"{path}: a list of words has at most {_MOST_BYTES} bytes, this has {size}")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ValueError(f"{path}: expected a text file with one word a line ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected text in UTF-8, byte {error.start} is none") from None
    # Universal newlines: TensorFlow drops carriage returns, too. str.splitlines would also part at U+2028.
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    if not lines:
        raise ValueError(f"{path}: expected one word a line, the file is empty")
    return tuple(lines)


def _check_lines(words: Sequence[str]) -> None:
    if wrong := [word for word in words if "\n" in word or "\r" in word]:
        raise ValueError(f"words: {wrong[0]!r} has a line break")


def lines_of(words: Sequence[str] | Words) -> tuple[str, ...]:
    """Give the words of either form."""
    return words.lines if isinstance(words, Words) else tuple(words)
