"""What some models demand of a conversation with calls, though nobody has it to give. Pure.

- DeepSeek's and Kimi's: `reasoning_content` on every message of the assistant's, be it empty
  (NousResearch/hermes-agent#15353). They are known by their host, others by having said it, or by their refusal.
- Gemini's: the signature of a thought on the calls of the current loop. Where another model made them, or it is lost, a
  word stands for it (https://ai.google.dev/gemini-api/docs/thought-signatures). Known by the refusal alone.
"""

from collections import OrderedDict
from typing import Any
from urllib.parse import urlsplit

from archer_ws.llm_gateway.openai.native import EXTRA
from archer_ws.llm_gateway.resilience.refused_parameters import MAX_MODELS, REFUSAL_STATUSES, ErrorText
from archer_ws.llm_gateway.transport.sdk import StatusError

_REASONING, _SIGNATURE = "reasoning_content", "thought_signature"
_REASONING_HOSTS = ("deepseek.com", "moonshot.ai", "moonshot.cn", "kimi.com")
_NO_SIGNATURE = {"google": {_SIGNATURE: "skip_thought_signature_validator"}}

_Messages = list[dict[str, Any]]


class DemandedFields:
    """What is known of one server's models.

    Args:
        base_url: the server's.
    """

    def __init__(self, base_url: str) -> None:
        host = f".{urlsplit(base_url).hostname}"
        self._all_want_reasoning = any(host.endswith(f".{each}") for each in _REASONING_HOSTS)
        #: By model, the last ones that were heard of: their names come from requests.
        self._wanted: OrderedDict[str, frozenset[str]] = OrderedDict()

    def note_reasoning(self, model: str) -> None:
        """The model said `reasoning_content`."""
        self._note(model, _REASONING)

    def added(self, messages: _Messages, model: str) -> _Messages:
        """The messages of a request with tools or calls, with what the model is known to demand."""
        wanted = self._wanted.get(model, frozenset())
        if self._all_want_reasoning or _REASONING in wanted:
            messages = _with_reasoning(messages)
        return _with_signatures(messages) if _SIGNATURE in wanted else messages

    def learned(self, refusal: BaseException | None, messages: _Messages, model: str) -> _Messages | None:
        """The messages with what a refusal says is missing; None where that is something else, or stands there."""
        if not isinstance(refusal, StatusError) or refusal.status not in REFUSAL_STATUSES:
            return None
        for field, added in ((_REASONING, _with_reasoning), (_SIGNATURE, _with_signatures)):
            # That nobody knows the field is no demand.
            if field.encode() in refusal.body and not ErrorText.of(refusal.body).is_of_the_name:
                whole = added(messages)
                if whole != messages:
                    self._note(model, field)
                    return whole
        return None

    def _note(self, model: str, field: str) -> None:
        self._wanted[model] = self._wanted.get(model, frozenset()) | {field}
        self._wanted.move_to_end(model)
        if len(self._wanted) > MAX_MODELS:
            self._wanted.popitem(last=False)


def _with_reasoning(messages: _Messages) -> _Messages:
    return [{_REASONING: "", **each} if each["role"] == "assistant" else each for each in messages]


def _with_signatures(messages: _Messages) -> _Messages:
    """The first of several calls has the signature for all."""
    return [
        {**each, "tool_calls": [{EXTRA: _NO_SIGNATURE, **each["tool_calls"][0]}, *each["tool_calls"][1:]]}
        if each.get("tool_calls")
        else each
        for each in messages
    ]
