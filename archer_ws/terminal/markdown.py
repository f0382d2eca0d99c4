"""Markdown on a terminal while it arrives: styles bold, italic, code, headings, lists and quotes. Pure.

Lenient: text that is not certainly markup stays unchanged, and only the marks of recognised markup are left out. Text
is held back only while it may still become markup, at most HELD_MAX characters or to the end of its line. The rules are
CommonMark's (https://spec.commonmark.org), as far as they can be applied line by line.
"""

import re

#: How much text may wait for the end of its markup, in characters: more would be a noticeable pause.
HELD_MAX = 160

_RESET = "\x1b[0m"
_BOLD, _DIM, _ITALIC, _CODE = "\x1b[1m", "\x1b[2m", "\x1b[3m", "\x1b[36m"
_RULE_CELLS = 24

_FENCE = re.compile(r"( {0,3})(`{3,}|~{3,})(.*)")
#: Headings, bullets and quotes: the style of the line, and what is shown instead of the mark.
_BLOCKS = (
    (re.compile(r" {0,3}#{1,6}[ \t]+"), _BOLD, ""),
    (re.compile(r"([ \t]*)[-*+][ \t]+"), "", r"\1• "),
    (re.compile(r" {0,3}>[ \t]?"), _DIM, "│ "),
)
_RULE = re.compile(r" {0,3}([-*_])(?:[ \t]*\1){2,}[ \t]*")
#: The beginning of a line that may still become one of these; longer beginnings are decided.
_UNDECIDED = re.compile(r"[ \t]{0,8}(?:#{1,6}[ \t]*|>|[-*+_](?:[ \t]*[-*_])*[ \t]*|`{1,2}|~{1,2}|[`~]{3,}.*)?")

#: A span between two low lines, and its beginning. It may contain any text: its end is searched for in the whole line.
_LOW_BOLD = re.compile(r"(?<!\w)(__)(?=\S)(.+?)(?<=\S)__(?!\w)")
_LOW_BOLD_BEGINS = re.compile(r"(?<!\w)__(?=\S.)")
#: Spans with their styles; the first that matches is used.
_SPANS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(`+)(?!`)(.+?)(?<!`)\1(?!`)"), _CODE),
    (re.compile(r"(\*\*\*)(?=[^\s*])([^*]*?[^\s*])\*\*\*(?!\*)"), _BOLD + _ITALIC),
    (re.compile(r"(\*\*)(?=[^\s*])((?:[^*]|\*(?!\*))*?[^\s])\*\*(?!\*)"), _BOLD),
    (_LOW_BOLD, _BOLD),
    (re.compile(r"(\*)(?=[^\s*])([^*]*?[^\s*])\*(?!\*)"), _ITALIC),
    (re.compile(r"(?<![\w_])(_)(?=[^\s_])([^_]*?[^\s_])_(?!\w)"), _ITALIC),
)
_OPENER = re.compile(r"`+|\*+|_+")
#: What may be a span within another span. A mark of code has few backticks there: with any number of them, a long row
#: would be searched from each one to its end.
_WITHIN = re.compile(r"(`{1,16})[^`]+\1|(\*{1,2})[^\s*][^*]*\2")


class Markdown:
    """One completion's text on its way to a terminal."""

    def __init__(self) -> None:
        self._held = ""
        #: The style of the whole line; None while its kind is not known.
        self._line: str | None = None
        #: The mark that ends the current code block.
        self._fence = ""
        self._last = ""

    def feed(self, text: str) -> str:
        """More of the completion; returns what can be shown of it and of the text held back."""
        self._held += text
        return self._flow(is_end=False)

    def end(self) -> str:
        """The text is complete; returns the rest, unchanged where it did not become markup."""
        shown = self._flow(is_end=True)
        style, self._line, self._fence, self._last = self._line, None, "", ""
        return shown + (_RESET if style else "")

    def _flow(self, *, is_end: bool) -> str:
        shown: list[str] = []
        *lines, last = self._held.split("\n")
        for line in lines:
            shown += (self._shown(line, is_whole=True), _RESET if self._line else "", "\n")
            self._line, self._last = None, ""
        self._held = last
        if last and (is_end or self._line is not None or not self._may_become_more(last)):
            shown.append(self._shown(last, is_whole=is_end))
        return "".join(shown)

    def _shown(self, line: str, *, is_whole: bool) -> str:
        """As much of a line, or of its rest, as can be shown; what can't is held."""
        prefix = ""
        if self._line is None:
            prefix, line = self._begin_line(line, is_whole=is_whole)
        return prefix + self._spans(line, is_whole=is_whole)

    def _may_become_more(self, line: str) -> bool:
        """Whether the kind of a line with this beginning is still undecided."""
        if self._fence:
            return len(line) < HELD_MAX and bool(re.fullmatch(rf" {{0,3}}{re.escape(self._fence[0])}*[ \t]*", line))
        return len(line) < HELD_MAX and bool(_UNDECIDED.fullmatch(line))

    def _begin_line(self, line: str, *, is_whole: bool) -> tuple[str, str]:
        """How a line's beginning is shown, and what remains of it."""
        fence = _FENCE.fullmatch(line) if is_whole else None
        if self._fence:
            self._line = _CODE
            if fence and fence[2].startswith(self._fence) and not fence[3].strip():
                self._fence = ""
                return _CODE, ""
            return (_CODE + "  ", line) if line else ("", "")
        if fence and "`" not in fence[3]:
            self._line, self._fence = _DIM, fence[2]
            return _DIM + "  " + fence[3].strip(), ""
        if is_whole and _RULE.fullmatch(line):
            self._line = _DIM
            return _DIM + "─" * _RULE_CELLS, ""
        for pattern, style, mark in _BLOCKS:
            if found := pattern.match(line):
                self._line = style
                return style + found.expand(mark), line[found.end() :]
        self._line = ""
        return "", line

    def _spans(self, line: str, *, is_whole: bool) -> str:
        """As much of the line as can be shown, with its spans styled; the time is proportional to its length."""
        # The character before a mark matters.
        text, at = self._last + line, len(self._last)
        is_code = bool(self._fence) or self._line == _CODE
        shown: list[str] = []
        spans = _Spans(text)
        while at < len(text):
            opener = None if is_code else _OPENER.search(text, at)
            if opener is None:
                shown.append(text[at:])
                at = len(text)
                break
            shown.append(text[at : opener.start()])
            at = opener.start()
            end = spans.end_of(at)
            # With one more mark after it, it would be another span.
            if end is not None and (is_whole or end < len(text)):
                shown.append(_styled(text[at:end]).replace(_RESET, _RESET + (self._line or "")))
                at = end
            elif is_whole or len(text) - at >= HELD_MAX or not _may_open(text, at, opener[0]):
                shown.append(opener[0])
                at = opener.end()
            else:
                break
        self._held, self._last = text[at:], text[at - 1 : at] if at else ""
        return "".join(shown)


class _Spans:
    """Finds the spans of a text, which must be asked for in their order."""

    def __init__(self, text: str) -> None:
        self._text = text
        #: Whether no `_LOW_BOLD` ends in the rest of the text, so that its end is not searched for again.
        self._ends_none = False

    def end_of(self, at: int) -> int | None:
        """Where the span ends that begins here; None if none does."""
        text = self._text
        if _is_escaped(text, at):
            return None
        for pattern, _ in _SPANS:
            if pattern is _LOW_BOLD and (self._ends_none or not _LOW_BOLD_BEGINS.match(text, at)):
                continue
            found = pattern.match(text, at)
            if found is not None:
                return found.end()
            self._ends_none = self._ends_none or pattern is _LOW_BOLD
        return None


def _may_open(text: str, at: int, mark: str) -> bool:
    """Whether a span may begin with the mark here, if more text follows."""
    following = text[at + len(mark) : at + len(mark) + 1]
    if mark[0] == "`" or not following:
        return not _is_escaped(text, at)
    is_within_word = mark[0] == "_" and at > 0 and text[at - 1].isalnum()
    return not following.isspace() and not is_within_word and not _is_escaped(text, at)


def _is_escaped(text: str, at: int) -> bool:
    return at > 0 and text[at - 1] == "\\"


def _styled(text: str) -> str:
    """A span, styled, and the spans within it."""
    for pattern, style in _SPANS:
        found = pattern.fullmatch(text)
        if found is None:
            continue
        if style == _CODE:
            return f"{style}{found[2]}{_RESET}"
        inner = _WITHIN.sub(lambda each: _styled(each[0]), found[2])
        return f"{style}{inner.replace(_RESET, _RESET + style)}{_RESET}"
    return text
