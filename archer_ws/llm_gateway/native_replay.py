"""Decides which native turns are sent again, and binds each to its history by a hash (protocol section 24). Pure.

The current tool loop is everything after the last user message that opened a turn. A user message directly after
results, or after a call without a result, does not open one: it is sent together with the results. Either all
completions of the loop that call tools are replayed, or none: a missing one would be a change to the history of the
later ones, and providers refuse a thought with a changed history
(https://platform.claude.com/docs/en/build-with-claude/preserved-thinking). Earlier turns are sent without native turns.
"""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Protocol

from archer_ws.llm_gateway.native_turns import ENCODER, NativeBlocks, NativeTurn, call_hash, json_value
from archer_ws.llm_gateway.tool_history import repaired
from archer_ws.llm_gateway.types import ASSISTANT, SYSTEM, USER, ChatMessage, ChatOptions


class PrefixHash:
    """The hash of everything before a completion, updated with each message.

    System messages and tools come first, whatever their position: providers put them before the conversation. A
    replayed completion is hashed as its native turn, not as its message: a client may send the message back shorter.
    """

    def __init__(self, messages: Sequence[ChatMessage], options: ChatOptions) -> None:
        tools = [[tool.name, tool.description, tool.parameters, tool.strict] for tool in options.tools]
        said = [message.content for message in messages if message.role is SYSTEM]
        self._hash = blake2b(ENCODER.encode([tools, said]), digest_size=16)

    def add(self, message: ChatMessage) -> None:
        """Add a message that is sent normally; system messages are in the hash already."""
        if message.role is SYSTEM:
            return
        calls = [[call.call_id, call.name, json_value(call.arguments)] for call in message.tool_calls or ()]
        status = None if message.status == "ok" else message.status
        said = [message.role.value, message.name, message.content, message.call_id, status, calls]
        if message.parts is not None:
            # The hash of inline data, instead of megabytes.
            said.append([part.identity for part in message.parts])
        self._hash.update(ENCODER.encode(said))

    def add_replayed(self, kept: NativeBlocks) -> None:
        """Add a completion that is replayed in its provider's form."""
        self._hash.update(b"\0%d\0" % len(kept.blocks))
        self._hash.update(kept.blocks)

    def digest(self) -> bytes:
        """The hash so far."""
        return self._hash.digest()


def loop_length(newest_first: Iterable[ChatMessage]) -> int:
    """The number of last messages that are the current tool loop: those after the last user message that opened a turn.

    Args:
        newest_first: the messages from the last one on; they may be `repaired`, or as they are stored.
    """
    count = 0
    opened: int | None = None
    for message in newest_first:
        if message.role is USER:
            opened = count if opened is None else opened
        elif message.role is not SYSTEM and opened is not None:
            if message.role is ASSISTANT and not message.tool_calls:
                return opened
            opened = None
        count += 1
    return count if opened is None else opened


def calling_in_loop(messages: Sequence[ChatMessage]) -> list[int]:
    """The indices of the current loop's completions that call tools."""
    begin = len(messages) - loop_length(reversed(messages))
    return [place for place in range(begin, len(messages)) if messages[place].tool_calls]


def replayable(
    messages: Sequence[ChatMessage], options: ChatOptions, provider: str, model: str
) -> Mapping[int, NativeBlocks]:
    """What is sent instead of messages, by their indices.

    Either all completions of the current loop that call tools, or nothing. If it is nothing although there are such
    completions (`calling_in_loop`), the request has no old reasoning, and a provider that requires it must not be asked
    to think.

    Args:
        messages: all messages of the request, `repaired`, as the provider gets them.
    """
    if not options.native_turns:
        return {}
    turns: dict[int, NativeTurn] = {}
    for place in calling_in_loop(messages):
        turn = _turn_of(messages[place], options.native_turns)
        if turn is None or (turn.provider, turn.model) != (provider, model):
            return {}
        turns[place] = turn
    if not turns:
        return {}
    prefix = PrefixHash(messages, options)
    for place in range(max(turns) + 1):
        if place not in turns:
            prefix.add(messages[place])
        elif turns[place].prefix != prefix.digest():
            return {}
        else:
            prefix.add_replayed(turns[place].kept)
    return {place: turn.kept for place, turn in turns.items()}


def with_unique_ids(
    replayed: Mapping[int, NativeBlocks], messages: Sequence[ChatMessage]
) -> Mapping[int, NativeBlocks]:
    """What is replayed; nothing if a call's id would occur twice in the request. Servers that number their calls from 0
    in each completion repeat ids, APIs refuse them, and results could not be matched to calls.

    Args:
        messages: all messages of the request, `repaired`.
    """
    ids = [foreign_id for kept in replayed.values() for foreign_id in kept.call_ids.values()]
    ids += [
        call.call_id
        for place, message in enumerate(messages)
        if replayed and place not in replayed
        for call in message.tool_calls or ()
    ]
    return replayed if len(set(ids)) == len(ids) else {}


class KeepsNative(Protocol):
    """The part of a decoder that keeps native turns."""

    @property
    def native(self) -> NativeBlocks | None:
        """What the provider must receive again of the completion."""


def is_kept(options: ChatOptions) -> bool:
    """Whether the caller keeps native turns, and the completion may call tools."""
    return bool(options.tools) and options.on_native_turn is not None


def tell_native(
    decoder: KeepsNative, messages: Sequence[ChatMessage], options: ChatOptions, provider: str, model: str
) -> None:
    """To be called when a completion ended well: hand on its native turn, if the caller keeps it."""
    if options.on_native_turn is not None and (kept := decoder.native) is not None:
        options.on_native_turn(native_turn(kept, messages, options, provider, model))


def native_turn(
    kept: NativeBlocks, messages: Sequence[ChatMessage], options: ChatOptions, provider: str, model: str
) -> NativeTurn:
    """The native turn of a completion, bound to its request (messages, options, provider and model)."""
    messages = repaired(messages)
    replayed = replayable(messages, options, provider, model)
    prefix = PrefixHash(messages, options)
    for place, message in enumerate(messages):
        if place in replayed:
            prefix.add_replayed(replayed[place])
        else:
            prefix.add(message)
    return NativeTurn(provider, model, prefix.digest(), kept)


def _turn_of(message: ChatMessage, turns: Mapping[str, NativeTurn]) -> NativeTurn | None:
    """The native turn of a message, which must have the same calls."""
    calls = message.tool_calls or ()
    turn = turns.get(calls[0].call_id) if calls else None
    if turn is None or len(calls) != len(turn.kept.call_hashes):
        return None
    same = all(turn.kept.call_hashes.get(call.call_id) == call_hash(call.name, call.arguments) for call in calls)
    return turn if same else None
