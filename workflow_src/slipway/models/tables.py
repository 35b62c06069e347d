"""Lookup tables in an export: words and numbers for each other, from text files that become its assets."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import tensorflow as tf

from slipway.answers import UNKNOWN
from slipway.contract import Vocabulary, Words, WordsDigest


class _FromLines(tf.lookup.TextFileInitializer):
    """
    A table's content, one entry a line.

    TensorFlow names a table by the path of its file, which would tell the SavedModel where it was made; this is named
    by what is in it.
    """

    def __init__(self, path: Path, digest: str, *, to_words: bool) -> None:
        self._digest = f"{digest}_{'words' if to_words else 'numbers'}"
        number = (tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER)
        word = (tf.string, tf.lookup.TextFileIndex.WHOLE_LINE)
        key, value = (number, word) if to_words else (word, number)
        super().__init__(str(path), *key, *value)

    @property
    def _shared_name(self) -> str:
        return f"hash_table_{self._digest}"


class Tables:
    """
    The tables of one export; each is made once, outside of any graph, before the first that looks into it is traced.

    Args:
        directory: Gets the text files; it must be there until the SavedModel is written.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._tables: dict[tuple[str, object], tf.lookup.StaticHashTable] = {}

    @property
    def resources(self) -> list[tf.lookup.StaticHashTable]:
        """All of them, for the export to keep."""
        return list(self._tables.values())

    def prepare(self, words: Iterable[Words | Vocabulary]) -> None:
        """Make the tables of *words*."""
        for one in words:
            if isinstance(one, Words):
                self.names(one)
            else:
                self.numbers(one)

    def names(self, classes: Sequence[str] | Words | WordsDigest | None) -> tf.lookup.StaticHashTable | None:
        """Give the table number -> word; None for names that stand in the contract and need none."""
        if not isinstance(classes, Words):
            return None
        return self._table(classes.path.name, classes.lines, to_words=True, default=UNKNOWN)

    def numbers(self, vocabulary: Vocabulary) -> tf.lookup.StaticHashTable:
        """Give the table word -> number."""
        name = vocabulary.path.name if vocabulary.path else "vocabulary.txt"
        return self._table(name, vocabulary.lines, to_words=False, default=vocabulary.oov)

    def _table(
        self, name: str, lines: tuple[str, ...], *, to_words: bool, default: str | int
    ) -> tf.lookup.StaticHashTable:
        content = "".join(f"{line}\n" for line in lines).encode()
        digest = hashlib.sha256(content).hexdigest()[:16]
        key = (f"{digest}{name}", default)
        if key not in self._tables:
            path = self._directory / digest / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
            initializer = _FromLines(path, digest, to_words=to_words)
            self._tables[key] = tf.lookup.StaticHashTable(initializer, default)
        return self._tables[key]
