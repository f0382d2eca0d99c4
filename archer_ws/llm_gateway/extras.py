"""Parameters of OpenAI's chat API that our own protocol does not have: penalties, and tokens' probabilities.

Pure. They come only by OpenAI's dialect, and go only to providers that accept them; for all others they are refused.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

ExtraName = Literal["presence_penalty", "frequency_penalty", "logprobs"]
#: What tokens are of: the text, the reasoning, or a call's name and arguments.
ScoredKind = Literal["content", "reasoning", "arguments"]
#: Receives the probabilities of one chunk, in the form of OpenAI's `logprobs.content`: `token`, `logprob`, `bytes`,
#: `top_logprobs`. Called before the text of the chunk's read is handed on.
TakeLogprobs = Callable[[list[dict[str, Any]], ScoredKind], None]


@dataclass(frozen=True, slots=True)
class Extras:
    """The parameters that a request names.

    Attributes:
        presence_penalty: -2 to 2; None for the provider's default, as for the next one.
        top_logprobs: how many likely tokens are returned for each token, 0 to 20; None: no probabilities at all.
    """

    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    top_logprobs: int | None = None

    def named(self) -> list[ExtraName]:
        """The names of the parameters that are set."""
        asks: dict[ExtraName, bool] = {
            "presence_penalty": bool(self.presence_penalty),
            "frequency_penalty": bool(self.frequency_penalty),
            "logprobs": self.top_logprobs is not None,
        }
        return [name for name, is_asked in asks.items() if is_asked]


NO_EXTRAS = Extras()
ALL_EXTRAS: frozenset[ExtraName] = frozenset({"presence_penalty", "frequency_penalty", "logprobs"})
