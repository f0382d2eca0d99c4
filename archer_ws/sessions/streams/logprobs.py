"""The probabilities of a stream's tokens, between the provider and the one answer that is to tell them.

They are no part of the log: our protocol does not have them, only OpenAI's dialect does.
"""

import json
from collections import deque
from collections.abc import Callable
from typing import Any

from archer_ws.core.exceptions import OutputTooLong
from archer_ws.core.secrets import MASK, TextScrubber

#: What may wait to be told, in bytes of JSON: twenty likely tokens for each of ten thousand.
WAITING_BYTES_MAX = 16 * 1024 * 1024


class TokenLogprobs:
    """The tokens that have come and are not told yet.

    Known secrets are masked as they are in the text (core/secrets.py), where they may have been said in pieces.

    Args:
        head: tells the number of the log's last event.
        provider: for the error.
    """

    def __init__(self, head: Callable[[], int], provider: str) -> None:
        self._head = head
        self._provider = provider
        self._scrubber = TextScrubber()
        self._suspects: list[dict[str, Any]] = []
        #: Each with the last event before its text.
        self._waiting: deque[tuple[int, bytes]] = deque()
        self.size_bytes = 0

    def add(self, tokens: list[dict[str, Any]]) -> None:
        """What comes with the text that is about to be appended to the log.

        Raises:
            OutputTooLong: too much waits to be told.
        """
        after = self._head()
        for token in tokens:
            text = token["token"]
            shown = self._scrubber.feed(text)
            self._suspects.append(token)
            if self._scrubber.held:
                continue
            if shown is not text and MASK in shown:
                self._suspects = [
                    {"token": MASK, "logprob": each["logprob"], "bytes": None, "top_logprobs": []}
                    for each in self._suspects
                ]
            self._release(after)

    def take(self, before: int) -> list[Any]:
        """The tokens, as JSON values, of the text up to the event `before`, in order; each is given once."""
        taken: list[Any] = []
        while self._waiting and self._waiting[0][0] < before:
            _, encoded = self._waiting.popleft()
            self.size_bytes -= len(encoded)
            taken.append(json.loads(encoded))
        return taken

    def rest(self) -> list[Any]:
        """At the end: all that was not taken."""
        self._release(self._head())
        return self.take(self._head() + 1)

    def _release(self, after: int) -> None:
        for token in self._suspects:
            # As JSON it takes a fifth of the memory.
            encoded = json.dumps(token, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
            self._waiting.append((after, encoded))
            self.size_bytes += len(encoded)
        self._suspects.clear()
        if self.size_bytes > WAITING_BYTES_MAX:
            raise OutputTooLong(
                f"the tokens' probabilities are more than the {WAITING_BYTES_MAX} bytes that may wait to be told",
                hint="Ask for fewer top_logprobs, or set max_tokens.",
                provider=self._provider,
            )
