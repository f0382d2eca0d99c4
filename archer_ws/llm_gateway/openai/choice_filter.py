"""Takes one completion's choices from a stream: one was requested, and two are never mixed.

Pure. If a stream has only one choice, that is the completion, whatever its number. If text or calls come under several
numbers, the first number with any is the completion, and the others are held back. If the first one continues, or was
complete, the others were other completions. If it does not, the server only numbers oddly, and they were its rest.
"""

from collections.abc import Sequence

from archer_ws.core.limits import PROVIDER_DOCUMENT_BYTES
from archer_ws.llm_gateway.decoding.completion import Unreadable
from archer_ws.llm_gateway.openai.documents import Choice

#: What a choice counts besides its text; it takes ten times as much memory.
_CHOICE_COSTS = 64


class ChoiceFilter:
    """Selects the choices of each document.

    Args:
        max_chars: the limit of text that is held back.

    Attributes:
        is_plain: everything so far came under the number 0.
        reason: the last finish reason.
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
        """The choices that belong to the completion.

        Args:
            has_text: text or calls came before; under the number 0, if no number is known here.
            has_reasoning: the same for reasoning.
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
        """The choices held back, to be used if the completion ended without a reason; `reason` becomes theirs."""
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
            # The first number continues, so the others are other completions.
            self._has_others = True
            self._kept_back, self._kept_reason = [], None
        return True

    def _keep_back(self, choice: Choice) -> None:
        if choice.says_something:
            self._kept_back.append(choice)
        self._kept_reason = choice.reason or self._kept_reason
        self._kept_size += _CHOICE_COSTS
        self._kept_size += sum(len(text) for _, text in choice.parts.pieces)
        self._kept_size += sum(map(len, choice.parts.refusals))
        self._kept_size += sum(len(str(part)) for call in choice.calls for part in call)
        if self._kept_size > self._max_chars:
            raise Unreadable("several completions by turns, though one was requested")
