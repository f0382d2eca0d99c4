"""Builds requests of Anthropic's Messages API.

Pure. The API has the system prompt in a field of its own, requires `max_tokens` and joins neighbours of one role itself
(https://platform.claude.com/docs/en/api/messages). turns.py builds the turns, tools.py the tools.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import structlog

from archer_ws.core.exceptions import FieldError, InvalidParams
from archer_ws.llm_gateway.anthropic.formats import format_fields
from archer_ws.llm_gateway.anthropic.native import goes_on_without_thinking
from archer_ws.llm_gateway.anthropic.thinking import thinking_of
from archer_ws.llm_gateway.anthropic.tools import tool_fields
from archer_ws.llm_gateway.anthropic.turns import turns_of
from archer_ws.llm_gateway.catalog import ModelFacts
from archer_ws.llm_gateway.media import Media
from archer_ws.llm_gateway.media_tokens import media_tokens
from archer_ws.llm_gateway.native_replay import replayable, with_unique_ids
from archer_ws.llm_gateway.native_turns import NativeBlocks
from archer_ws.llm_gateway.parameters import accepted_parameters
from archer_ws.llm_gateway.tool_history import repaired
from archer_ws.llm_gateway.types import SYSTEM, ChatMessage, ChatOptions

log = structlog.get_logger(__name__)

#: The limit of a completion if the request has none and the model's own is unknown, in tokens. Newer models' thinking
#: counts towards it, so a small limit would cut completions off.
DEFAULT_MAX_TOKENS = 8192
#: The lowest number of UTF-8 bytes per token of a prompt: English has four, dense scripts and code three.
_BYTES_PER_TOKEN = 3
#: The lowest limit of a completion: a prompt that fills the context is refused by the provider.
_LEAST_TOKENS = 1024


def request_body(
    messages: Sequence[ChatMessage],
    *,
    model: str,
    facts: ModelFacts,
    temperature: float | None,
    max_tokens: int | None,
    options: ChatOptions,
    streams_arguments: bool = False,
) -> dict[str, Any]:
    """The JSON body of a request, without `stream`.

    System messages go to `system`, joined by blank lines, whatever their position. A last message of the assistant is
    one for the model to continue, if the model can. The arguments of calls are raw JSON.

    Args:
        streams_arguments: whether the server can be asked to send calls' arguments while they are generated.

    Raises:
        InvalidParams: no message is left, or the first is the assistant's.
        Unsupported: the model can't be forced to call a tool, can't be held to such a format, or has no room to think.
    """
    messages = repaired(messages)
    replayed = with_unique_ids(replayable(messages, options, "anthropic", model), messages)
    system = "\n\n".join(message.content for message in messages if message.role is SYSTEM and message.content.strip())
    own_bound = _own_bound(messages, options, facts)
    bound = max_tokens or own_bound
    lacks_thoughts = goes_on_without_thinking(messages, replayed)
    thinking = thinking_of(
        options, model=model, facts=facts, bound=bound, most=own_bound, lacks_thoughts=lacks_thoughts
    )
    facts = facts.thinking_at(options.reasoning_effort)
    parameters = accepted_parameters(facts, provider="anthropic", model=model, temperature=temperature, options=options)
    output_config = {**thinking.output_config, **format_fields(options)}
    stop = _stop_sequences(parameters.pop("stop", []), model)
    return {
        "model": model,
        "max_tokens": thinking.max_tokens,
        "messages": _turns(messages, replayed if thinking.takes_thoughts(facts) else {}, options.media),
        **({"system": system} if system else {}),
        **({"stop_sequences": stop} if stop else {}),
        **tool_fields(messages, options, model=model, facts=facts, streams_arguments=streams_arguments),
        **thinking.fields,
        **({"output_config": output_config} if output_config else {}),
        **parameters,
    }


def _own_bound(messages: Sequence[ChatMessage], options: ChatOptions, facts: ModelFacts) -> int:
    """The model's own limit; less if a long prompt does not leave so much of the context, since the API refuses a
    prompt and a limit that together exceed it.
    """
    bound = facts.max_output_tokens or DEFAULT_MAX_TOKENS
    if facts.context_window is None:
        return bound
    said = sum(message.text_bytes for message in messages) + sum(len(tool.model_dump_json()) for tool in options.tools)
    prompt = said // _BYTES_PER_TOKEN + sum(media_tokens(message, options.media) for message in messages)
    return max(min(bound, facts.context_window - prompt), min(bound, _LEAST_TOKENS))


def _turns(
    messages: Sequence[ChatMessage], replayed: Mapping[int, NativeBlocks], media: Mapping[str, Media]
) -> list[dict[str, Any]]:
    turns = turns_of(messages, replayed, media)
    if not turns:
        raise InvalidParams(
            "anthropic needs a user message that is not empty",
            hint="Add a message with the role user; system messages alone are not a conversation.",
            provider="anthropic",
            errors=[FieldError(path="messages", message="has no user message with text")],
        )
    if turns[0]["role"] != "user":
        raise InvalidParams(
            "a conversation with anthropic begins with a user message",
            hint="Put a message with the role user before the first assistant message.",
            provider="anthropic",
            errors=[FieldError(path="messages", message="begins with an assistant message")],
        )
    return turns


def _stop_sequences(stop: list[str], model: str) -> list[str]:
    """The stop sequences that the API accepts: one of only white space is a 400."""
    taken = [sequence for sequence in stop if sequence.strip()]
    if len(taken) < len(stop):
        log.warning("parameter_dropped", provider="anthropic", model=model, parameter="stop", reason="white space only")
    return taken
