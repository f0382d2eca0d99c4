"""The conversation as turns of Anthropic's Messages API.

Pure. The results of a step's calls must be in the one message after it, before any text
(https://platform.claude.com/docs/en/agents-and-tools/tool-use/handle-tool-calls). Empty texts are refused everywhere.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from archer_ws.llm_gateway.anthropic.blocks import blocks_of
from archer_ws.llm_gateway.media import Media
from archer_ws.llm_gateway.native_turns import NativeBlocks
from archer_ws.llm_gateway.tool_history import with_fitting_ids
from archer_ws.llm_gateway.types import SYSTEM, TOOL, USER, ChatMessage

_FITTING_ID = re.compile(r"[a-zA-Z0-9_-]+")


def turns_of(
    messages: Sequence[ChatMessage],
    replayed: Mapping[int, NativeBlocks] | None = None,
    media: Mapping[str, Media] | None = None,
) -> list[dict[str, Any]]:
    """The turns of user and assistant.

    Args:
        messages: `repaired` messages.
        replayed: by the index of a message, the blocks that are sent instead of it (see native_replay.replayable).
        media: the uploaded files that the messages name, by their ids.

    The caller handles system messages. Messages of only white space are left out, and so are names, which the API
    lacks. A last message of the assistant loses the white space at its end.
    """
    turns: list[dict[str, Any]] = []
    replayed, media = replayed or {}, media or {}
    ids = _UniqueIds(replayed.values())
    fitting = with_fitting_ids(messages, lambda each: _FITTING_ID.fullmatch(each) is not None)
    for place, message in enumerate(fitting):
        if place in replayed:
            ids.restore(replayed[place])
            turns.append({"role": "assistant", "content": msgspec.Raw(replayed[place].blocks)})
        elif message.tool_calls:
            turns.append({"role": "assistant", "content": _calling(message, ids)})
        elif message.role is TOOL:
            _add_to_results(turns, [_result(message, ids, media)])
        elif message.role is not SYSTEM and (message.content.strip() or message.parts):
            said = blocks_of(message, media)
            if message.role is USER and turns and _is_results(turns[-1]):
                # After results: their message contains everything up to the assistant's next message.
                _add_to_results(turns, said)
            else:
                turns.append({"role": message.role.value, "content": said if message.parts else message.content})
    if turns and turns[-1]["role"] == "assistant":
        turns[-1]["content"] = turns[-1]["content"].rstrip()
    return turns


class _UniqueIds:
    """Makes the ids of calls unique: the API refuses a repeated one, and some servers begin at `call_0` in each step
    (NVIDIA-NeMo/Switchyard#502).
    """

    def __init__(self, replayed: Iterable[NativeBlocks] = ()) -> None:
        self._taken = {foreign_id for kept in replayed for foreign_id in kept.call_ids.values()}
        #: The next number for each repeated id: with a search from 1, thousands of one id would take minutes.
        self._next: dict[str, int] = {}
        #: The ids sent for the last call of each id: its result follows at once.
        self._sent: dict[str, str] = {}

    def of_call(self, call_id: str) -> str:
        sent, number = call_id, self._next.get(call_id, 1)
        while sent in self._taken:
            sent, number = f"{call_id}_{number}", number + 1
        self._taken.add(sent)
        self._next[call_id] = number
        self._sent[call_id] = sent
        return sent

    def restore(self, kept: NativeBlocks) -> None:
        """The calls of a replayed completion keep the provider's own ids."""
        self._sent.update(kept.call_ids)

    def of_result(self, call_id: str) -> str:
        return self._sent[call_id]


def _calling(message: ChatMessage, ids: _UniqueIds) -> list[dict[str, Any]]:
    said = [{"type": "text", "text": message.content}] if message.content.strip() else []
    return said + [
        {
            "type": "tool_use",
            "id": ids.of_call(call.call_id),
            "name": call.name,
            # Sent as text: the JSON text of an object is an object.
            "input": msgspec.Raw(call.arguments.encode()),
        }
        for call in message.tool_calls or ()
    ]


def _result(message: ChatMessage, ids: _UniqueIds, media: Mapping[str, Media]) -> dict[str, Any]:
    has_failed = message.status not in (None, "ok")
    if message.parts is not None:
        return {
            "type": "tool_result",
            "tool_use_id": ids.of_result(message.call_id or ""),
            "content": blocks_of(message, media),
            **({"is_error": True} if has_failed else {}),
        }
    # A failure without text is refused, too.
    text = message.content if message.content.strip() else f"The call ended: {message.status}." if has_failed else ""
    return {
        "type": "tool_result",
        "tool_use_id": ids.of_result(message.call_id or ""),
        **({"content": text} if text else {}),
        **({"is_error": True} if has_failed else {}),
    }


def _add_to_results(turns: list[dict[str, Any]], blocks: list[dict[str, Any]]) -> None:
    if turns[-1]["role"] == "user":
        turns[-1]["content"] += blocks
    else:
        turns.append({"role": "user", "content": blocks})


def _is_results(turn: dict[str, Any]) -> bool:
    content = turn["content"]
    return turn["role"] == "user" and isinstance(content, list) and content[0]["type"] == "tool_result"
