"""Assembles the calls of all providers: fragments in, pieces of arguments with a call's id and name out. Pure.

A new call begins (protocol section 22) if the index is new; if a name comes with an id that differs from that index's
id; without an index, if the id is new, or without ids, if the name is another; or if a whole call follows a whole one,
unless it repeats that with its id. Arguments given as an object are whole, but an empty one, also as text, may be only
the beginning of a call. Under one index the first name wins, objects are serialised once, and a call without arguments
has `{}`. Ids are generated here, nine letters and digits: the shortest form that all providers accept (Mistral accepts
no other). Pieces before a call's name are held back, since each piece is sent with the name. Pieces of a call are also
held back until the call before it has sent something, so that calls are first sent in their order.
"""

import json
import re
import secrets
import string
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple

from archer_ws.core.limits import CALL_ARGUMENTS_BYTES, PROVIDER_CALLS
from archer_ws.core.secrets import TextScrubber
from archer_ws.llm_gateway.decoding.completion import TooLarge, Unreadable

_ALPHABET = string.ascii_letters + string.digits
#: The limit of text that all calls of a completion may hold back, in characters; a stream has the same limit.
_HELD_CHARS_MAX = 4 * 1024 * 1024
#: The number of pieces kept before they are joined: each takes fifty bytes besides its text.
_MOST_PIECES = 4096
#: Providers' ids are kept unchanged up to this length, like clients' ids.
_FOREIGN_ID_CHARS = 256
#: Characters that a name may not have, and its longest length (llm_gateway/tools.py); and how much of a longer one is
#: read.
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]")
_NAME_CHARS, _NAME_CHARS_READ = 64, 4096
#: Arguments held back that may be only the beginning of a call: Claude's begin so, before those that follow.
_EMPTY = ["{}"]


def new_call_id() -> str:
    """An id that every provider accepts; 53 random bits, unique enough within a conversation."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(9))


class ArgumentsPiece(NamedTuple):
    """A piece of a call's arguments."""

    call_id: str
    name: str
    text: str


class AssembledCall(NamedTuple):
    """A call that was reported."""

    call_id: str
    name: str
    #: The provider's own id, or a replacement if it is very long.
    foreign_id: str | None


@dataclass(slots=True)
class _Call:
    foreign_id: str | None
    call_id: str = field(default_factory=new_call_id)
    name: str = ""
    #: The arguments not reported yet; and their length in characters.
    held: list[str] = field(default_factory=list)
    held_chars: int = 0
    #: The arguments of a call that came whole, with its name, in one fragment.
    whole: str | None = None
    #: Whether its arguments came as an object.
    is_object: bool = False
    #: Its id and name, once it was reported.
    told: tuple[str, str] | None = None

    def is_before(self, name: str, text: str, *, is_object: bool, has_index: bool) -> bool:
        """Whether a fragment with a name and without an id is of another call than this one, the last.

        If nothing else distinguishes them, another name does. Objects follow an object, unless that was empty and only
        began this call.
        """
        if self.foreign_id is not None or not self.name:
            return False
        follows_object = self.is_object and is_object
        if has_index and not follows_object:
            return False  # Some servers send the name with each piece.
        return _safe_name(name) != self.name or (follows_object and not text)

    def hold(self, text: str) -> None:
        """Hold back more of its arguments."""
        self.held.append(text)
        self.held_chars += len(text)
        if len(self.held) > _MOST_PIECES:
            self.held = ["".join(self.held)]

    def tell(self) -> ArgumentsPiece:
        """The arguments held back, as a piece."""
        text = "".join(self.held)
        self.held, self.held_chars = [], 0
        self.told = self.told or (self.call_id, self.name)
        return ArgumentsPiece(self.call_id, self.name, text)


class ToolCallAssembler:
    """The calls of one step."""

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        #: The number of calls, from the first, that were reported.
        self._told = 0
        self._by_index: dict[int | str, _Call] = {}
        self._latest: _Call | None = None
        #: The length of all arguments held back, in characters.
        self._held_chars = 0

    @property
    def has_calls(self) -> bool:
        """Whether a call has a name, and so can be reported."""
        return bool(self._calls) and any(call.name for call in self._calls)

    @property
    def told(self) -> list[AssembledCall]:
        """The calls that were reported, in order."""
        return [AssembledCall(call.call_id, call.name, call.foreign_id) for call in self._calls if call.told]

    @property
    def latest_id(self) -> str | None:
        """Our id of the last fragment's call."""
        return self._latest.call_id if self._latest is not None else None

    def add(
        self,
        *,
        index: int | str | None = None,
        foreign_id: object = None,
        name: object = None,
        arguments: object = None,
    ) -> Iterator[ArgumentsPiece]:
        """Add a fragment; yields the pieces that can be reported now.

        Args:
            index: the call's number, if the provider has one.
            foreign_id: the provider's own id.
            name: the tool's name, usually only in the first fragment.
            arguments: a piece of JSON text, or the whole as an object.

        Raises:
            Unreadable: the arguments are neither text nor an object.
            TooLarge: too many calls, or no name after as many bytes as a call may have.
        """
        text = _text_of(arguments)
        its_id = _bounded(foreign_id) if isinstance(foreign_id, str) and foreign_id else None
        call = self._call_of(index, its_id, has_name=bool(name))
        if isinstance(name, str) and name:
            if text and call.whole is not None:
                if call.foreign_id is not None and text == call.whole and _safe_name(name) == call.name:
                    return
                if _is_object(text) or (its_id is None and text.lstrip()[:1] == "{"):
                    # Gemini's parallel calls: each whole, in a chunk of its own, with an empty id and without an index
                    # (meilisearch/meilisearch#5712, BerriAI/litellm#11999); two may be equal. Other servers have the
                    # tool's name as the id.
                    call = self._begin(index, its_id)
            elif its_id is None and call.is_before(
                name, text, is_object=isinstance(arguments, dict), has_index=index is not None
            ):
                call = self._begin(index, its_id)
            if not call.name:
                call.name = _safe_name(name)
                call.whole = text if not call.held and _is_object(text) else None
                call.is_object = isinstance(arguments, dict)
        if text:
            if call.held == _EMPTY and text.lstrip()[:1] == "{":
                # It only began the call (openai/openai-agents-js#712, BerriAI/litellm#4537).
                self._held_chars -= call.held_chars
                call.held, call.held_chars, call.whole = [], 0, None
            call.hold(text)
            self._held_chars += len(text)
        if call.told and call.held:
            yield self._tell(call)
        while (first := self._next_to_tell()) is not None and self._can_be_told(first):
            yield self._tell(first)
        if call.held_chars > CALL_ARGUMENTS_BYTES or self._held_chars > _HELD_CHARS_MAX:
            raise TooLarge("a tool call without a name, or with too many arguments before it")

    def going_on(self, index: int) -> tuple[str, str] | None:
        """The id and name of the call that text under this number continues, if it was reported.

        Such text need not be added here, since no other call waits for it. Most tokens of arguments are of this kind.
        """
        call = self._by_index.get(index)
        return call.told if call is not None else None

    def goes_on(self, index: int | str | None, foreign_id: object, name: object) -> tuple[str, str] | None:
        """The id and name of the reported call that a fragment continues; None if there is none, or if that came whole,
        since `add` knows what follows a whole call."""
        its_id = _bounded(foreign_id) if isinstance(foreign_id, str) and foreign_id else None
        call = self._known(index, its_id, has_name=bool(name))
        if call is None or call.whole is not None or (isinstance(name, str) and name and _safe_name(name) != call.name):
            return None
        return call.told

    def finish(self) -> Iterator[ArgumentsPiece]:
        """To be called at the end of a step: yields `{}` for calls without arguments.

        Raises:
            Unreadable: a call has no name, so it can't run.
        """
        for call in self._calls:
            if not call.name:
                raise Unreadable("a tool call without a name")
            if not call.told:
                call.held = call.held or ["{}"]
                yield self._tell(call)

    def _tell(self, call: _Call) -> ArgumentsPiece:
        self._held_chars -= call.held_chars
        return call.tell()

    def _can_be_told(self, call: _Call) -> bool:
        """Whether it has a name and arguments that are not only its beginning, as an empty object may be."""
        return bool(call.name and call.held) and (call.held != _EMPTY or call is not self._calls[-1])

    def _next_to_tell(self) -> _Call | None:
        """The first call that was not reported."""
        while self._told < len(self._calls) and self._calls[self._told].told:
            self._told += 1
        return self._calls[self._told] if self._told < len(self._calls) else None

    def _call_of(self, index: int | str | None, foreign_id: str | None, *, has_name: bool) -> _Call:
        call = self._known(index, foreign_id, has_name=has_name)
        if call is None:
            return self._begin(index, foreign_id)
        if call.foreign_id is None:
            call.foreign_id = foreign_id
        return self._goes_on(index, call)

    def _begin(self, index: int | str | None, foreign_id: str | None) -> _Call:
        if len(self._calls) >= PROVIDER_CALLS:
            raise TooLarge(f"more than {PROVIDER_CALLS} tool calls")
        call = _Call(foreign_id)
        self._calls.append(call)
        return self._goes_on(index, call)

    def _goes_on(self, index: int | str | None, call: _Call) -> _Call:
        self._latest = call
        if index is not None:
            # Fragments without an id belong to the last call with this number.
            self._by_index[index] = call
        return call

    def _known(self, index: int | str | None, foreign_id: str | None, *, has_name: bool) -> _Call | None:
        call = None
        if index is not None:
            call = self._by_index.get(index)
            if call is None or foreign_id in (None, call.foreign_id) or call.foreign_id is None:
                return call
        if foreign_id is None:
            return self._calls[-1] if self._calls else None
        known = next((known for known in reversed(self._calls) if known.foreign_id == foreign_id), None)
        if known is None and call is not None and call.name and not has_name:
            # A server that makes a new id for each piece (cubist38/mlx-openai-server#216).
            return call
        return known


def _is_object(text: str) -> bool:
    """Whether the text is the JSON of an object, and so complete."""
    try:
        return text.lstrip()[:1] == "{" and isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _bounded(foreign_id: str) -> str:
    """The id, or a replacement for a very long one: gateways put a model's whole signature into it."""
    if len(foreign_id) <= _FOREIGN_ID_CHARS:
        return foreign_id
    return blake2b(foreign_id.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _safe_name(name: str) -> str:
    """The name in a form that requests may have.

    Models invent names (`functions.get_weather`, two words). A client must be able to send such a call back with its
    result, and every provider must accept it in a history. The name may repeat a key, like any text.
    """
    scrubber = TextScrubber()
    return _NOT_IN_NAMES.sub("_", scrubber.feed(name[:_NAME_CHARS_READ]) + scrubber.rest())[:_NAME_CHARS]


def _text_of(arguments: object) -> str:
    match arguments:
        case None:
            return ""
        case str(text):
            return text
        case dict():
            try:
                return json.dumps(arguments, ensure_ascii=False, separators=(",", ":")) if arguments else ""
            except (ValueError, RecursionError):
                raise Unreadable("a tool call's arguments that are nested too deeply") from None
    raise Unreadable("a tool call's arguments that are neither text nor an object")
