"""
Lists of words in a contract or in a text file beside it: class names, and vocabularies that turn words into numbers.

What is published stands by itself, without the files: lists are written out, and long ones known by count and digest.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import (
    Field,
    PositiveInt,
    PrivateAttr,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    model_serializer,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema

from slipway.contract.sections import Section

# Keys of the contexts of validation and of serialization.
DIRECTORY, KNOWN, PUBLISHED = "directory", "known", "published"

# A vocabulary of ten million words; what is larger is some other file.
_MOST_BYTES = 128 * 1024 * 1024
# What is published of a list: the names of ImageNet's classes, not every word of a language, once for each version.
_MOST_PUBLISHED_BYTES = 64 * 1024


class WordsDigest(Section):
    """
    A list that is not there: how long it is, and what it is.

    Only in contracts that are read to be compared with (the validation's context says `known`): nothing is made of it.
    """

    count: PositiveInt
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="Of the words in UTF-8, a line break after each.")

    @model_validator(mode="after")
    def _is_known(self, info: ValidationInfo) -> "WordsDigest":
        if not (info.context or {}).get(KNOWN):
            raise ValueError("`count` and `sha256` stand for a list in published contracts alone; name its `file`")
        return self


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
        self._path = Path((info.context or {}).get(DIRECTORY, ""), self.file)
        self._lines = _lines_of(self._path)
        return self

    @model_serializer(mode="wrap")
    def _self_contained(self, handler: SerializerFunctionWrapHandler, info: SerializationInfo) -> Any:
        if not (info.context or {}).get(PUBLISHED):
            return handler(self)
        return list(self._lines) if _is_short(self._lines) else digest_of(self._lines).model_dump()

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
    digest: SkipJsonSchema[WordsDigest | None] = None
    oov: int = Field(description="What a word that is not among them becomes.")
    _lines: tuple[str, ...] = PrivateAttr(())
    _path: Path | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _read(self, info: ValidationInfo) -> "Vocabulary":
        if sum(one is not None for one in (self.file, self.words, self.digest)) != 1:
            raise ValueError("a vocabulary has either `file` or `words`")
        if self.digest is not None:
            return self
        if self.file is not None:
            self._path = Path((info.context or {}).get(DIRECTORY, ""), self.file)
        self._lines = self.words if self._path is None else _lines_of(self._path)  # type: ignore[assignment]  # one of both
        _check_lines(self._lines)
        if len(set(self._lines)) != len(self._lines):
            seen: set[str] = set()
            twice = next(word for word in self._lines if word in seen or seen.add(word))  # type: ignore[func-returns-value]
            raise ValueError(f"{self.file or 'words'}: {twice!r} is there twice, so that it stands for two numbers")
        return self

    @model_serializer(mode="wrap")
    def _self_contained(self, handler: SerializerFunctionWrapHandler, info: SerializationInfo) -> Any:
        if self._path is None or not (info.context or {}).get(PUBLISHED):
            return handler(self)
        if _is_short(self._lines):
            return {"words": list(self._lines), "oov": self.oov}
        return {"digest": digest_of(self._lines).model_dump(), "oov": self.oov}

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


def lines_of(words: Sequence[str] | Words | WordsDigest) -> tuple[str, ...]:
    """Give the words of either form; none of a list that is not there."""
    if isinstance(words, WordsDigest):
        return ()
    return words.lines if isinstance(words, Words) else tuple(words)


def count_of(words: Sequence[str] | Words | WordsDigest) -> int:
    """Count the words of any form."""
    return words.count if isinstance(words, WordsDigest) else len(lines_of(words))


def digest_of(words: Sequence[str] | Words | Vocabulary | WordsDigest) -> WordsDigest:
    """Tell by count and digest what words these are."""
    match words:
        case WordsDigest():
            return words
        case Vocabulary(digest=WordsDigest() as known):
            return known
        case Vocabulary() | Words():
            lines = words.lines
        case _:
            lines = tuple(words)
    # Not validated: that would ask where it was read from.
    return WordsDigest.model_construct(count=len(lines), sha256=hashlib.sha256(_written(lines)).hexdigest())


def _written(lines: Sequence[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _is_short(lines: Sequence[str]) -> bool:
    return len(_written(lines)) <= _MOST_PUBLISHED_BYTES
