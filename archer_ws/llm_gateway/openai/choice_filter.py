"""Which of several choices is the answer: one was asked for, and two are never mixed.

Pure. The only choice of a stream is the answer whatever its number. Where text or calls come under more than one
number, the first that has any is the answer, and what comes under others is kept back: if the first one goes on, or was
over, that was another answer, and if it never does, the server only counts oddly, and it was the rest of this one.
"""

from collections.abc import Sequence

from archer_ws.core.limits import PROVIDER_DOCUMENT_BYTES
from archer_ws.llm_gateway.decoding.completion import Unreadable
from archer_ws.llm_gateway.openai.documents import Choice


class ChoiceFilter:
    """What of each document's choices is taken.

    Args:
        max_chars: of what is kept back.

    Attributes:
        is_plain: everything so far came under the number 0.
        reason: the last word on why the answer stopped.
    """

    def __init__(self, max_chars: int = PROVIDER_DOCUMENT_BYTES) -> None:
        self._max_chars = max_chars
        self.is_plain = True
        self.reason: object = None
        self._number: int | str | None = None
        self._reasoning_number: int | str | None = None
        self._has_others = False
        self._kept_back: list[Choice] = []
        self._kept_size = 0
        self._kept_reason: object = None

    def take(self, choices: Sequence[Choice], *, has_text: bool, has_reasoning: bool) -> list[Choice]:
        """The choices that are pieces of the answer.

        Args:
            has_text: text or calls came before, under the number 0 if none is known here.
            has_reasoning: so did reasoning.
        """
        if self._number is None and has_text:
            self._number = 0
        if self._reasoning_number is None and has_reasoning:
            self._reasoning_number = 0
        self.reason = None
        taken: list[Choice] = []
        numbers = {choice.number for choice in choices}
        for choice in sorted(choices, key=lambda choice: choice.number != 0) if len(choices) > 1 else choices:
            if self._belongs(choice):
                taken.append(choice)
                self.reason = choice.reason or self.reason
            elif self._has_others or self._number in numbers:
                self._has_others = True
            else:
                self._keep_back(choice)
        self.is_plain = self._number in (None, 0) and not self._kept_back and not self._has_others
        return taken

    def rest(self) -> list[Choice]:
        """Where the answer ended without a reason: what was kept back; `reason` is then the one that came with it."""
        self.reason = self._kept_reason
        return self._kept_back

    def _belongs(self, choice: Choice) -> bool:
        if self._number is None:
            kinds = {is_reasoning for is_reasoning, _ in choice.parts.pieces}
            if False in kinds or choice.parts.refusals or choice.calls:
                self._number = choice.number
            elif True in kinds:
                if self._reasoning_number not in (None, choice.number):
                    return False
                self._reasoning_number = choice.number
            return True
        if choice.number != self._number:
            return False
        if self._kept_back or self._kept_reason:
            # It goes on: the others are other answers.
            self._has_others = True
            self._kept_back, self._kept_reason = [], None
        return True

    def _keep_back(self, choice: Choice) -> None:
        if choice.says_something:
            self._kept_back.append(choice)
        self._kept_reason = choice.reason or self._kept_reason
        self._kept_size += sum(len(text) for _, text in choice.parts.pieces)
        self._kept_size += sum(map(len, choice.parts.refusals))
        self._kept_size += sum(len(str(call.arguments)) for call in choice.calls)
        if self._kept_size > self._max_chars:
            raise Unreadable("answers in turn, though one was asked for")
