"""What a load generator knows of the answers it asked for: how much text came, when, and whether it was all of it."""

import itertools
import json
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.benchmarks.speed.provider_wire import STAMP_DIGITS, token_width

#: A bare text in JSON, which needs no decoding: all that the provider says is of this kind.
TEXT = rb'"(?:content|arguments)": ?"([^"\\]+)"'
_numbers = itertools.count(1)


@dataclass(slots=True)
class Answer:
    """One answer: what was asked for, and what has come.

    Args:
        tokens: how many there must be.
        stamp: whether each is the µs at which the provider wrote it.
        arguments: whether they are the arguments of a call.
        on_first: called once, with the first text.
        on_end: called once, when it has ended.
    """

    tokens: int
    per_s: float = 0
    stamp: bool = False
    hold: bool = False
    arguments: bool = False
    on_first: Callable[["Answer"], None] | None = None
    on_end: Callable[["Answer"], None] | None = None
    key: str = field(default_factory=lambda: f"{os.getpid()}.{next(_numbers)}")
    asked_us: int = 0
    first_us: int = 0
    ended_us: int = 0
    text_bytes: int = 0
    rest: bytes = b""
    is_whole: bool = False

    @property
    def messages(self) -> list[dict[str, str]]:
        """The request's, with the task for the provider."""
        names = ("key", "tokens", "per_s", "stamp", "hold", "arguments")
        task = {name: getattr(self, name) for name in names}
        return [{"role": "user", "content": json.dumps(task)}]

    @property
    def width(self) -> int:
        """Bytes of each token."""
        return token_width(stamped=self.stamp)


class Tally:
    """All answers of a generator together; rates and latencies of the window that is measured."""

    def __init__(self) -> None:
        self.is_measuring = False
        self.tokens = 0.0
        self.frames = 0
        #: µs from the provider's write to here, a token each.
        self.latencies_us: list[int] = []
        self.completed = 0
        self.wrong: Counter[str] = Counter()

    def text(self, answer: Answer, text: bytes, at_us: int) -> None:
        """A piece has come."""
        if not answer.first_us:
            answer.first_us = at_us
            if answer.on_first is not None:
                answer.on_first(answer)
        answer.text_bytes += len(text)
        if not self.is_measuring:
            return
        self.frames += 1
        self.tokens += len(text) / answer.width
        if answer.stamp:
            # A server may cut text wherever it likes.
            text = answer.rest + text
            whole = len(text) - len(text) % STAMP_DIGITS
            answer.rest = text[whole:]
            for start in range(0, whole, STAMP_DIGITS):
                self.latencies_us.append(at_us - int(text[start : start + STAMP_DIGITS]))

    def end(self, answer: Answer, status: str, at_us: int, told_bytes: int | None = None) -> None:
        """It has ended; `completed` is good where the text is whole, by our count and the server's."""
        answer.ended_us = at_us
        expected = answer.tokens * answer.width
        if status != "completed":
            self.wrong[status] += 1
        elif answer.text_bytes != expected or told_bytes not in {None, 0 if answer.arguments else expected}:
            self.wrong[f"{answer.text_bytes} bytes of {expected} came, and {told_bytes} were told"] += 1
        else:
            self.completed += 1
            answer.is_whole = True
        if answer.on_end is not None:
            answer.on_end(answer)

    def report(self) -> dict[str, Any]:
        return {"tokens": round(self.tokens), "frames": self.frames, "completed": self.completed, "wrong": self.wrong}
