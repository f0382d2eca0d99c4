"""Buffers the log probabilities of a stream's tokens between the provider and the one response that sends them.

They are not part of the log: only OpenAI's dialect has them, the Archer protocol does not.
"""

import json
from collections import deque
from collections.abc import Callable
from typing import Any

from archer_ws.core.exceptions import OutputTooLong
from archer_ws.core.secrets import MASK, TextScrubber

#: The limit of buffered log probabilities, in bytes of JSON: enough for ten thousand tokens with twenty alternatives
#: each.
WAITING_BYTES_MAX = 16 * 1024 * 1024


class TokenLogprobs:
    """The tokens that have been received and not sent yet.

    Known secrets are masked as in the text (core/secrets.py), also if they are split over several tokens.

    Args:
        head: returns the number of the log's last event.
        provider: its name, for the error.
    """

    def __init__(self, head: Callable[[], int], provider: str) -> None:
        self._head = head
        self._provider = provider
        self._scrubber = TextScrubber()
        self._suspects: list[dict[str, Any]] = []
        #: Each token as JSON, with the number of the last event before its text.
        self._waiting: deque[tuple[int, bytes]] = deque()
        self.size_bytes = 0

    def add(self, tokens: list[dict[str, Any]]) -> None:
        """Buffer the tokens of the text that is about to be appended to the log.

        Raises:
            OutputTooLong: the buffer is full.
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
        """Remove and return the tokens of the text up to event `before`, as JSON values in order."""
        taken: list[Any] = []
        while self._waiting and self._waiting[0][0] < before:
            _, encoded = self._waiting.popleft()
            self.size_bytes -= len(encoded)
            taken.append(json.loads(encoded))
        return taken

    def rest(self) -> list[Any]:
        """Remove and return all remaining tokens, at the end."""
        self._release(self._head())
        return self.take(self._head() + 1)

    def clear(self) -> None:
        """Forget all tokens: those of a try that failed before its first text."""
        self._scrubber = TextScrubber()
        self._suspects.clear()
        self._waiting.clear()
        self.size_bytes = 0

    def _release(self, after: int) -> None:
        for token in self._suspects:
            # JSON takes a fifth of the memory.
            encoded = json.dumps(token, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
            self._waiting.append((after, encoded))
            self.size_bytes += len(encoded)
        self._suspects.clear()
        if self.size_bytes > WAITING_BYTES_MAX:
            raise OutputTooLong(
                f"the log probabilities are larger than the {WAITING_BYTES_MAX} bytes that are buffered",
                hint="Ask for fewer top_logprobs, or set max_tokens.",
                provider=self._provider,
            )
