"""What OpenAI's chat API can be asked for and our own protocol does not serve: penalties, and tokens' probabilities.

Pure. It comes by that dialect alone, and goes to the providers that take it; for all others it is refused.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

ExtraName = Literal["presence_penalty", "frequency_penalty", "logprobs"]
#: Takes the probabilities of one read, as OpenAI has them in `logprobs.content`: `token`, `logprob`, `bytes`,
#: `top_logprobs`. Called before the read's text is handed on.
TakeLogprobs = Callable[[list[dict[str, Any]]], None]


@dataclass(frozen=True, slots=True)
class Extras:
    """What a request names of it.

    Attributes:
        presence_penalty: -2 to 2; None for the provider's own default, as for the next.
        top_logprobs: how many likely tokens are told for each, 0 to 20; None: no probabilities at all.
    """

    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    top_logprobs: int | None = None

    def named(self) -> list[ExtraName]:
        """The fields that ask for something."""
        asks: dict[ExtraName, bool] = {
            "presence_penalty": bool(self.presence_penalty),
            "frequency_penalty": bool(self.frequency_penalty),
            "logprobs": self.top_logprobs is not None,
        }
        return [name for name, is_asked in asks.items() if is_asked]


NO_EXTRAS = Extras()
ALL_EXTRAS: frozenset[ExtraName] = frozenset({"presence_penalty", "frequency_penalty", "logprobs"})
