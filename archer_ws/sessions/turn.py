"""What a stream does for one chat request: its place in the session, its provider's slot, its messages, its answer."""

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from functools import cached_property
from hashlib import blake2b
from typing import TYPE_CHECKING

from archer_ws.agents.base import AgentTurn, Gateway
from archer_ws.agents.orchestrator import Orchestrator
from archer_ws.core.exceptions import ContentTooLarge, InvalidParams
from archer_ws.llm_gateway.asking import conversation, options_of
from archer_ws.llm_gateway.media import Media
from archer_ws.llm_gateway.tool_history import check_arguments
from archer_ws.llm_gateway.tools import ToolCall
from archer_ws.llm_gateway.types import (
    ChatMessage,
    ChatRequest,
    MessageRole,
    Refusal,
    Route,
    StreamChunk,
    StreamStatus,
)
from archer_ws.sessions.attachments import Attachments, StreamFiles, names_files
from archer_ws.sessions.format_judge import FormatJudge, Judgement
from archer_ws.sessions.history import NO_HISTORY, estimate_tokens, request_tokens
from archer_ws.sessions.results import check_place
from archer_ws.sessions.settling import Settling
from archer_ws.sessions.storage.store import SessionStore
from archer_ws.sessions.streams.gates import Slot

if TYPE_CHECKING:
    from archer_ws.sessions.streams.stream import Stream

_NOT_ASKED = {"stream", "stream_id"}
_SORTED = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def check_turn(request: ChatRequest, max_content_bytes: int) -> None:
    """Refuse what a request with or without a session may not say, and messages of more text than is taken.

    Raises:
        InvalidParams: an assistant message in a session's turn, or a result behind another message; without a session
            `replace_from`, or a call that nobody can have run.
        ContentTooLarge: the messages are.
    """
    if request.session_id is None:
        if request.replace_from is not None:
            raise InvalidParams("replace_from needs a session_id", hint="Add session_id, or leave replace_from out.")
        check_arguments(request.messages)
    elif any(message.role is MessageRole.ASSISTANT for message in request.messages):
        raise InvalidParams(
            "with session_id, messages holds the new turn only: no assistant messages",
            hint="Send only what is new, a user message or the results of calls; the session's stored history goes "
            "before it by itself.",
        )
    else:
        check_place(request.messages)
    size = sum(message.text_bytes for message in request.messages) + len((request.instructions or "").encode())
    if size > max_content_bytes:
        raise ContentTooLarge(
            f"the messages are {size} bytes of text, the most is {max_content_bytes}",
            hint="Send fewer or shorter messages, or raise MAX_CONTENT_BYTES.",
        )


def fingerprint_of(request: ChatRequest) -> bytes:
    """A hash of what the request asks for; how it is delivered (`stream`) does not count.

    It is over the fields that were sent, whatever their order: a field that comes to the protocol changes the hash of
    no request that does not have it (protocol section 21).
    """
    asked = request.model_dump(exclude=_NOT_ASKED, exclude_unset=True, exclude_none=True)
    return blake2b(_SORTED.encode(asked).encode(), digest_size=16).digest()


class Turn:
    """One request's work (see stream.Work).

    Args:
        request: as the client sent it.
        route: where it goes.
        principal: whose session.
        stream: the stream it is for.
        predecessors: the session's streams that this one interrupts and waits for.
        slot: the right to call the provider; released by the manager.
        settling: stores the answer, also where that takes longer than the stream.
        judge: tells whether the answer has the form that was asked for.
        attachments: the files that messages name.
        files: those that the stream holds; released by the manager.
    """

    def __init__(
        self,
        *,
        request: ChatRequest,
        route: Route,
        principal: str,
        stream: "Stream",
        predecessors: Sequence["Stream"],
        slot: Slot,
        gateway: Gateway,
        orchestrator: Orchestrator,
        store: SessionStore,
        settling: Settling,
        judge: FormatJudge,
        attachments: Attachments,
        files: StreamFiles,
    ) -> None:
        self._request = request
        self._route = route
        self._principal = principal
        self._stream = stream
        self._predecessors: Sequence[Stream] = predecessors
        self._slot = slot
        self._gateway = gateway
        self._orchestrator = orchestrator
        self._store = store
        self._settling = settling
        self._judge = judge
        self._attachments = attachments
        self._files = files
        self._media: Mapping[str, Media] = {}
        #: The stored messages of a turn that is asked again; a request with messages has none.
        self._again: list[ChatMessage] = []
        self._first_stored: str | None = None
        self._last_stored: str | None = None
        self._history = NO_HISTORY
        self._is_second_try = False

    @property
    def is_stored(self) -> bool:
        """Whether it belongs to a session."""
        return self._request.session_id is not None

    @property
    def has_format(self) -> bool:
        """Whether the answer shall be more than text."""
        return self._request.asked_format is not None

    def estimate_prompt(self) -> int:
        """About how many tokens were sent, for a provider that did not say."""
        return self._history.tokens + self._own_tokens

    @cached_property
    def _own_tokens(self) -> int:
        return request_tokens(self._request) + estimate_tokens(self._again)

    def needs_approval(self, tool: str) -> bool:
        """Whether the request says that a person must agree before this tool runs."""
        return any(each.name == tool and each.needs_approval for each in self._request.tools or ())

    async def admit(self) -> None:
        """Store the user's messages: from then on the request is accepted.

        Raises:
            SessionNotFound: there is no such session.
            InvalidParams: `replace_from` names no message of it (without messages: no answer), or a result no open
                call.
            Conflict: a message's id is taken.
            Overloaded: the store is full.
            StorageUnavailable: the store is slow or fails.
            StorageFull: there is no room for a picture or document that came inline.
        """
        session_id = self._request.session_id
        if session_id is None:
            return
        await self._store.get(self._principal, session_id)
        await self._keep_inline()
        if self._stream.status == "cancelling":
            return  # The cancel won before admission: nothing is stored.
        stored = await self._store.append_turn(
            self._principal,
            session_id,
            self._request.messages,
            stream_id=self._stream.stream_id,
            replace_from=self._request.replace_from,
        )
        self._attachments.stored(self._principal, self._request.messages)
        self._first_stored, self._last_stored = stored[0].message_id, stored[-1].message_id
        if not self._request.messages:
            self._again = [message.as_chat() for message in stored]
        # Only now: a request that is refused interrupts nothing.
        for predecessor in self._predecessors:
            predecessor.cancel("interrupted")

    async def _keep_inline(self) -> None:
        """Sessions keep no base64: what came inline is a file from now on, and the message names it."""
        named, hold = await self._attachments.with_files(self._principal, self._request.messages)
        if hold is not None:
            self._files.add(hold)
            self._request = self._request.model_copy(update={"messages": named})

    async def open(self) -> AsyncGenerator[StreamChunk, None]:
        """Wait for the session and the provider, and begin the answer."""
        await self._await_predecessors()
        if not self._slot.granted:
            self._stream.progress("queued", f"{self._route.provider} is busy with other requests")
            await self._slot.wait()
        self._stream.set_running()
        await self._take_history(None)
        await self._take_media()
        return self._run()

    async def _await_predecessors(self) -> None:
        if any(predecessor.is_live for predecessor in self._predecessors):
            self._stream.progress("queued", "behind the session's running stream")
            for predecessor in self._predecessors:
                await predecessor.wait_ended()
        self._predecessors = ()  # They are kept by who reads them alone.

    async def open_shorter(self) -> AsyncGenerator[StreamChunk, None] | None:
        """Once more with at most half of what was sent, and what the model's context is known to hold by now."""
        before = self._history
        if not before.messages or self._is_second_try:
            return None
        self._is_second_try = True
        await self._take_history(self.estimate_prompt() // 2)
        if len(self._history.messages) == len(before.messages):
            return None  # System messages alone are left.
        await self._take_media()
        self._stream.progress("retrying", "the history was too long for the model: with less of it")
        return self._run()

    def _run(self) -> AsyncGenerator[StreamChunk, None]:
        self._stream.history_dropped = self._history.dropped or None
        options = options_of(
            self._request,
            self._route,
            principal=self._principal,
            on_progress=self._stream.progress,
            media=self._media,
        )
        messages = self._messages()
        return self._orchestrator.run(AgentTurn(self._request, self._route, messages, options))

    def _messages(self) -> Sequence[ChatMessage]:
        before = [*self._history.messages, *self._again] if self._again else self._history.messages
        return conversation(self._request, before)

    async def _take_media(self) -> None:
        """Read the files that are named by what is sent."""
        messages = self._messages()
        if names_files(messages):
            self._media = await self._attachments.media(self._principal, messages)

    async def judge(self, content: str) -> Judgement | None:
        """Whether the answer has the form that the request asked for (see FormatJudge)."""
        asked = self._request.asked_format
        return None if asked is None else await self._judge.judge(content, asked)

    async def settle(
        self, status: StreamStatus, content: str, calls: Sequence[ToolCall], refusal: Refusal | None
    ) -> bool:
        """Store the answer, if there is one, behind the turn it belongs to; whether that is done by now."""
        session_id, after = self._request.session_id, self._last_stored
        if session_id is None or after is None or not (content or calls or refusal):
            return True
        return await self._settling.keep(
            lambda: self._store.append_answer(
                self._principal,
                session_id,
                content,
                calls=calls,
                after=after,
                stream_id=self._stream.stream_id,
                status=status,
                refusal=refusal,
            )
        )

    async def _take_history(self, limit_tokens: int | None) -> None:
        """Choose what of the session goes before the turn: what the model's context holds, and the limit allows."""
        session_id, before = self._request.session_id, self._first_stored
        if session_id is None or before is None:
            return
        window = await self._gateway.context_window(self._route)
        # The answer needs its room too, but never so much that nothing is left for the question.
        budget = None if window is None else max(window - (self._route.answer_tokens or window), window // 2)
        self._history = await self._store.history(
            self._principal,
            session_id,
            before=before,
            turn_tokens=self._own_tokens,
            budget_tokens=min((each for each in (budget, limit_tokens) if each is not None), default=None),
        )
