"""Makes a stream's messages from its events; the same messages that the server makes and the session stores. Pure.

A step is one completion with its calls. It is followed by the tool results, in the order of the calls, and the steered
messages.
"""

from dataclasses import replace

from archer_ws.client.events import Step, ToolCall, ToolResult
from archer_ws.llm_gateway.content import text_of
from archer_ws.llm_gateway.tools import ToolCall as MadeCall
from archer_ws.llm_gateway.types import MessageRole, Refusal
from archer_ws.sessions.models import StreamMessage


class Fold:
    """The messages of the steps that have ended, and the calls of the current step."""

    def __init__(self) -> None:
        self.step = 1
        self._done: list[StreamMessage] = []
        self._calls: dict[str, ToolCall] = {}
        self._results: dict[str, ToolResult] = {}
        #: The call ids of results of which only the beginning is known.
        self.truncated: list[str] = []

    @property
    def calls(self) -> list[ToolCall]:
        """The step's calls, in order."""
        return list(self._calls.values())

    @property
    def made_calls(self) -> list[MadeCall]:
        """The step's calls as a message has them."""
        return [
            MadeCall.model_construct(call_id=call.call_id, name=call.name, arguments=call.arguments)
            for call in self._calls.values()
        ]

    @property
    def is_waiting(self) -> bool:
        """Whether the stream waits for results (protocol section 23: only then a call has a deadline)."""
        return any(call.deadline_at is not None for call in self._calls.values())

    def take_call(self, call: ToolCall) -> None:
        """The model has made a call."""
        self._calls[call.call_id] = call

    def take_result(self, result: ToolResult) -> None:
        """A call has its result."""
        if result.truncated and len(text := text_of(result.parts or ())) > len(result.content or ""):
            # An earlier server did not shorten parts: the text is in them.
            result = replace(result, content=text, truncated=None)
        if result.truncated:
            self.truncated.append(result.call_id)
        self._results[result.call_id] = result

    def begin_step(self, step: Step, content: str, reasoning: str) -> None:
        """The next step begins; the texts are those of the step that has ended."""
        steered = [
            StreamMessage.model_construct(
                role=MessageRole.USER, content=each.content, parts=each.parts, message_id=each.message_id
            )
            for each in step.messages or ()
        ]
        self._done = [*self.messages(content, reasoning), *steered]
        self.step = step.step
        self._calls, self._results = {}, {}

    def messages(self, content: str, reasoning: str, refusal: Refusal | None = None) -> list[StreamMessage]:
        """All messages so far; the texts are the current step's, the refusal is that of the stream's end."""
        calls = self.made_calls
        completion = StreamMessage.model_construct(
            role=MessageRole.ASSISTANT,
            content=content,
            reasoning=reasoning or None,
            tool_calls=calls or None,
            refusal=refusal,
        )
        # A completion without text and calls makes no message.
        said = [completion] if content or calls or refusal is not None else []
        return [*self._done, *said, *map(_result, self._in_order())]

    def _in_order(self) -> list[ToolResult]:
        """The results, in the order of the calls; those of calls that are unknown here come last."""
        places = {call_id: place for place, call_id in enumerate(self._calls)}
        return sorted(self._results.values(), key=lambda result: places.get(result.call_id, len(places)))


def _result(result: ToolResult) -> StreamMessage:
    return StreamMessage.model_construct(
        role=MessageRole.TOOL,
        content=result.content or "",
        parts=result.parts,
        call_id=result.call_id,
        result_status=result.status,  # type: ignore[arg-type] # a newer server may have another one
    )
