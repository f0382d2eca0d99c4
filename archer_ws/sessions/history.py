"""Cuts a conversation to the model's context (protocol sections 10 and 20). Pure.

A turn begins with a user message, and a cut falls between two of them: never between a call and its result.
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
from archer_ws.llm_gateway.types import ChatMessage, ChatRequest, MessageRole

#: Tokens that a message costs beside its text (role and separators), about.
MESSAGE_OVERHEAD_TOKENS = 4
BYTES_PER_TOKEN = 4


class HistoryMessage(Protocol):
    """A message of the history, with what it costs: counted once, when it was stored."""

    @property
    def chat(self) -> ChatMessage:
        """The message as a provider gets it."""

    @property
    def tokens(self) -> int:
        """About how many tokens it takes."""

    @property
    def stream_id(self) -> str:
        """The stream that it was sent or made by."""

    @property
    def is_refused(self) -> bool:
        """Whether it is an answer that the model declined to give."""

    @property
    def native(self) -> NativeTurn | None:
        """What its provider must see again of it."""


R = TypeVar("R", bound=HistoryMessage)


@dataclass(frozen=True, slots=True)
class History:
    """What of a conversation goes before a turn."""

    messages: list[ChatMessage]
    #: About how many tokens these take.
    tokens: int
    #: How many messages were left out.
    dropped: int
    #: What is kept of the current tool loop's answers, by the id of each call that they made.
    native_turns: Mapping[str, NativeTurn] = field(default_factory=dict)


NO_HISTORY = History([], 0, 0)


def message_tokens(message: ChatMessage) -> int:
    """About how many tokens a message takes: UTF-8 bytes / 4, and a little for it and for each of its calls; its
    pictures and documents by what they are."""
    tokens = _tokens_of(len(message.content.encode())) + media_tokens(message)
    if message.tool_calls:
        tokens += sum(_tokens_of(len(call.name) + len(call.arguments.encode())) for call in message.tool_calls)
    return tokens


def estimate_tokens(messages: Sequence[ChatMessage]) -> int:
    """About how many tokens the messages take."""
    return sum(map(message_tokens, messages))


def request_tokens(request: ChatRequest) -> int:
    """About how many tokens a request takes by itself: its messages, its instructions, its tools and its
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
    """The history without the turns that a model refused: what it was asked would have it refuse again.

    System messages stay. https://platform.claude.com/docs/en/test-and-evaluate/strengthen-guardrails/handle-streaming-refusals
    """
    if not any(message.is_refused for message in history):
        return history
    gone: set[int] = set()
    for place, message in enumerate(history):
        if message.is_refused:
            gone.update(range(_begin_of_turn(history, place), place + 1))
    return [message for place, message in enumerate(history) if place not in gone or _is_system(message)]


def _begin_of_turn(history: Sequence[HistoryMessage], place: int) -> int:
    """Where the turn begins that the answer at `place` belongs to: with the first of the messages that asked."""
    while place > 0 and history[place].chat.role is not MessageRole.USER:
        place -= 1
    asked = history[place].stream_id
    while place > 0 and history[place - 1].stream_id == asked and history[place - 1].chat.role is not MessageRole.TOOL:
        place -= 1
    return place


def native_turns(messages: Sequence[HistoryMessage]) -> dict[str, NativeTurn]:
    """What is kept of the answers of the tool loop that the last message belongs to, by the id of each call.

    Args:
        messages: the session's, those of the running turn included. They are looked through from their end.
    """
    found: dict[str, NativeTurn] = {}
    length = loop_length(message.chat for message in reversed(messages))
    for message in reversed(messages[len(messages) - length :]):
        if message.native is not None:
            for call_id in message.native.kept.call_ids:
                # Where an id comes twice, results belong to the last call.
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
    """What of the history goes before a turn of `turn_tokens`, so that both fit the budget.

    The oldest non-system messages are left out first, and answers, calls and results whose question has gone go with
    them. System messages (`system`: those of the history, in order) and the turn itself always stay, and with
    `goes_on`, where what is new are results of its calls, the history's last turn: if they alone are too long, the
    provider will say so. A budget of None is HISTORY_TOKENS_MAX. The work is bounded by what is kept, not by the
    history's length: it is looked through from its end.
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
    """What messages show, or may show; None: any number."""

    encoded_bytes: int
    images: int | None


def without_oldest_shown(
    history: History, shown: Callable[[ChatMessage], Shown], room: Shown, *, goes_on: bool = False
) -> History:
    """The history without its oldest turns, so that the pictures and files of the rest fit.

    Args:
        history: as `fit_history` gave it.
        shown: what a message shows.
        room: what the history may show.
        goes_on: whether its last turn must stay (see `fit_history`).
    """
    messages = history.messages
    start = _first_shown_that_fits(messages, shown, room)
    if start == 0:
        return history
    questions = [place for place, message in enumerate(messages) if message.role is MessageRole.USER]
    start = next((place for place in questions if place >= start), len(messages))
    if goes_on:
        start = min(start, questions[-1] if questions else 0)
    gone = [message for message in messages[:start] if message.role is not MessageRole.SYSTEM]
    kept = [message for message in messages[:start] if message.role is MessageRole.SYSTEM]
    tokens = max(0, history.tokens - estimate_tokens(gone))
    return replace(history, messages=kept + messages[start:], tokens=tokens, dropped=history.dropped + len(gone))


def _first_shown_that_fits(messages: Sequence[ChatMessage], shown: Callable[[ChatMessage], Shown], room: Shown) -> int:
    """Where the end begins of which all fits; 0 where everything does."""
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
    """Where the end of the history begins whose non-system messages fit; 0 where all do."""
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
    """The first place from `start` on where a user's message stands, and a turn begins."""
    while start < len(history) and history[start].chat.role is not MessageRole.USER:
        start += 1
    return start


def _last_question(history: Sequence[HistoryMessage]) -> int:
    """Where the last turn begins."""
    for position in range(len(history) - 1, -1, -1):
        if history[position].chat.role is MessageRole.USER:
            return position
    return 0


def _is_system(message: HistoryMessage) -> bool:
    return message.chat.role is MessageRole.SYSTEM
