"""Reads events that differ only in their text, as nearly all of a stream do, by comparing bytes. Pure.

A provider puts the same fields around each piece of text, or of a call's arguments. After one such event was decoded,
the following ones need not be: the bytes before and after the text are compared, and all texts of a read are decoded at
once. All other events are left to the provider's decoder, which also decides what such an event means.
"""

import re
from collections.abc import Callable
from secrets import token_hex
from typing import Generic, TypeVar

import msgspec

from archer_ws.llm_gateway.decoding.framing import EventDecoder

#: What a piece of text belongs to, in the provider's own terms.
Subject = TypeVar("Subject")

#: The fields that may contain the text.
_TEXTS = re.compile(
    rb'"(?:content|reasoning(?:_content)?|arguments|text|thinking|partial_json)" *: *("(?!")[^"\\]*(?:\\.[^"\\]*)*")'
)
#: Random, so that no event has it as its text.
_MARK = token_hex(8)
#: Padding in an event's last field: OpenAI makes its events equally long with it, so that their lengths reveal nothing
#: (`obfuscation` in https://platform.openai.com/docs/api-reference/chat-streaming).
_PADDING = re.compile(rb', *"obfuscation" *: *"()\w*"\}$')
#: The number of events in a row to learn from without a match: if all events differ, learning would cost time for each.
_MOST_GUESSES = 8
#: Longer events have much text each, so this fast path is not needed, in bytes.
_LONGEST = 4096
#: Searching for a byte by its number is several times as fast as for bytes.
_QUOTE, _BACKSLASH = b'"\\'
_ENDS = re.compile(rb"\n\n|\r")
_DECODER = msgspec.json.Decoder(str)


class AlikeEvents(Generic[Subject]):
    """The form of the last events, and the texts of the following events with the same form.

    Attributes:
        subject: what the texts belong to; None while no form is known.
        body: the data of an event in this form.

    Args:
        events: splits all other events from the bytes.
        piece_in: reads the only piece in an event's data: its subject and its text; None if the data contains anything
            else that must be read.
    """

    __slots__ = ("_after", "_around", "_before", "_end", "_events", "_guesses", "_piece_in", "body", "subject")

    def __init__(self, events: EventDecoder, piece_in: Callable[[bytes], tuple[Subject, str] | None]) -> None:
        self.subject: Subject | None = None
        self.body = b""
        self._events = events
        self._piece_in = piece_in
        self._guesses = _MOST_GUESSES
        #: The bytes from an event's start to its text's first quotation mark, and from the last one to the event's end;
        #: or to its padding, and from there to the end.
        self._before = self._after = self._end = b""
        #: The number of bytes before the text, and after it or the padding.
        self._around = 0

    def take(self, data: bytes) -> tuple[str, bytes] | None:
        """The joined text of the events in this form at the beginning of a read, and the bytes after them.

        None, without effect, if it does not begin with such an event, or an event can't be read this way.
        """
        begun = self._events.begun
        if begun is None:
            return None
        whole = begun + data if begun else data
        if (sole := self._sole_text_in(whole)) is not None:
            self._events.begun = b""
            self._guesses = _MOST_GUESSES
            return sole, b""
        if not whole.startswith(self._before):
            return None
        pieces, end = self._pieces_in(whole)
        literal = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if not pieces or (_BACKSLASH in literal and any(piece[-1:] == b"\\" or piece[:1] == b"{" for piece in pieces)):
            # A quotation mark after a backslash may not be the end of a text, and an object may be a repetition of a
            # call's arguments.
            return None
        try:
            text = _DECODER.decode(b'"%b"' % literal)
        except (msgspec.DecodeError, ValueError):
            return None
        rest = whole[end:]
        # An event that is complete, or may be complete without a blank line, must not wait for the next read.
        is_begun = rest[: len(self._before)] == self._before[: len(rest)] and not _ENDS.search(rest)
        self._events.begun = rest if is_begun else b""
        self._guesses = _MOST_GUESSES
        return text, b"" if is_begun else rest

    def _sole_text_in(self, whole: bytes) -> str | None:
        """The text of a read with one event, as nearly all have, if it needs no decoding of JSON; else None."""
        literal = whole.removeprefix(self._before).removesuffix(self._end or self._after)
        if len(whole) - len(literal) != self._around:
            return None
        if self._end:
            literal, _, padding = literal.partition(self._after)
            if _QUOTE in padding:
                return None
        if _QUOTE in literal or _BACKSLASH in literal:
            return None
        try:
            text = literal.decode()
        except ValueError:
            return None
        # What can be printed has no control characters, which JSON does not allow in a text.
        return text if text.isprintable() else None

    def _pieces_in(self, whole: bytes) -> tuple[list[bytes], int]:
        """The undecoded texts of the events from the first on, and where the last event ends."""
        before, after, end = self._before, self._after, self._end
        before_bytes, after_bytes = len(before), len(after)
        pieces: list[bytes] = []
        event_end = 0
        begin = at = before_bytes
        # Searching for one byte is fast; searching for the bytes between two texts costs as much as an event each time.
        while (at := whole.find(b'"', at)) >= 0:
            if not whole.startswith(after, at):
                if whole[at - 1] != _BACKSLASH:
                    break
                at += 1
                continue
            piece = whole[begin:at]
            at += after_bytes
            if end:
                at = whole.find(b'"', at)
                if at < 0 or not whole.startswith(end, at):
                    break
                at += len(end)
            pieces.append(piece)
            event_end = at
            if not whole.startswith(before, at):
                break
            begin = at = at + before_bytes
        return pieces, event_end

    def learn(self, name: str, body: bytes) -> None:
        """Learn the form of an event that was decoded normally, from its name and data, if it has one piece of text."""
        if not self._guesses or len(body) > _LONGEST:
            return
        self._guesses -= 1
        found = _TEXTS.search(body)
        if found is None:
            return
        before, after = body[: found.start(1) + 1], body[found.end(1) - 1 :]
        # With the mark in the place of this text, the decoder must read the mark, and nothing else.
        piece = self._piece_in(b"%b%b%b" % (before, _MARK.encode(), after))
        if piece is None or piece[1] != _MARK:
            return
        self.subject, self.body = piece[0], body
        self._before = (b"event: %b\n" % name.encode() if name else b"") + b"data: " + before
        padding = _PADDING.search(after)
        if padding is None:
            self._after, self._end = after + b"\n\n", b""
        else:
            self._after, self._end = after[: padding.start(1)], b'"}\n\n'
        self._around = len(self._before) + len(self._end or self._after)
