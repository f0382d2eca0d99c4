"""Buffers the log probabilities of a stream's tokens between the provider and the one response that sends them.

They are not part of the log: only OpenAI's dialect has them, the Archer protocol does not.
"""

import json
from collections import deque
from collections.abc import Callable
from typing import Any

from archer_ws.core.exceptions import OutputTooLong
from archer_ws.core.secrets import MASK, TextScrubber
from archer_ws.llm_gateway.extras import ScoredKind

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
        #: The tokens whose text may be the beginning of a secret, as JSON, each with what it is of and its log
        #: probability.
        self._suspects: list[tuple[ScoredKind, float, bytes]] = []
        #: Each token as JSON, by what it is of, with its place among all and the number of the last event before its
        #: text.
        self._waiting: dict[ScoredKind, deque[tuple[int, int, bytes]]] = {}
        self._count = 0
        #: The number of the event that began the current step.
        self._step_began = 0
        self.size_bytes = 0

    def add(self, tokens: list[dict[str, Any]], kind: ScoredKind) -> None:
        """Buffer the tokens of the text of this kind that is about to be appended to the log.

        Raises:
            OutputTooLong: the buffer is full.
        """
        after = self._head()
        for token in tokens:
            text = token["token"]
            shown = self._scrubber.feed(text)
            self._suspect(kind, token["logprob"], token)
            if self._scrubber.held:
                self._bound()
                continue
            if shown is not text and MASK in shown:
                masked, self._suspects = self._suspects, []
                for of, logprob, encoded in masked:
                    self.size_bytes -= len(encoded)
                    self._suspect(of, logprob, {"token": MASK, "logprob": logprob, "bytes": None, "top_logprobs": []})
            self._release(after)
            self._bound()

    def take(self, before: int, kind: ScoredKind) -> list[Any]:
        """Remove and return the tokens of the text of this kind up to event `before`, as JSON values in order."""
        taken: list[Any] = []
        waiting = self._waiting.get(kind)
        while waiting and waiting[0][1] < before:
            _, _, encoded = waiting.popleft()
            self.size_bytes -= len(encoded)
            taken.append(json.loads(encoded))
        return taken

    def rest(self) -> list[Any]:
        """Remove and return all remaining tokens, at the end."""
        return self._rest(0)

    def rest_of_step(self) -> list[Any]:
        """Remove all remaining tokens, at the end, and return those of the last step."""
        return self._rest(self._step_began)

    def _rest(self, since: int) -> list[Any]:
        self._release(self._head())
        tokens = sorted(token for waiting in self._waiting.values() for token in waiting)
        self._waiting.clear()
        self.size_bytes = 0
        return [json.loads(encoded) for _, after, encoded in tokens if after >= since]

    def next_step(self) -> None:
        """Note that the log's last event began the next step."""
        self._step_began = self._head()
        self._release(self._step_began - 1)
        self._scrubber = TextScrubber()

    def forget_try(self) -> None:
        """Forget the tokens of a try that failed before the first text of its step."""
        self._scrubber = TextScrubber()
        self._release(self._head())
        for waiting in self._waiting.values():
            while waiting and waiting[-1][1] >= self._step_began:
                self.size_bytes -= len(waiting.pop()[2])

    def _suspect(self, kind: ScoredKind, logprob: float, token: dict[str, Any]) -> None:
        # JSON takes a fifth of the memory.
        encoded = json.dumps(token, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
        self._suspects.append((kind, logprob, encoded))
        self.size_bytes += len(encoded)

    def _bound(self) -> None:
        if self.size_bytes > WAITING_BYTES_MAX:
            raise OutputTooLong(
                f"the log probabilities are larger than the {WAITING_BYTES_MAX} bytes that are buffered",
                hint="Ask for fewer top_logprobs, or set max_tokens.",
                provider=self._provider,
            )

    def _release(self, after: int) -> None:
        for kind, _, encoded in self._suspects:
            self._waiting.setdefault(kind, deque()).append((self._count, after, encoded))
            self._count += 1
        self._suspects.clear()
