"""Splits texts and queries into words without case and accents, and makes snippets. Pure."""

import re
import unicodedata
from collections.abc import Callable, Iterator

from archer_ws.sessions.storage.refusals import blank_query, too_many_words

#: The lengths of a snippet and of a preview, in characters.
SNIPPET_CHARS, PREVIEW_CHARS = 160, 120
#: How many of the last messages are searched for one with text.
PREVIEW_MESSAGES = 8
#: How much of a message's beginning is used for its preview.
_PREVIEW_LOOK_CHARS = 4 * PREVIEW_CHARS
#: The limit of words in a query.
QUERY_WORDS_MAX = 16

#: Scripts without spaces between words, where each character is indexed as a word: Thai to Khmer, Kana, Han.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+"
)
#: The accents of Latin, Greek and Cyrillic and the points of Hebrew and Arabic, in decomposed text.
_ACCENT = re.compile(
    "[\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]+"
)
_WORD, _NO_WORD = re.compile(r"[^\W_]+"), re.compile(r"[\W_]+")
#: The text is processed in slices of this size. Normalizing sorts the marks of a character, which takes time that grows
#: with the square of their number; and neither it nor a regular expression releases the interpreter's lock.
_SLICE_CHARS = 512
#: How much of a text is searched for the place of a snippet without regard to accents: it takes some milliseconds, and
#: a page may have two hundred of them. And how far a slice of it reaches into the next one, so that a word between them
#: is found.
_LOOK_CHARS, _OVERLAP_CHARS = 16 * 1024, 256


def indexed(text: str) -> str:
    """The text in the form that is indexed: without case and accents, and with a space at each word boundary.

    SQLite takes a character that it does not know, like an emoji or the sign of a currency, for a letter.
    """
    return text.lower() if text.isascii() else "".join(_NO_WORD.sub(" ", part) for part in _folded_parts(text))


def indexed_before(text: str) -> str:
    """The form in which earlier versions indexed a text."""
    return text.lower() if text.isascii() else "".join(_folded_parts(text))


def _folded_parts(text: str) -> Iterator[str]:
    slices = (text[start : start + _SLICE_CHARS] for start in range(0, len(text), _SLICE_CHARS))
    return map(_folded, slices)


def _folded(text: str) -> str:
    return text.lower() if text.isascii() else _UNSPACED.sub(_spaced, _plain(text))


def _plain(text: str) -> str:
    """The text without case and accents."""
    if text.isascii():
        return text.lower()
    return _ACCENT.sub("", unicodedata.normalize("NFKD", text).casefold())


def _spaced(found: re.Match[str]) -> str:
    return f" {'  '.join(found[0])} "


def words_of(text: str) -> list[str]:
    """The words of a text, as the index has them."""
    # One by one, so that another thread may run in between.
    return [found[0] for found in _WORD.finditer(indexed(text))]


def terms_of(query: str) -> list[list[str]]:
    """The words of a query, each split as the index splits it. Words without letters and digits are left out."""
    return [words for part in query.split()[:QUERY_WORDS_MAX] if (words := words_of(part))]


def check_words(query: str) -> None:
    """Refuse a query with too many words.

    Raises:
        InvalidParams: with the limit.
    """
    count = len(query.split())
    if count > QUERY_WORDS_MAX:
        raise too_many_words(count, QUERY_WORDS_MAX)


def finder(query: str) -> Callable[[str], bool]:
    """A function that returns whether a text matches a query.

    Raises:
        InvalidParams: the query is blank.
    """
    if not query.strip():
        raise blank_query()
    terms = [" ".join(term) for term in terms_of(query)]
    if not terms:
        sign = query.strip()
        return lambda text: sign in text

    wanted = [*(f" {term} " for term in terms[:-1]), f" {terms[-1]}"]

    def has(text: str) -> bool:
        flat = f" {' '.join(words_of(text))} "
        return all(term in flat for term in wanted)

    return has


def snippet(text: str, query: str) -> str:
    """The text around the first occurrence of one of the query's words, on one line."""
    middle = _place_of(text, query)
    start = max(0, middle - SNIPPET_CHARS // 3)
    if start > 0:
        # Start at the beginning of a word, if one is near.
        space = text.find(" ", start, middle)
        start = start if space < 0 else space + 1
    part = one_line(text[start : start + SNIPPET_CHARS])
    return f"{'…' if start else ''}{part}{'…' if start + SNIPPET_CHARS < len(text) else ''}"


def _place_of(text: str, query: str) -> int:
    """The place of the first occurrence of one of the query's words; 0 if there is none."""
    lowered = text.casefold() if text.isascii() else text.lower()
    exactly = min((place for word in query.lower().split() if (place := lowered.find(word)) >= 0), default=None)
    if exactly is not None and len(lowered) == len(text):  # Some letters become two, which moves what follows.
        return exactly
    words = [max(term, key=len) for term in terms_of(query)]
    for start in range(0, min(len(text), _LOOK_CHARS), _SLICE_CHARS):
        part = text[start : start + _SLICE_CHARS + _OVERLAP_CHARS]
        flat = _plain(part)
        places = [place for word in words if (place := flat.find(word)) >= 0]
        if places:
            return start + _chars_within(part, min(places))
    return exactly or 0


def _chars_within(text: str, length: int) -> int:
    """How many of the text's first characters have so many characters without case and accents."""
    for number, char in enumerate(text):
        length -= len(_plain(char))
        if length < 0:
            return number
    return len(text)


def preview(text: str) -> str | None:
    """The beginning of a text, on one line; None if it is blank."""
    shown = one_line(text[:_PREVIEW_LOOK_CHARS])
    return (shown if len(shown) <= PREVIEW_CHARS else f"{shown[: PREVIEW_CHARS - 1].rstrip()}…") or None


def one_line(text: str) -> str:
    """The text with each run of white space replaced by one space."""
    return " ".join(text.split())
