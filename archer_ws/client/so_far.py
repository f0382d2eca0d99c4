"""A stream's state so far: its text, its messages, its status, its end. Pure.

Events that are not read yet are in unread.py, the messages in fold.py; stream.py owns the order of events.
"""

from collections.abc import Mapping
from typing import Any

from archer_ws.client.events import Ended, Started, Step, ToolCall, ToolResult, UnknownEvent, texts_of
from archer_ws.client.fold import Fold
from archer_ws.client.unread import Unread
from archer_ws.core.exceptions import FieldError
from archer_ws.llm_gateway.types import ChatMessage, MessageRole, Refusal
from archer_ws.sessions.models import StreamMessage
from archer_ws.sessions.streams.events import ControlEvent


class SoFar:
    """A stream's state so far."""

    def __init__(self) -> None:
        #: The last event; None before the end.
        self.ended: Ended | None = None
        self._status = "queued"
        self._unread = Unread()
        self._fold = Fold()

    @property
    def text(self) -> str:
        """The text of the last step so far, read or not."""
        return self._unread.text("content")

    @property
    def reasoning(self) -> str:
        """The model's visible reasoning in the last step so far."""
        return self._unread.text("reasoning")

    @property
    def tool_calls(self) -> list[ToolCall]:
        """The last step's calls, in order. They come after its text, and only if the completion ended normally."""
        return self._fold.calls

    @property
    def messages(self) -> list[StreamMessage]:
        """All messages that the stream has made so far, as its session stores them: completions with their calls, tool
        results and steered messages. A resumed stream has only those after `after`.

        A tool result is whole where its function ran in this client. Of one that ran elsewhere and is longer than
        64 KiB, only the beginning is here: see `truncated_results`.
        """
        return self._fold.messages(self.text, self.reasoning, self.refusal)

    @property
    def truncated_results(self) -> list[str]:
        """The call ids of the tool results of which `messages` has only the first 64 KiB; `fetch_messages` on a
        ChatStream reads them whole.
        """
        return list(self._fold.truncated)

    @property
    def status(self) -> str:
        """Its status: queued, running, waiting (for tool results) or cancelling; once it has ended, completed,
        cancelled, incomplete or failed. A newer server may have others.
        """
        if self.ended is not None:
            return self.ended.status
        return "waiting" if self._fold.is_waiting else self._status

    @property
    def steps(self) -> int:
        """How many steps have begun."""
        return max(self._fold.step, (self.ended.steps if self.ended is not None else None) or 1)

    @property
    def format_valid(self) -> bool | None:
        """Whether the text follows the `response_format`; None before the end, and where that is not known."""
        return self.ended.format_valid if self.ended is not None else None

    @property
    def format_errors(self) -> list[FieldError]:
        """Where and how the text breaks the `response_format`."""
        return (self.ended.format_errors if self.ended is not None else None) or []

    @property
    def refusal(self) -> Refusal | None:
        """The model's refusal to answer, where the stream ended with one."""
        return self.ended.refusal if self.ended is not None else None

    @property
    def message(self) -> ChatMessage:
        """The last completion with its calls, as a message for the next request."""
        # The calls are sent back unchanged: the server checks them.
        return ChatMessage(role=MessageRole.ASSISTANT, content=self.text, tool_calls=self._fold.made_calls or None)

    def _reset(self) -> None:
        """Discard all texts, calls, results and steps: they come again."""
        self._unread.reset()
        self._fold = Fold()

    def _take_delta(self, params: Mapping[str, Any]) -> None:
        texts = texts_of(params)
        if texts is None:
            self._unread.add(UnknownEvent("stream/delta", params))
        for kind, text in texts or ():
            if text:
                self._unread.add_text(kind, text)

    def _take_event(self, event: ControlEvent | UnknownEvent) -> None:
        match event:
            case Started():
                self._status = "running"
            case ToolCall():
                self._fold.take_call(event)
            case ToolResult():
                self._fold.take_result(event)
            case Step():
                self._fold.begin_step(event, self.text, self.reasoning)
                self._unread.begin_step()
                self._status = "running"
            case Ended():
                self.ended = event
        self._unread.add(event)
