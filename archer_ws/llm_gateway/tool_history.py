"""Calls and results of a conversation, put so that every provider takes them (protocol section 20). Pure.

What is stored stays as it was said; this is done where a request is built. Providers refuse a call without a result, a
result without a call, and results that do not follow at once or not in the calls' order. A cancel, a crash or a lost
window leaves all of that behind, and a session must go on all the same.
"""

import string
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from hashlib import blake2b

from archer_ws.core.exceptions import FieldError, InvalidParams
from archer_ws.llm_gateway.content import TextPart
from archer_ws.llm_gateway.tools import ResultStatus, ToolCall, is_json_object
from archer_ws.llm_gateway.types import ChatMessage, MessageRole

NO_RESULT = "There is no result: the call was not answered, and may or may not have taken effect."
#: What the model is told of a call, by the status that the server gave it in place of whoever was to run it.
TOLD_BY_SERVER: Mapping[ResultStatus, str] = {
    "timeout": "There is no result: nobody answered the call in time. It may or may not have taken effect.",
    "cancelled": "There is no result: the call was cancelled. It may or may not have taken effect.",
    "lost": "There is no result: whoever ran the call was lost. It may or may not have taken effect.",
}
_BROKEN = "The call's arguments were not a JSON object, so they are left out here. They began: {}"
#: So much of broken arguments is shown to the model again, in characters.
_SHOWN_CHARS = 200
_ALPHABET = string.digits + string.ascii_letters


def has_calls(messages: Sequence[ChatMessage]) -> bool:
    """Whether any message is a call or a result."""
    return any(message.tool_calls or message.role is MessageRole.TOOL for message in messages)


def is_runners_own(result: ChatMessage) -> bool:
    """Whether a result is from who ran its call, or declined to, and not what the server said in their place."""
    return result.status not in TOLD_BY_SERVER


def check_arguments(messages: Sequence[ChatMessage]) -> None:
    """Refuse a call that nobody can have run: its arguments are no JSON object, and no result follows.

    With a result, an application has seen to it; `repaired` then tells the model.

    Raises:
        InvalidParams: with the path of the arguments.
    """
    answered = {message.call_id for message in messages if message.role is MessageRole.TOOL}
    for place, message in enumerate(messages):
        for number, call in enumerate(message.tool_calls or ()):
            if call.call_id not in answered and not is_json_object(call.arguments):
                path = f"messages.{place}.tool_calls.{number}.arguments"
                raise InvalidParams(
                    f"{path}: is not the JSON text of an object",
                    hint='Send what the call said, or "{}"; or add the tool\'s result, that says what went wrong.',
                    errors=[FieldError(path=path, message="is not the JSON text of an object")],
                )


def repaired(messages: Sequence[ChatMessage]) -> Sequence[ChatMessage]:
    """The messages with each call's result right behind it, in the calls' order.

    A call without a result gets one that says so, a result without its call is left out, and arguments that are no
    JSON object become `{}`, with what was wrong before the result's text. Pairs are found by id and not by place: some
    models speak again before the result is there. Where an id comes twice, a result belongs to the last call before it;
    of several results of a call the last one counts that is its runner's own, else the last.
    """
    if not has_calls(messages):
        return messages
    results = _results_by_call(messages)
    whole: list[ChatMessage] = []
    for place, message in enumerate(messages):
        if message.role is MessageRole.TOOL:
            continue
        if not message.tool_calls:
            whole.append(message)
            continue
        broken = {call.call_id for call in message.tool_calls if not is_json_object(call.arguments)}
        whole.append(_without_arguments(message, broken) if broken else message)
        for call in message.tool_calls:
            found = results.get((place, call.call_id))
            whole.append(_result(call, found, is_broken=call.call_id in broken))
    return whole


def with_fitting_ids(messages: Sequence[ChatMessage], fits: Callable[[str], bool]) -> Sequence[ChatMessage]:
    """The messages with ids that the provider takes, in calls and results alike.

    An id that does not fit becomes nine letters and digits made from it: always the same ones, so that a provider's
    cache of the prompt holds.
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
    """The result of each call that counts, by the place of the message with the call and the id."""
    called_at: dict[str, int] = {}
    results: dict[tuple[int, str], ChatMessage] = {}
    for place, message in enumerate(messages):
        for call in message.tool_calls or ():
            called_at[call.call_id] = place
        if message.role is MessageRole.TOOL and message.call_id in called_at:
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
        role=MessageRole.TOOL,
        content=content,
        parts=parts,
        call_id=call.call_id,
        status="error",
        name=None,
        tool_calls=None,
    )


def _with_cause(result: ChatMessage) -> ChatMessage:
    """The result; with a text that names the cause, where the server gave none."""
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
