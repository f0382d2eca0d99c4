"""What a stream has told so far: its text, its messages, where it stands, how it ended. Pure.

What waits to be read is unread.py's, the messages are fold.py's; in which order things come, stream.py's.
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
    """A stream as far as it has come."""

    def __init__(self) -> None:
        #: How it ended; None before.
        self.ended: Ended | None = None
        self._status = "queued"
        self._unread = Unread()
        self._fold = Fold()

    @property
    def text(self) -> str:
        """The last step's answer as far as it has come, read or not."""
        return self._unread.text("content")

    @property
    def reasoning(self) -> str:
        """The model's reasoning in it, as far as it has come."""
        return self._unread.text("reasoning")

    @property
    def tool_calls(self) -> list[ToolCall]:
        """The last step's calls, in order; they come behind its text, and only where the model ended it well."""
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
        """Where it stands: queued, running, waiting (for the results of calls) or cancelling; and once it has ended
        completed, cancelled, incomplete or failed. A newer server may have others.
        """
        if self.ended is not None:
            return self.ended.status
        return "waiting" if self._fold.is_waiting else self._status

    @property
    def steps(self) -> int:
        """How many answers of the model it has begun."""
        return max(self._fold.step, (self.ended.steps if self.ended is not None else None) or 1)

    @property
    def format_valid(self) -> bool | None:
        """Whether the answer is what `response_format` asked for; None before the end, and where that is not known."""
        return self.ended.format_valid if self.ended is not None else None

    @property
    def format_errors(self) -> list[FieldError]:
        """What is wrong with the answer's form: where in it, and what."""
        return (self.ended.format_errors if self.ended is not None else None) or []

    @property
    def refusal(self) -> Refusal | None:
        """That the model declined to answer, once the stream has ended so."""
        return self.ended.refusal if self.ended is not None else None

    @property
    def message(self) -> ChatMessage:
        """The answer as the next request has it in its messages, its calls included."""
        # As the server told them: whether they may be sent back is the server's to say, which is asked next.
        return ChatMessage(role=MessageRole.ASSISTANT, content=self.text, tool_calls=self._fold.made_calls or None)

    def _reset(self) -> None:
        """All texts, calls, results and steps come again."""
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
