"""The secrets that this process knows, and their removal from everything that is shown.

A provider, or a proxy before it, may repeat a key that it was sent: in an error's message, in a completion, or in a
body that a library puts into an exception. So all output passes through here: errors (exceptions.py), log lines
(logging.py), and the text of completions (resilience/scrubbing.py). Code that learns a secret calls `remember`; there
is one table for the process, as there is one log.

A secret is found in plain form, percent-encoded, escaped as in JSON, and inside base64 (HTTP Basic credentials).
Nothing shorter than `SHORTEST` is searched for: it would match ordinary words.
"""

import json
import re
from base64 import b64encode
from collections.abc import Iterable
from urllib.parse import quote, unquote, urlsplit

MASK = "[redacted]"
#: A shorter secret can't be distinguished from an ordinary word, in characters.
SHORTEST = 8
#: The number of a form's characters that may be sent before it is noticed: its beginning (`sk-`) is not secret.
_UNNOTICED = 3
_SEED = _UNNOTICED + 1
#: A text counts as long if it has so many times the characters of the longest form.
_LONG = 4
#: The position from which each of base64's three alignments depends on the secret alone, in characters.
_BASE64_STARTS = (0, 2, 3)

#: Text that looks like a key, known or not: by the prefixes that providers use, and by the words before it.
_KEY_LIKE = re.compile(
    r"""
    (?<![A-Za-z0-9])
    (?: (?:sk|pk|rk)-[\w*.-]{8,}                             # OpenAI, Anthropic, OpenRouter, DeepSeek, LiteLLM
      | (?:gsk|hf|ghp|gho|ghs|r8|xai|nvapi|pplx|csk|fw|tgp)[_-][\w*.-]{16,}
      | AIza[\w-]{20,} | ya29\.[\w.-]{16,} | (?:AKIA|ASIA)[A-Z0-9]{12,}
      | (?P<jwt>eyJ)(?=[\w-]{8})                              # perhaps a JSON Web Token: see `_JWT`
    )
    | (?i:\bbearer\s+)(?=\S*\d)[^\s"',;]{8,} | (?i:\bbasic\s+)(?=\S*[\d=])[A-Za-z0-9+/_-]{8,}={0,2}
    | (?i:\b(?:api[_-]?key|apikey|access[_-]?token|auth[_-]?token|secret|password|x-api-key)\b["']?\s*[:=]\s*["']?)
      [^\s"',;&}\[]{8,}
    """,
    re.VERBOSE,
)
#: A JSON Web Token, and the characters of one of its parts.
_JWT, _JWT_PART = re.compile(r"eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"), re.compile(r"[\w-]*")
#: The user and password of a URL.
_USERINFO = re.compile(r"(?<=://)[^/@\s\"'<>]+@")
#: Keys that can't be mistaken for ordinary words: they have a known prefix, or are long and contain letters and digits.
_UNMISTAKABLE = re.compile(r"(?:sk|pk|gsk|hf|xai|key)[-_].+|(?=.*\d)(?=.*[A-Za-z]).{16,}", re.DOTALL)


class _Known:
    """The table of all forms of all secrets."""

    def __init__(self) -> None:
        self._secrets: dict[str, None] = {}
        #: All forms, the longest first, and one pattern for them.
        self.forms: tuple[str, ...] = ()
        self.pattern: re.Pattern[str] | None = None
        #: The forms searched for in completions, the longest first; their beginnings; and the longest one's length in
        #: characters.
        self.in_answers: tuple[str, ...] = ()
        self.seeds: re.Pattern[str] | None = None
        self.longest = 0

    def add(self, secret: str) -> None:
        if len(secret) >= SHORTEST and secret not in self._secrets:
            self._secrets[secret] = None
            self._compile()

    def remove(self, secret: str) -> None:
        if secret in self._secrets:
            del self._secrets[secret]
            self._compile()

    def _compile(self) -> None:
        self.forms = tuple(_ordered(form for known in self._secrets for form in _forms(known)))
        self.pattern = re.compile("|".join(map(re.escape, self.forms))) if self.forms else None
        unmistakable = [known for known in self._secrets if _UNMISTAKABLE.fullmatch(known)]
        self.in_answers = tuple(_ordered(form for known in unmistakable for form in _forms(known)))
        seeds = _ordered(form[:_SEED] for form in self.in_answers)
        self.seeds = re.compile("|".join(map(re.escape, seeds))) if seeds else None
        self.longest = max(map(len, self.in_answers), default=0)

    def is_not_in(self, long_text: str) -> bool:
        """Whether a long text contains no form, nor the beginning of one at its end. Searching for whole forms costs a
        tenth of searching for their beginnings."""
        assert self.seeds is not None
        if any(form in long_text for form in self.in_answers):
            return False
        return self.seeds.search(long_text, len(long_text) - self.longest) is None


_known = _Known()


def remember(*secrets: str | None) -> None:
    """Never show these from now on, in any form; None and texts that are too short are ignored."""
    for secret in secrets:
        if secret:
            _known.add(secret.strip())


def forget(secret: str) -> None:
    """Treat it as no secret any more."""
    _known.remove(secret)


def remember_userinfo(url: str | None) -> None:
    """Never show the password of a URL, nor its user and password as HTTP Basic credentials."""
    if not url or "@" not in url:
        return
    try:
        parts = urlsplit(url if "://" in url else f"//{url}")
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
    except ValueError:
        return
    remember(password, b64encode(f"{user}:{password}".encode()).decode())


def scrubbed(text: str) -> str:
    """A message in which all known secrets, all key-like texts, and the users in URLs are masked."""
    return _without_key_like(_USERINFO.sub(f"{MASK}@", without_secrets(text)))


def _without_key_like(text: str) -> str:
    """The text without what looks like a key. The time is proportional to its length, whatever it is: each part of a
    token is read once, however many tokens might begin in it."""
    out: list[str] = []
    # All before `at` is in `out`; no token begins before `barren`.
    at = searched = barren = 0
    while (found := _KEY_LIKE.search(text, searched)) is not None:
        start = found.start()
        if found["jwt"]:
            found = _JWT.match(text, start) if start >= barren else None
        if found is None:
            # If what follows this part makes no token, then no later beginning in this part makes one.
            if start >= barren:
                barren = _JWT_PART.match(text, start).end()  # type: ignore[union-attr]
            searched = start + 1
            continue
        out += (text[at:start], MASK)
        at = searched = found.end()
    return "".join(out) + text[at:] if out else text


def without_secrets(text: str) -> str:
    """The text in which only the known secrets are masked."""
    pattern = _known.pattern
    # Nearly all texts contain none. That is seen many times faster by looking for each form than by one pattern.
    for form in _known.forms:
        if form in text and pattern is not None:
            return pattern.sub(MASK, text)
    return text


class TextScrubber:
    """Masks known secrets in a text that comes in pieces, even if one is split over several pieces.

    Only keys that can't be mistaken for words are searched for: a completion may well mention `lm-studio`, which some
    users set as their key. A piece is held back only while it ends with the beginning of a secret (at least four
    characters), so that ordinary text passes at once, at the cost of one search.
    """

    __slots__ = ("_tail", "held")

    def __init__(self) -> None:
        #: The last text that was released; a secret may begin in its end.
        self._tail = ""
        #: Text that is held back until the next piece comes.
        self.held = ""

    def feed(self, text: str) -> str:
        """Adds a piece; returns the text that may be released now."""
        known = _known
        seeds = known.seeds
        if seeds is None:
            return text
        if self.held:
            return self._release(f"{self._tail}{self.held}{text}")
        window = self._tail + text
        if seeds.search(window) is None if len(window) < _LONG * known.longest else known.is_not_in(window):
            self._tail = window[-_UNNOTICED:]
            return text
        return self._release(window)

    def rest(self) -> str:
        """The text that was held back. Call it at the end of the text."""
        held, self.held = self.held, ""
        return held

    def _release(self, window: str) -> str:
        out: list[str] = []
        # Nothing from `at` on has been released; nothing before `begin` can begin another secret.
        at, begin = len(self._tail), 0
        for start, end in _occurrences(window):
            out += (window[at:start], MASK)
            at = begin = end
        kept_from = max(at, len(window) - _longest_beginning(window[begin:]))
        out.append(window[at:kept_from])
        self.held = window[kept_from:]
        self._tail = window[begin:kept_from][-_UNNOTICED:]
        return "".join(out)


def _occurrences(window: str) -> list[tuple[int, int]]:
    """The places of forms in the window, in order, without overlaps."""
    found: list[tuple[int, int]] = []
    #: Where each form comes next: it is searched for again only behind that place.
    places = {form: start for form in _known.in_answers if (start := window.find(form)) >= 0}
    while places:
        start, length = min((start, -len(form)) for form, start in places.items())
        at = start - length
        found.append((start, at))
        for form, start in tuple(places.items()):
            if start < at and (later := window.find(form, at)) >= 0:
                places[form] = later
            elif start < at:
                del places[form]
    return found


def _longest_beginning(text: str) -> int:
    """The number of last characters that are the beginning of a form, if there are enough of them; else 0."""
    longest = 0
    for form in _known.in_answers:
        for size in range(min(len(form) - 1, len(text)), max(_UNNOTICED, longest), -1):
            if text.endswith(form[:size]):
                longest = size
                break
    return longest


def _forms(secret: str) -> list[str]:
    raw = secret.encode("utf-8", "surrogatepass")
    forms = [secret, quote(raw, safe=""), json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]]
    encoded = quote(raw, safe="")
    forms.append(re.sub(r"%[0-9A-F]{2}", lambda found: found[0].lower(), encoded))
    for offset, start in enumerate(_BASE64_STARTS):
        # Only the characters that do not depend on a byte before or after the secret.
        inside = b64encode(b"\0" * offset + raw).decode()[start : (offset + len(raw)) * 8 // 6]
        forms += [inside, inside.replace("+", "-").replace("/", "_")]
    return forms


def _ordered(forms: Iterable[str]) -> list[str]:
    """Without repetitions, the longest first: if one contains another, the longer one must win."""
    return sorted(dict.fromkeys(forms), key=len, reverse=True)
