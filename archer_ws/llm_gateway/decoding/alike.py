"""Events that are alike but for their text, as nearly all of a stream are: read by comparing bytes. Pure.

A provider puts the same fields around each piece of text, or of a call's arguments. Once one such event has been
decoded, those that follow need not be: what stands before and after the text is compared, and all the texts of a read
are decoded as one. Anything else is left to the provider's own decoder, and so is what such an event means.
"""

import re
from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from archer_ws.llm_gateway.decoding.framing import EventDecoder

#: What an event has a piece of, in the provider's own terms.
Subject = TypeVar("Subject")

#: Where the text may stand, by the names that providers give it.
_TEXTS = re.compile(
    rb'"(?:content|reasoning(?:_content)?|arguments|text|thinking|partial_json)" *: *("(?!")[^"\\]*(?:\\.[^"\\]*)*")'
)
_MARK = "@"
#: Where an event's last field is text that means nothing: OpenAI makes its events equally long with it, so that their
#: lengths tell nothing (`obfuscation` in https://platform.openai.com/docs/api-reference/chat-streaming).
_PADDING = re.compile(rb', *"obfuscation" *: *"()\w*"\}$')
#: So many events in a row are looked at though none that follows is like them: where all differ, each would cost that.
_MOST_GUESSES = 8
#: Longer events have much text each, in bytes: it costs little then.
_LONGEST = 4096
_BACKSLASH = 0x5C
_ENDS = re.compile(rb"\n\n|\r")
_DECODER = msgspec.json.Decoder(str)


class AlikeEvents(Generic[Subject]):
    """The form of the events that came last, and the texts of those that follow in it.

    Attributes:
        subject: what the texts are of; None while no form is known.
        body: the data of an event in this form.

    Args:
        events: what splits the other events from the bytes.
        piece_in: reads the one piece in an event's data: what it is of, and its text; None where there is anything else
            to be read.
    """

    __slots__ = ("_after", "_before", "_end", "_events", "_guesses", "_piece_in", "body", "subject")

    def __init__(self, events: EventDecoder, piece_in: Callable[[bytes], tuple[Subject, str] | None]) -> None:
        self.subject: Subject | None = None
        self.body = b""
        self._events = events
        self._piece_in = piece_in
        self._guesses = _MOST_GUESSES
        #: From an event's first byte to its text's first quotation mark, and from the last one to the event's end; or
        #: to its padding, and from that to its end.
        self._before = self._after = self._end = b""

    def take(self, data: bytes) -> tuple[str, bytes] | None:
        """The text of the events in this form that a read begins with, joined, and what stands behind them.

        None, and nothing taken, where it does not begin with one, or what it has cannot be read this way.
        """
        whole = self._events.with_begun(data)
        if whole is None or not whole.startswith(self._before):
            return None
        pieces, end = self._pieces_in(whole)
        literal = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if not pieces or (b"\\" in literal and any(piece.endswith(b"\\") for piece in pieces)):
            # A quotation mark behind a backslash may be no end of a text.
            return None
        try:
            text = _DECODER.decode(b'"%b"' % literal)
        except (msgspec.DecodeError, ValueError):
            return None
        rest = whole[end:]
        # As far as it goes: what is whole, or may be without a blank line, must not wait for the next read.
        is_begun = rest[: len(self._before)] == self._before[: len(rest)] and not _ENDS.search(rest)
        self._events.begin_with(rest if is_begun else b"")
        self._guesses = _MOST_GUESSES
        return text, b"" if is_begun else rest

    def _pieces_in(self, whole: bytes) -> tuple[list[bytes], int]:
        """The texts of the events that begin with the first, as they stand there, and where the last event ends."""
        before, after, end = self._before, self._after, self._end
        before_bytes, after_bytes = len(before), len(after)
        pieces: list[bytes] = []
        event_end = 0
        begin = at = before_bytes
        # Looking for one byte is quick; for as many as stand between two texts, each search costs as much as an event.
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
        """Take the form of an event that was read otherwise, given its name and data, if it has one piece of text."""
        if not self._guesses or len(body) > _LONGEST:
            return
        self._guesses -= 1
        found = _TEXTS.search(body)
        piece = self._piece_in(body) if found is not None else None
        if found is None or piece is None:
            return
        subject, _ = piece
        before, after = body[: found.start(1) + 1], body[found.end(1) - 1 :]
        # Whether it is this text that is read.
        if self._piece_in(b"%b%b%b" % (before, _MARK.encode(), after)) != (subject, _MARK):
            return
        self.subject, self.body = subject, body
        self._before = (b"event: %b\n" % name.encode() if name else b"") + b"data: " + before
        padding = _PADDING.search(after)
        if padding is None:
            self._after, self._end = after + b"\n\n", b""
        else:
            self._after, self._end = after[: padding.start(1)], b'"}\n\n'
