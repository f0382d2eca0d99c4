"""Converts a stream's log to messages, as its session stores them and clients show them (protocol section 22). Pure.

Each step is one message of the assistant, with the calls that `tool_call` events reported. Their results follow in the
order of the calls, then the steered messages.
"""

from collections.abc import Iterable

from archer_ws.llm_gateway.tools import ToolCall
from archer_ws.llm_gateway.types import ASSISTANT, TOOL, USER, Refusal
from archer_ws.sessions.models import StreamMessage
from archer_ws.sessions.streams.calls import as_tool_call
from archer_ws.sessions.streams.events import (
    Delta,
    Event,
    StreamEnded,
    StreamStep,
    StreamToolCall,
    StreamToolResult,
)


class _Step:
    """The events of one step so far."""

    def __init__(self) -> None:
        self.text: dict[str, list[bytes]] = {"content": [], "reasoning": []}
        self.calls: list[ToolCall] = []
        self.results: dict[str, StreamToolResult] = {}
        self.refusal: Refusal | None = None

    def said(self, kind: str) -> str:
        return b"".join(self.text[kind]).decode()

    def messages(self) -> list[StreamMessage]:
        content = self.said("content")
        found: list[StreamMessage] = []
        if content or self.calls or self.refusal is not None:
            found.append(
                StreamMessage(
                    role=ASSISTANT,
                    content=content,
                    reasoning=self.said("reasoning") or None,
                    tool_calls=self.calls or None,
                    refusal=self.refusal,
                )
            )
        results = [self.results[call.call_id] for call in self.calls if call.call_id in self.results]
        found += [
            StreamMessage.model_construct(
                role=TOOL,
                content=result.content or "",
                parts=result.parts,
                call_id=result.call_id,
                result_status=result.status,  # type: ignore[arg-type] # ours
            )
            for result in results
        ]
        return found


def messages_of(events: Iterable[Event]) -> list[StreamMessage]:
    """The messages of a log so far. Only complete calls are included."""
    found: list[StreamMessage] = []
    step = _Step()
    for event in events:
        match event:
            case Delta(kind="content" | "reasoning" as kind, text=text):
                step.text[kind].append(text)
            case StreamToolCall():
                step.calls.append(as_tool_call(event, event.arguments))
            case StreamToolResult():
                step.results[event.call_id] = event
            case StreamStep():
                found += step.messages()
                found += [
                    StreamMessage.model_construct(
                        role=USER, content=each.content, parts=each.parts, message_id=each.message_id
                    )
                    for each in event.messages or ()
                ]
                step = _Step()
            case StreamEnded():
                step.refusal = event.refusal
    return found + step.messages()
