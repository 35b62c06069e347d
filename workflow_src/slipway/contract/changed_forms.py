"""What becomes of callers where the forms change in which they send inputs: pictures, words, features of tf.Examples."""

import math
from collections.abc import Iterator, Mapping, Sequence

from slipway.contract.change import Change, Kind, default, differing, number, said, taken, text
from slipway.contract.forms import ExampleFeature, FeatureForm, ImageForm
from slipway.contract.words import Vocabulary, Words, WordsDigest, digest_of, lines_of

# Lists of names that are told one by one; of longer ones the first.
_MOST_TOLD = 5
_INSIDE = "the graph does it for them; callers send the same"


# --- lists of words --------------------------------------------------------------------------------

Listed = Sequence[str] | Words | WordsDigest | Vocabulary


def lists(path: str, what: str, old: Listed | None, new: Listed | None, *, none_is: str = "") -> Iterator[Change]:
    """
    Judge a list in which places have a meaning: number 3 is the fourth of them.

    Args:
        path: Where it is.
        what: What it is a list of, such as classes.
        old: The old one, written out, or known by count and digest.
        new: The new one.
        none_is: What stands in the place of a list that is not there, for the reason.
    """
    if old is None or new is None:
        if old is not new:
            was, is_ = (f"{digest_of(one).count} {what}" if one is not None else "" for one in (old, new))
            yield Change("breaking", path, f"{what} changed", was, is_, none_is)
        return
    before, after = digest_of(old), digest_of(new)
    if before == after:
        return
    olds, news = _known(old), _known(new)
    counts = f"{before.count} → {after.count}"
    if news is not None and after.count > before.count and digest_of(news[: before.count]) == before:
        why = "all that were there keep their places"
        yield Change("compatible", path, f"{what} appended ({counts})", "", _some(news[before.count :]), why)
        return
    why = "a place now stands for something else"
    if olds is None or news is None:
        yield Change("breaking", path, f"{what} changed ({counts})", before.sha256[:12], after.sha256[:12], why)
    elif sorted(olds) == sorted(news):
        moved = next(index for index, (one, other) in enumerate(zip(olds, news, strict=True)) if one != other)
        yield Change("breaking", f"{path}[{moved}]", f"{what} reordered", olds[moved], news[moved], why)
    else:
        left, all_olds = set(news), set(olds)
        gone = [name for name in olds if name not in left]
        extra = [name for name in news if name not in all_olds]
        yield Change("breaking", path, f"{what} changed ({counts})", _some(gone), _some(extra), why)


def _known(words: Listed) -> Sequence[str] | None:
    if isinstance(words, WordsDigest):
        return None
    if isinstance(words, Vocabulary):
        return None if words.digest else words.lines
    return lines_of(words)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_MOST_TOLD]) + (", …" if len(names) > _MOST_TOLD else "")


def vocabularies(path: str, old: Vocabulary | None, new: Vocabulary | None) -> Iterator[Change]:
    """Judge words that stand for the integers of an input."""
    yield from lists(path, "words", old, new, none_is="words and numbers are not the same to send")
    if old is not None and new is not None:
        why = "words that are not known mean something else"
        yield from differing("breaking", f"{path}.oov", "what an unknown word becomes", old.oov, new.oov, why)


# --- pictures --------------------------------------------------------------------------------------


def images(path: str, old: ImageForm | None, new: ImageForm | None) -> Iterator[Change]:
    """Judge how encoded pictures become a tensor."""
    if old is None or new is None:
        if old is not new:
            was, is_ = ("numbers" if one is None else "a picture" for one in (old, new))
            yield Change("breaking", path, "what callers send", was, is_, "a picture is not sent as its numbers are")
        return
    for key in ("size", "resize", "range", "scale", "offset", "order"):
        what = "how a picture becomes the model's input"
        yield from differing("compatible", f"{path}.{key}", what, getattr(old, key), getattr(new, key), _INSIDE)
    why = "of a picture with another aspect ratio the model sees something else"
    yield from differing("breaking", f"{path}.fit", "what of a picture is seen", old.fit, new.fit, why)
    yield from number(
        f"{path}.max_pixels",
        old.max_pixels,
        new.max_pixels,
        "largest picture",
        worse_if="less",
        why="pictures that were taken are refused",
    )


# --- features of tf.Examples -----------------------------------------------------------------------


def features(path: str, old: Mapping[str, FeatureForm], new: Mapping[str, FeatureForm]) -> Iterator[Change]:
    """Judge how tf.Examples carry the inputs of the model; both by input, with those that go by their own name."""
    for name in sorted(old.keys() | new.keys()):
        where = f"{path}.{name}"
        if name not in new:
            yield Change("compatible", where, "feature no longer read", why="Examples may go on carrying it")
        elif name not in old:
            yield _added(where, is_optional=new[name].default is not None or new[name].pad is not None)
        else:
            yield from _feature(where, name, old[name], new[name])


def _added(path: str, *, is_optional: bool) -> Change:
    kind: Kind = "compatible" if is_optional else "breaking"
    why = "Examples without it are taken" if is_optional else "Examples without it are refused"
    return Change(kind, path, "feature added", why=why)


def _feature(path: str, name: str, old: FeatureForm, new: FeatureForm) -> Iterator[Change]:
    was, is_ = old.feature or name, new.feature or name
    why = "Examples that callers make lack the new one"
    yield from differing("breaking", path, "feature that carries the input", was, is_, why)
    yield from default(f"{path}.default", old.default, new.default)
    if old.pad is None or new.pad is None:
        kind: Kind = "compatible" if old.pad is None else "breaking"
        why = "any number of values is taken" if old.pad is None else "only one number of values is taken"
        yield from differing(kind, f"{path}.pad", "how many values", old.pad, new.pad, why)
    else:
        why = "a model that is padded must not mind"
        yield from differing("compatible", f"{path}.pad", "what fills shorter rows", old.pad, new.pad, why)
    yield from images(f"{path}.image", old.image, new.image)
    yield from vocabularies(f"{path}.vocabulary", old.vocabulary, new.vocabulary)


def examples(
    path: str, old: Mapping[str, ExampleFeature] | None, new: Mapping[str, ExampleFeature] | None
) -> Iterator[Change]:
    """Judge the features of tf.Examples that the model parses by itself."""
    if old is None or new is None:
        return  # what the strings are is told by whoever asks
    for name in sorted(old.keys() | new.keys()):
        where = f"{path}.{name}"
        if name not in new:
            yield Change("compatible", where, "feature no longer read", why="Examples may go on carrying it")
        elif name not in old:
            least, _ = _counts(new[name])
            yield _added(where, is_optional=new[name].default is not None or least == 0)
        else:
            yield from _example(where, old[name], new[name])


def _example(path: str, old: ExampleFeature, new: ExampleFeature) -> Iterator[Change]:
    why = "Examples that callers make are refused"
    yield from differing("breaking", f"{path}.dtype", "dtype changed", old.dtype, new.dtype, why)
    was, is_ = _counts(old), _counts(new)
    key = "shape" if old.count is None and new.count is None else "count"
    if was != is_ or (key == "shape" and old.shape != new.shape):
        wider = is_[0] <= was[0] and was[1] <= is_[1]
        kind: Kind = "compatible" if wider else "breaking"
        told = (old.shape, new.shape) if key == "shape" else (was, is_)
        yield Change(kind, f"{path}.{key}", "how many values", said(told[0]), said(told[1]), "" if wider else why)
    yield from taken(f"{path}.range", old.range, new.range)
    yield from differing("documentation", f"{path}.values", "values to draw from", old.values, new.values)
    yield from default(f"{path}.default", old.default, new.default)
    yield from text(f"{path}.doc", old.doc, new.doc)


def _counts(feature: ExampleFeature) -> tuple[int, int]:
    """Give the least and the greatest number of values."""
    count = math.prod(feature.shape)
    return feature.count or (count, count)
