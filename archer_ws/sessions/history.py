"""Cuts a conversation to the model's context (protocol sections 10 and 20). Pure.

A turn begins with a user message. A cut is made between two turns only, never between a call and its result.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol, TypeVar

from archer_ws.core.limits import HISTORY_TOKENS_MAX
from archer_ws.llm_gateway.media_tokens import media_tokens
from archer_ws.llm_gateway.native_replay import loop_length
from archer_ws.llm_gateway.native_turns import NativeTurn
from archer_ws.llm_gateway.tools import Tool
from archer_ws.llm_gateway.types import ASSISTANT, SYSTEM, TOOL, USER, ChatMessage, ChatRequest

#: The approximate tokens of a message besides its text: its role and separators.
MESSAGE_OVERHEAD_TOKENS = 4
BYTES_PER_TOKEN = 4


class HistoryMessage(Protocol):
    """A message of the history with its size in tokens, which is counted once, when the message is stored."""

    @property
    def chat(self) -> ChatMessage:
        """The message as a provider gets it."""

    @property
    def tokens(self) -> int:
        """Its approximate number of tokens."""

    @property
    def stream_id(self) -> str:
        """The stream that sent or generated it; empty if it was imported without one."""

    @property
    def created_at(self) -> object:
        """When it was stored: the same for all messages of a turn, and for all that its stream leaves."""

    @property
    def is_refused(self) -> bool:
        """Whether it is a refusal of the model."""

    @property
    def native(self) -> NativeTurn | None:
        """Its native turn: what its provider must see again; None if there is none."""


R = TypeVar("R", bound=HistoryMessage)


@dataclass(frozen=True, slots=True)
class History:
    """The part of a conversation that is sent before a turn."""

    messages: list[ChatMessage]
    #: Their approximate number of tokens.
    tokens: int
    #: How many messages were left out.
    dropped: int
    #: The native turns of the current tool loop, by call id.
    native_turns: Mapping[str, NativeTurn] = field(default_factory=dict)


NO_HISTORY = History([], 0, 0)


def message_tokens(message: ChatMessage) -> int:
    """The approximate tokens of a message: UTF-8 bytes / 4, an overhead for the message and each of its calls, and an
    estimate for its pictures and documents."""
    tokens = _tokens_of(len(message.content.encode())) + media_tokens(message)
    if message.tool_calls:
        tokens += sum(_tokens_of(len(call.name) + len(call.arguments.encode())) for call in message.tool_calls)
    return tokens


def estimate_tokens(messages: Sequence[ChatMessage]) -> int:
    """The approximate tokens of the messages."""
    return sum(map(message_tokens, messages))


def request_tokens(request: ChatRequest) -> int:
    """The approximate tokens of a request without its history: its messages, instructions, tools and response
    format."""
    tokens = estimate_tokens(request.messages)
    if request.instructions is not None:
        tokens += _tokens_of(len(request.instructions.encode()))
    if request.tools:
        tokens += sum(map(_tool_tokens, request.tools))
    if request.asked_format is not None and request.asked_format.json_schema is not None:
        tokens += _tokens_of(len(request.asked_format.json_schema.model_dump_json().encode()))
    return tokens


def _tool_tokens(tool: Tool) -> int:
    described = json.dumps([tool.name, tool.description, tool.parameters], ensure_ascii=False)
    return _tokens_of(len(described.encode()))


def _tokens_of(size: int) -> int:
    return -(-size // BYTES_PER_TOKEN) + MESSAGE_OVERHEAD_TOKENS


def without_refused(history: Sequence[R]) -> Sequence[R]:
    """The history without refused turns: a model that sees such a turn again is likely to refuse again.

    System messages stay.
    https://platform.claude.com/docs/en/test-and-evaluate/strengthen-guardrails/handle-streaming-refusals
    """
    if not any(message.is_refused for message in history):
        return history
    gone: set[int] = set()
    for place, message in enumerate(history):
        if message.is_refused:
            gone.update(range(begin_of_turn(history, place), place + 1))
    return [message for place, message in enumerate(history) if place not in gone or _is_system(message)]


def begin_of_turn(history: Sequence[HistoryMessage], place: int) -> int:
    """The position of the first message of the turn that `place` belongs to: of the first message of its request.

    A request ends at a result or an answer before it. An earlier turn may have the same stream's id: an id may come
    again once its stream was forgotten.
    """
    behind = place
    while place > 0 and history[place].chat.role is not USER:
        if not _is_system(history[place]):
            behind = place
        place -= 1
    asked, first = history[place].stream_id, 0
    if asked:
        first = _first_stored_with(history, place)
        # What a stream leaves is stored together: its steps, their results, and the messages that were steered in. Its
        # request was stored before that.
        is_left = _first_stored_with(history, behind) == first or any(
            message.chat.role is ASSISTANT for message in history[first:place]
        )
        if is_left:
            place = first
            if place > 0 and history[place - 1].stream_id == asked:
                first = _first_stored_with(history, place - 1)
    while place > first and (before := history[place - 1]).stream_id == asked:
        if before.chat.role in (TOOL, ASSISTANT):
            break
        place -= 1
    return place


def _first_stored_with(history: Sequence[HistoryMessage], place: int) -> int:
    """The position of the first message that was stored together with the one at `place`."""
    stored = history[place].stream_id, history[place].created_at
    while place > 0 and (history[place - 1].stream_id, history[place - 1].created_at) == stored:
        place -= 1
    return place


def native_turns(messages: Sequence[HistoryMessage]) -> dict[str, NativeTurn]:
    """The native turns of the tool loop that the last message belongs to, by call id.

    Args:
        messages: all messages of the session, including the running turn's. They are scanned from the end.
    """
    found: dict[str, NativeTurn] = {}
    length = loop_length(message.chat for message in reversed(messages))
    for message in reversed(messages[len(messages) - length :]):
        if message.native is not None:
            for call_id in message.native.kept.call_ids:
                # If an id occurs twice, a result belongs to the later call.
                found.setdefault(call_id, message.native)
    return found


def fit_history(
    history: Sequence[HistoryMessage],
    system: Sequence[HistoryMessage],
    turn_tokens: int,
    budget_tokens: int | None,
    *,
    goes_on: bool = False,
) -> History:
    """The end of the history that fits the budget together with a turn of `turn_tokens`.

    Whole turns are left out, the oldest first. The system messages (`system`: those of the history, in order) and the
    new turn always stay. So does the history's last turn with `goes_on`, when the new messages are results of its
    calls. If these alone are too long, the provider reports that. A budget of None means HISTORY_TOKENS_MAX. The
    history is scanned from its end, so the work depends on what is kept and not on the history's length.
    """
    budget = HISTORY_TOKENS_MAX if budget_tokens is None else budget_tokens
    room = budget - turn_tokens - sum(message.tokens for message in system)
    start = _first_that_fits(history, room)
    if start > 0:
        start = _first_question(history, start)
    if goes_on and start > 0:
        start = min(start, _last_question(history))
    behind = sum(1 for message in history[start:] if _is_system(message))
    kept = [*system[: len(system) - behind], *history[start:]]
    return History(
        [message.chat for message in kept], sum(message.tokens for message in kept), len(history) - len(kept)
    )


class Shown(NamedTuple):
    """The size of the pictures and files of messages, or the limit of it; None: no limit."""

    encoded_bytes: int
    images: int | None


def without_oldest_shown(
    history: History, shown: Callable[[ChatMessage], Shown], room: Shown, *, goes_on: bool = False
) -> History:
    """The history without its oldest turns, so that the pictures and files of the rest fit.

    Args:
        history: the result of `fit_history`.
        shown: returns the size of a message's pictures and files.
        room: the limit for the history.
        goes_on: whether its last turn must stay (see `fit_history`).
    """
    messages = history.messages
    start = _first_shown_that_fits(messages, shown, room)
    if start == 0:
        return history
    questions = [place for place, message in enumerate(messages) if message.role is USER]
    start = next((place for place in questions if place >= start), len(messages))
    if goes_on:
        start = min(start, questions[-1] if questions else 0)
    gone = [message for message in messages[:start] if message.role is not SYSTEM]
    kept = [message for message in messages[:start] if message.role is SYSTEM]
    tokens = max(0, history.tokens - estimate_tokens(gone))
    return replace(history, messages=kept + messages[start:], tokens=tokens, dropped=history.dropped + len(gone))


def _first_shown_that_fits(messages: Sequence[ChatMessage], shown: Callable[[ChatMessage], Shown], room: Shown) -> int:
    """The position from which on the pictures and files fit; 0 if all do."""
    room_bytes, images = room.encoded_bytes, room.images
    for position in range(len(messages) - 1, -1, -1):
        if not messages[position].parts:
            continue
        takes = shown(messages[position])
        room_bytes -= takes.encoded_bytes
        if images is not None:
            images -= takes.images or 0
        if room_bytes < 0 or (images is not None and images < 0):
            return position + 1
    return 0


def _first_that_fits(history: Sequence[HistoryMessage], room: int) -> int:
    """The position from which on the non-system messages fit; 0 if all do."""
    start = len(history)
    for position in range(len(history) - 1, -1, -1):
        message = history[position]
        if _is_system(message):
            continue
        room -= message.tokens
        if room < 0:
            return start
        start = position
    return 0


def _first_question(history: Sequence[HistoryMessage], start: int) -> int:
    """The position of the first user message from `start` on, where a turn begins."""
    while start < len(history) and history[start].chat.role is not USER:
        start += 1
    return start


def _last_question(history: Sequence[HistoryMessage]) -> int:
    """The position of the first message of the last turn."""
    for position in range(len(history) - 1, -1, -1):
        if history[position].chat.role is USER:
            return position
    return 0


def _is_system(message: HistoryMessage) -> bool:
    return message.chat.role is SYSTEM
