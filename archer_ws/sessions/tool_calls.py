"""What clients send about the tool calls of running streams, from all transports: approvals, claims, results, steers.

It finds the stream and converts the request; streams/step_calls.py decides the outcome. Every request is harmless to
repeat.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from archer_ws.core.exceptions import ContentTooLarge, RequestError, StorageUnavailable
from archer_ws.core.patience import patient_timeout
from archer_ws.llm_gateway.types import TOOL, USER, ChatMessage
from archer_ws.sessions.attachments import Attachments, StreamFiles, has_inline
from archer_ws.sessions.streams.acts import at_once
from archer_ws.sessions.streams.open_call import CallResult, Holder
from archer_ws.sessions.streams.stream import Stream
from archer_ws.sessions.tool_models import Approval, Steer, ToolOutcome, ToolOutcomeKind, ToolResult

_FIRST = "messages.0."


class ToolCalls:
    """The open tool calls of all streams.

    Args:
        find: returns a principal's stream, or None; raises StorageUnavailable where that is not known yet.
        files: returns what a running stream holds.
        attachments: the files that messages name.
        max_content_bytes: the limit of text in a result or message, in bytes.
        files_limit_s: how long storing the files of a result or message may take, in seconds.
    """

    def __init__(
        self,
        find: Callable[[str, str], Stream | None],
        files: Callable[[Stream], StreamFiles | None],
        attachments: Attachments,
        max_content_bytes: int,
        files_limit_s: float,
    ) -> None:
        self._find = find
        self._files = files
        self._attachments = attachments
        self._max_content_bytes = max_content_bytes
        self._files_limit_s = files_limit_s

    def approve(self, principal: str, stream_id: str, call_id: str, said: Approval) -> Awaitable[ToolOutcome]:
        """Decide whether a call may run.

        Raises:
            InvalidParams: it needs no approval.
        """
        stream = self._find(principal, stream_id)
        if stream is None or not stream.takes_more:
            return _gone(stream)
        return stream.exchange.calls.approve(call_id, approved=said.approved, reason=said.reason)

    def claim(
        self, principal: str, stream_id: str, call_id: str, claim: str, *, holder: Holder | None, ttl_s: float
    ) -> Awaitable[ToolOutcome]:
        """Claim a call for a client that is about to run it. The claim lasts while `holder` lives; without one,
        `ttl_s`."""
        stream = self._find(principal, stream_id)
        if stream is None or not stream.takes_more:
            return _gone(stream)
        return stream.exchange.calls.claim(call_id, claim, holder=holder, ttl_s=ttl_s)

    def add_result(self, principal: str, stream_id: str, call_id: str, said: ToolResult) -> Awaitable[ToolOutcome]:
        """Give a call its result.

        Raises:
            ContentTooLarge: it is too long.
            FileNotFound, Unsupported: a part names a file that does not exist, or is not accepted.
        """
        stream = self._find(principal, stream_id)
        if stream is None or not stream.takes_more:
            return _gone(stream)
        message = ChatMessage.model_construct(
            role=TOOL, content=said.content, parts=said.parts, name=None, tool_calls=None, call_id=call_id
        )
        self._check_size(message)
        result = CallResult(said.status, message.content)
        message.mark_added()
        if message.parts is None:
            return stream.exchange.calls.add_result(call_id, result, claim=said.claim)

        async def with_files() -> CallResult:
            kept = await self._kept_in_time(principal, stream, message)
            return CallResult(said.status, kept.content, kept.parts)

        return stream.exchange.calls.add_result(call_id, result, claim=said.claim, with_files=with_files)

    def steer(self, principal: str, stream_id: str, said: Steer) -> Awaitable[ToolOutcome]:
        """Put a user's message into a running stream.

        Raises:
            ContentTooLarge: it is too long.
            FileNotFound, Unsupported: a part names a file that does not exist, or is not accepted.
            Overloaded: too many messages wait for the next step.
        """
        stream = self._find(principal, stream_id)
        if stream is None or not stream.takes_more:
            return _gone(stream, "too_late" if stream is not None and stream.is_live else "already_ended")
        message = ChatMessage.model_construct(
            role=USER, content=said.content, parts=said.parts, name=None, message_id=said.message_id
        )
        self._check_size(message)
        message.mark_added()
        if message.parts is None:
            return stream.exchange.steering.steer(message)
        return stream.exchange.steering.steer(
            message, with_files=partial(self._kept_in_time, principal, stream, message)
        )

    def _check_size(self, message: ChatMessage) -> None:
        size = message.text_bytes
        if size > self._max_content_bytes:
            raise ContentTooLarge(
                f"the text is {size} bytes, the limit is {self._max_content_bytes}",
                hint="Send only the part that the model needs.",
            )

    async def _kept_in_time(self, principal: str, stream: Stream, message: ChatMessage) -> ChatMessage:
        """`_kept`, within a time limit, since later requests and the next step wait for it.

        Raises:
            StorageUnavailable: the disk took too long.
        """
        try:
            async with patient_timeout(self._files_limit_s):
                return await self._kept(principal, stream, message)
        except TimeoutError:
            raise StorageUnavailable(
                f"the pictures and files were not stored within {self._files_limit_s:g} s",
                hint="Try again in a moment; repeating the request is harmless.",
                retry_after_ms=2000,
            ) from None

    async def _kept(self, principal: str, stream: Stream, message: ChatMessage) -> ChatMessage:
        """Store the message's inline data as files, and let the stream hold all files that it names."""
        files = self._files(stream)
        named: Sequence[ChatMessage] = [message]
        try:
            found = self._attachments.named(principal, named)
            if files is not None:
                files.hold(found)
            if has_inline(named):
                named, hold = await self._attachments.with_files(principal, named)
                # The stream may have ended meanwhile; then nothing holds the files.
                if (files := self._files(stream)) is not None:
                    files.add(hold)
                else:
                    hold.release()
        except RequestError as error:
            raise _in_its_request(error) from None
        if stream.identity.session_id is not None:
            # The files are stored with the stream, which may go on in a later process.
            self._attachments.stored(principal, named)
        return named[0]


def _in_its_request(error: RequestError) -> RequestError:
    """The same error with paths as in this request, which has one message and not a list."""
    return type(error)(
        error.message.removeprefix(_FIRST),
        hint=error.hint,
        errors=[each.model_copy(update={"path": each.path.removeprefix(_FIRST)}) for each in error.errors],
    )


def _gone(stream: Stream | None, outcome: ToolOutcomeKind = "already_ended") -> Awaitable[ToolOutcome]:
    return at_once(ToolOutcome(outcome="not_found" if stream is None else outcome))
