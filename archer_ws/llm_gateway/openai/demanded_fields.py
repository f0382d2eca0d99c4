"""Fields that some models require in a conversation with calls, although clients do not have them. Pure.

- DeepSeek's and Kimi's models: `reasoning_content` on every assistant message, even if it is empty
  (NousResearch/hermes-agent#15353). They are recognised by their host; others by having sent it, or by their refusal.
- Gemini's models: the signature of a thought on the calls of the current loop. If another model made them, or it is
  lost, a placeholder is sent (https://ai.google.dev/gemini-api/docs/thought-signatures). Recognised by the refusal.
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
    """What is known about one server's models.

    Args:
        base_url: the server's URL.
    """

    def __init__(self, base_url: str) -> None:
        host = f".{urlsplit(base_url).hostname}"
        self._all_want_reasoning = any(host.endswith(f".{each}") for each in _REASONING_HOSTS)
        #: By model, the most recent ones: their names come from requests.
        self._wanted: OrderedDict[str, frozenset[str]] = OrderedDict()

    def note_reasoning(self, model: str) -> None:
        """Record that the model sent `reasoning_content`."""
        self._note(model, _REASONING)

    def added(self, messages: _Messages, model: str) -> _Messages:
        """The messages of a request with tools or calls, with the fields that the model is known to require."""
        wanted = self._wanted.get(model, frozenset())
        if self._all_want_reasoning or _REASONING in wanted:
            messages = _with_reasoning(messages)
        return _with_signatures(messages) if _SIGNATURE in wanted else messages

    def learned(self, refusal: BaseException | None, messages: _Messages, model: str) -> _Messages | None:
        """The messages with the field that a refusal says is missing; None if it is about something else, or the field
        is there."""
        if not isinstance(refusal, StatusError) or refusal.status not in REFUSAL_STATUSES:
            return None
        for field, added in ((_REASONING, _with_reasoning), (_SIGNATURE, _with_signatures)):
            # A refusal of the field's name is not a requirement.
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
    """The first of several calls has the signature for all of them."""
    return [
        {**each, "tool_calls": [{EXTRA: _NO_SIGNATURE, **each["tool_calls"][0]}, *each["tool_calls"][1:]]}
        if each.get("tool_calls")
        else each
        for each in messages
    ]
