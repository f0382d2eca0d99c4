"""Repairs calls and results of a conversation, so that every provider accepts it (protocol section 20). Pure.

Stored messages stay unchanged; repairs are made when a request is built. Providers refuse a call without a result, a
result without a call, and results that do not follow at once or not in the calls' order. A cancel, a crash or a closed
window leaves all of these, and the session must still continue.
"""

import string
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from hashlib import blake2b
from itertools import takewhile

from archer_ws.core.exceptions import FieldError, InvalidParams
from archer_ws.llm_gateway.content import TextPart
from archer_ws.llm_gateway.tools import ResultStatus, ToolCall, is_json_object
from archer_ws.llm_gateway.types import ASSISTANT, TOOL, USER, ChatMessage

NO_RESULT = "There is no result: the call was not answered, and may or may not have taken effect."
#: The text for the model about a call without a runner's result, by the status that the server gave it.
TOLD_BY_SERVER: Mapping[ResultStatus, str] = {
    "timeout": "There is no result: nobody answered the call in time. It may or may not have taken effect.",
    "cancelled": "There is no result: the call was cancelled. It may or may not have taken effect.",
    "lost": "There is no result: whoever ran the call was lost. It may or may not have taken effect.",
}
#: What the user says to the model if nothing else follows a result that came after a later completion.
CAME_LATER = "The result of your tool call came only now. It stands directly after the call, further up."
_BROKEN = "The call's arguments were not a JSON object, so they are left out here. They began: {}"
#: The part of broken arguments that the model sees again, in characters.
_SHOWN_CHARS = 200
_ALPHABET = string.digits + string.ascii_letters


def has_calls(messages: Sequence[ChatMessage]) -> bool:
    """Whether any message has a call or a result."""
    return any(message.tool_calls or message.role is TOOL for message in messages)


def is_text_alone(messages: Sequence[ChatMessage]) -> bool:
    """Whether all messages are only text: nothing must be checked, repaired or replayed before they are sent."""
    for message in messages:  # noqa: SIM110 - `all` takes twice as long, and conversations are long
        if message.parts or message.tool_calls or message.role is TOOL:
            return False
    return True


def is_runners_own(result: ChatMessage) -> bool:
    """Whether a result is from the call's runner, who ran or declined it, and not from the server."""
    return result.status not in TOLD_BY_SERVER


def check_arguments(messages: Sequence[ChatMessage]) -> None:
    """Refuse a call that can't have run: its arguments are not a JSON object, and no result follows.

    With a result, an application has handled it; `repaired` then tells the model.

    Raises:
        InvalidParams: with the path of the arguments.
    """
    answered = {message.call_id for message in messages if message.role is TOOL}
    for place, message in enumerate(messages):
        for number, call in enumerate(message.tool_calls or ()):
            if call.call_id not in answered and not is_json_object(call.arguments):
                path = f"messages.{place}.tool_calls.{number}.arguments"
                raise InvalidParams(
                    f"{path}: is not the JSON text of an object",
                    hint='Send the call\'s own arguments, or "{}"; or add a tool result that says what went wrong.',
                    errors=[FieldError(path=path, message="is not the JSON text of an object")],
                )


def repaired(messages: Sequence[ChatMessage]) -> Sequence[ChatMessage]:
    """The messages with each call's result directly after it, in the calls' order.

    A call without a result gets one that says so. A result without its call is left out. Arguments that are not a JSON
    object become `{}`, and the result's text begins with what was wrong. Calls and results are matched by id and not by
    position, since some models speak again before the result is there. If an id is repeated, a result belongs to the
    last call before it. Of several results of a call, the last one from its runner counts, else the last one. If the
    last messages are results that move before a later completion, the user says so in their place: some providers
    refuse a conversation that ends with the model's own words, and others have it continue them.
    """
    if not has_calls(messages):
        return messages
    results = _results_by_call(messages)
    whole: list[ChatMessage] = []
    for place, message in enumerate(messages):
        if message.role is TOOL:
            continue
        if not message.tool_calls:
            whole.append(message)
            continue
        broken = {call.call_id for call in message.tool_calls if not is_json_object(call.arguments)}
        whole.append(_without_arguments(message, broken) if broken else message)
        for call in message.tool_calls:
            found = results.get((place, call.call_id))
            whole.append(_result(call, found, is_broken=call.call_id in broken))
    if whole and whole[-1].role is ASSISTANT and _end_moves(messages, results.values()):
        whole.append(ChatMessage(role=USER, content=CAME_LATER))
    return whole


def _end_moves(messages: Sequence[ChatMessage], results: Iterable[ChatMessage]) -> bool:
    """Whether the messages end with results, and any of them counts."""
    counting = {id(each) for each in results}
    return any(id(each) in counting for each in takewhile(lambda each: each.role is TOOL, reversed(messages)))


def with_fitting_ids(messages: Sequence[ChatMessage], fits: Callable[[str], bool]) -> Sequence[ChatMessage]:
    """The messages with ids that the provider accepts, in calls and results alike.

    An id that does not fit becomes nine letters and digits derived from it, always the same ones, so that a provider's
    prompt cache still matches.
    """
    if all(fits(each) for each in _ids(messages)):
        return messages

    def fitting(call_id: str) -> str:
        return call_id if fits(call_id) else _nine(call_id)

    return [
        message.model_copy(
            update={
                "call_id": message.call_id and fitting(message.call_id),
                "tool_calls": message.tool_calls
                and [call.model_copy(update={"call_id": fitting(call.call_id)}) for call in message.tool_calls],
            }
        )
        for message in messages
    ]


def _results_by_call(messages: Sequence[ChatMessage]) -> dict[tuple[int, str], ChatMessage]:
    """The result that counts for each call, by the index of the message with the call and the id."""
    called_at: dict[str, int] = {}
    results: dict[tuple[int, str], ChatMessage] = {}
    for place, message in enumerate(messages):
        for call in message.tool_calls or ():
            called_at[call.call_id] = place
        if message.role is TOOL and message.call_id in called_at:
            key = called_at[message.call_id], message.call_id
            if key not in results or is_runners_own(message) or not is_runners_own(results[key]):
                results[key] = message
    return results


def _result(call: ToolCall, found: ChatMessage | None, *, is_broken: bool) -> ChatMessage:
    if found is not None:
        found = _with_cause(found)
        if not is_broken:
            return found
    content = NO_RESULT if found is None else found.content
    parts = None if found is None else found.parts
    if is_broken:
        said = _BROKEN.format(call.arguments[:_SHOWN_CHARS])
        content = f"{said}\n\n{content}" if content else said
        parts = parts and [TextPart(type="text", text=said), *parts]
    return ChatMessage.model_construct(
        role=TOOL,
        content=content,
        parts=parts,
        call_id=call.call_id,
        status="error",
        name=None,
        tool_calls=None,
    )


def _with_cause(result: ChatMessage) -> ChatMessage:
    """The result; if it is from the server and has no text, with a text that names the cause."""
    told = TOLD_BY_SERVER.get(result.status or "ok")
    return result if told is None or result.content or result.parts else result.model_copy(update={"content": told})


def _without_arguments(message: ChatMessage, broken: Set[str]) -> ChatMessage:
    calls = [
        call.model_copy(update={"arguments": "{}"}) if call.call_id in broken else call
        for call in message.tool_calls or ()
    ]
    return message.model_copy(update={"tool_calls": calls})


def _ids(messages: Sequence[ChatMessage]) -> Iterator[str]:
    for message in messages:
        if message.call_id is not None:
            yield message.call_id
        for call in message.tool_calls or ():
            yield call.call_id


def _nine(call_id: str) -> str:
    number = int.from_bytes(blake2b(call_id.encode(), digest_size=8).digest())
    digits = []
    for _ in range(9):
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "".join(digits)
