"""The work of a stream for one chat request: stores its turn, waits for its provider's slot, asks an agent for each
step's completion, and stores what the stream leaves. prompt.py has the messages."""

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog

from archer_ws.agents.base import Agent, AgentTurn
from archer_ws.core.exceptions import (
    ArcherError,
    Conflict,
    ContentTooLarge,
    InvalidParams,
    Overloaded,
    ProviderNotConfigured,
    SessionNotFound,
    StorageFull,
    StorageUnavailable,
    Unsupported,
)
from archer_ws.core.lean_event import LeanEvent
from archer_ws.llm_gateway.asking import conversation, options_of
from archer_ws.llm_gateway.tools import ToolCall
from archer_ws.llm_gateway.types import (
    ChatOptions,
    ChatRequest,
    Route,
    StreamChunk,
    TokenUsage,
)
from archer_ws.sessions.attachments import StreamFiles, has_inline
from archer_ws.sessions.format_judge import Judgement
from archer_ws.sessions.prompt import Prompt
from archer_ws.sessions.storage.refusals import renamed
from archer_ws.sessions.storage.values import StoredCompletion
from archer_ws.sessions.streams.calls import as_tool_call
from archer_ws.sessions.streams.events import ControlEvent
from archer_ws.sessions.streams.exchange import Parked
from archer_ws.sessions.streams.fold import messages_of
from archer_ws.sessions.streams.gates import Slot
from archer_ws.sessions.streams.loop_state import LoopState
from archer_ws.sessions.turn_services import TurnServices

if TYPE_CHECKING:
    from archer_ws.sessions.streams.stream import Stream

log = structlog.get_logger(__name__)

#: The errors by which `Turn.admit` refuses a request, so that everybody who waits for its stream gets them.
NOT_ADMITTED = (
    Conflict,
    ContentTooLarge,
    InvalidParams,
    Overloaded,
    SessionNotFound,
    StorageFull,
    StorageUnavailable,
    Unsupported,
)


class Turn:
    """The work of one request (see streams/work.py).

    Args:
        services: what all turns share.
        request: the request as the client sent it.
        route: its provider and model.
        stream: the stream that this is the work of.
        predecessors: the session's streams that this one interrupts, and whose ends it awaits.
        slot: the right to call the provider; released by the manager.
        files: the files that the stream holds; released by the manager.
        left: the state that an earlier process left, if the stream goes on after a restart.
    """

    #: Set when nothing keeps its messages from being stored any more; None if nothing ever did.
    _is_prepared: LeanEvent | None = None

    def __init__(
        self,
        services: TurnServices,
        request: ChatRequest,
        route: Route,
        *,
        stream: "Stream",
        predecessors: Sequence["Stream"],
        slot: Slot,
        files: StreamFiles,
        left: LoopState | None = None,
    ) -> None:
        self._services = services
        self._request = request
        self._route = route
        self._principal = stream.identity.principal
        self._session_id = request.session_id
        self._stream = stream
        self._predecessors: Sequence[Stream] = predecessors
        self._slot = slot
        self._files = files
        self._prompt = Prompt(services, request, route, self._principal, files)
        #: Whether the stream waits for the results of its calls and goes on.
        self.waits = request.waits_for_results
        if request.extras.top_logprobs is not None:
            stream.keep_logprobs()
        #: The id of the turn's last stored message.
        self._last_stored: str | None = None
        #: The agent of the last step; None before the first in this process.
        self._agent: Agent | None = None
        #: The version of the loop state that was written last: it is written again when this changes. None: write it.
        self._kept_state: tuple[int, int, int, TokenUsage | None] | None = None
        self._left = left
        if left is not None:
            self._prompt.go_on(left)
            self._last_stored = left.last_stored
            stream.history_dropped = left.history_dropped
            stream.message_ids = list(left.message_ids)

    @property
    def is_stored(self) -> bool:
        """Whether the stream belongs to a session."""
        return self._session_id is not None

    @property
    def has_format(self) -> bool:
        """Whether the request asks for a response format other than text."""
        return self._request.asked_format is not None

    def estimate_prompt(self) -> int:
        """The approximate tokens of the prompt, for a provider that does not report them."""
        return self._prompt.tokens

    def needs_approval(self, tool: str) -> bool:
        """Whether the request demands a person's approval before this tool runs."""
        return any(each.name == tool and each.needs_approval for each in self._request.tools or ())

    async def admit(self) -> None:
        """Store the user's messages, after which the request is accepted.

        Raises:
            SessionNotFound: there is no such session.
            InvalidParams: `replace_from` is not a message of the session (without messages: not a completion), or a
                tool result is for no open call.
            Conflict: a message's id exists, or the session has another version.
            Unsupported, InvalidParams, ContentTooLarge: inline pictures or documents are not accepted.
            Overloaded, StorageFull: the store is full, or there is no room for them.
            StorageUnavailable: the store is slow or failed.
        """
        session_id = self._session_id
        if session_id is None or self._left is not None:
            return
        if self._predecessors or has_inline(self._request.messages):
            await self._prepare(session_id)
        if self._stream.status == "cancelling":
            # The cancel won before admission: nothing is stored.
            await self._services.store.get(self._principal, session_id)
            return
        budget = self._services.windows.budget(self._route)
        # A turn whose storing is cancelled or takes too long may be stored all the same.
        self._files.may_be_named = True
        try:
            stored = await self._services.store.begin_turn(
                self._principal,
                session_id,
                self._request.messages,
                stream_id=self._stream.stream_id,
                replace_from=self._request.replace_from,
                version=self._request.session_version,
                turn_tokens=self._prompt.own_tokens,
                budget_tokens=budget,
                record=self._services.journaling.begin(self._stream) if self._services.journaling is not None else None,
            )
        except ArcherError as refusal:
            self._files.may_be_named = isinstance(refusal, StorageUnavailable)
            if isinstance(refusal, Conflict):
                raise renamed(refusal, "version", "session_version") from None
            raise
        self._services.attachments.stored(self._principal, self._request.messages)
        self._services.changes.changed(self._principal, session_id)
        turn = stored.messages
        if self._request.messages:
            self._stream.message_ids = [message.message_id for message in turn]
        self._last_stored = turn[-1].message_id
        again = [] if self._request.messages else [message.as_chat() for message in turn]
        # An interrupted stream's completion belongs before this turn, and is not stored yet.
        history = None if self._predecessors else stored.history
        self._prompt.begin(turn[0].message_id, again, history, budget)
        # Not before: a refused request must not interrupt anything.
        for predecessor in self._predecessors:
            predecessor.cancel("interrupted")

    @property
    def is_storing(self) -> bool:
        """Whether the turn is being stored, or is stored."""
        return self._files.may_be_named

    async def wait_placed(self) -> None:
        """Return once the turn is being stored, or never will be: what is stored from then on comes behind it."""
        if self._is_prepared is not None:
            await self._is_prepared.wait()

    def withdraw(self) -> None:
        """Undo what `admit` stores, since a cancel came first."""
        if self._services.journaling is not None:
            self._services.journaling.withdraw(self._stream, self._withdrawn)

    def _withdrawn(self, is_gone: bool) -> None:
        if is_gone:
            self._files.may_be_named = False
        self._services.changes.changed(self._principal, self._session_id)

    async def _prepare(self, session_id: str) -> None:
        """Store inline data as files, and let the turns that this one interrupts be stored before it."""
        is_prepared = self._is_prepared = LeanEvent()
        try:
            if has_inline(self._request.messages):
                # Store no files for a session that does not exist.
                await self._services.store.get(self._principal, session_id)
                await self._keep_inline()
            for predecessor in self._predecessors:
                await predecessor.wait_placed()
        finally:
            is_prepared.set()

    async def _keep_inline(self) -> None:
        """Store inline data as files, which the messages name from now on: sessions store no base64."""
        named, hold = await self._services.attachments.with_files(self._principal, self._request.messages)
        self._files.add(hold)
        self._request = self._prompt.request = self._request.model_copy(update={"messages": named})

    async def open(self) -> AsyncGenerator[StreamChunk, None]:
        """Wait for the session's earlier streams and the provider's slot. The provider is asked when the chunks are
        first read. After a restart: go on waiting for the results of the calls."""
        if self._left is not None:
            chunks = await self.go_on([as_tool_call(each, each.arguments) for each in self._stream.log.tool_calls()])
            assert chunks is not None, "a waiting stream has calls, so a step follows"
            return chunks
        if self._predecessors:
            await self._await_predecessors()
        if not self._slot.granted:
            self._stream.progress("queued", f"{self._route.provider} is busy with other requests")
            await self._slot.wait()
        return await self._begin_step()

    async def _begin_step(self) -> AsyncGenerator[StreamChunk, None]:
        self._stream.set_running()
        session_id = self._session_id
        if session_id is not None:
            self._services.changes.changed(self._principal, session_id)
            await self._prompt.fit()
        return await self._ask()

    async def _await_predecessors(self) -> None:
        if any(predecessor.is_live for predecessor in self._predecessors):
            self._stream.progress("queued", "behind the session's running stream")
            for predecessor in self._predecessors:
                await predecessor.wait_ended()
        self._predecessors = ()  # No longer referenced from here, so that they can be freed.

    async def go_on(self, calls: Sequence[ToolCall]) -> AsyncGenerator[StreamChunk, None] | None:
        """The next step's chunks, once all calls have results and the provider's slot is granted; None if there is no
        next step."""
        # The connection to the provider is closed by now, so other streams may use the slot while the calls run.
        self._slot.release()
        self._prompt.free()
        if not await (self._agent or self._agent_left()).go_on(self._request, calls, self._stream.exchange):
            return None
        if self._left is not None:
            await self._look_for_provider()
        self._slot.take_again()
        try:
            if not self._slot.granted:
                await self._stream.wait_place(f"{self._route.provider} is busy with other requests", self._slot.wait())
            await self._stream.begin_step()
        except Parked:
            self._slot.release()
            raise
        self._prompt.next_step([message.as_chat() for message in messages_of(self._stream.log.events())])
        return await self._begin_step()

    def _agent_left(self) -> Agent:
        """The agent of the step that an earlier process ran, by the turn's messages without the history."""
        messages = conversation(self._request, self._prompt.again)
        return self._services.orchestrator.pick(AgentTurn(self._request, self._route, messages, ChatOptions()))

    async def _look_for_provider(self) -> None:
        """Check that the provider of a stream from before a restart is still configured.

        Raises:
            Parked: it is not; the stream stays stored for a later process.
        """
        try:
            await self._services.gateway.prepare(self._route.provider)
        except ProviderNotConfigured as missing:
            log.error("stream_not_gone_on_with", provider=self._route.provider, cause=str(missing), hint=missing.hint)  # noqa: TRY400 - the message says all
            raise Parked from None
        except ArcherError:
            pass  # The call of the provider will report it.

    async def keep(self, events: Sequence[ControlEvent]) -> None:
        """If streams are stored: store the next events of the log, and what a restart needs to go on.

        Raises:
            StorageUnavailable, StorageFull: they were not stored.
        """
        if not self._stream.is_admitted and not await self._begun():
            return
        if self._services.journaling is not None and self._session_id is not None:
            exchange, usage = self._stream.exchange, self._stream.usage
            state = (exchange.step, len(self._prompt.native), len(exchange.steering.accepted), usage)
            loop = None if state == self._kept_state else lambda: self._loop_state().text
            self._kept_state = None
            await self._services.journaling.keep(self._stream, events, loop)
            self._kept_state = state

    async def _begun(self) -> bool:
        """Wait until the turn is stored: before, nothing of the stream can be. Returns False if the stream is over, so
        that whatever is said to it comes too late."""
        try:
            await self._stream.wait_admitted()
        except ArcherError:
            return False
        return self._stream.is_live

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the stream as waiting for tool results, until the context is left.

        Raises:
            Overloaded: too many of the principal's streams wait.
        """
        # A stream of an earlier process was counted there.
        self._services.quota.begin_waiting(self._principal, is_sure=self._left is not None)
        try:
            yield
        finally:
            self._services.quota.end_waiting(self._principal)
            # In the same moment: a stream whose status is `waiting` is always counted.
            self._stream.set_running()

    def told_to_wait(self) -> None:
        """Note that the calls have been sent, and that the stream waits for their results."""
        self._stream.set_waiting()
        self._services.changes.changed(self._principal, self._session_id)

    def _loop_state(self) -> LoopState:
        stream = self._stream
        return LoopState.of(
            self._request if self.waits else None,
            again=self._prompt.again,
            stored=(self._prompt.first_stored, self._last_stored),
            message_ids=stream.message_ids,
            usage=stream.usage,
            history_dropped=stream.history_dropped,
            native=self._prompt.native.values(),
            steered=stream.exchange.steering.accepted,
        )

    async def open_shorter(self) -> AsyncGenerator[StreamChunk, None] | None:
        """Try again with less history (see Prompt.shorten). None if there is nothing more to leave out."""
        if not await self._prompt.shorten():
            return None
        chunks = await self._ask()
        self._stream.progress("retrying", "the history was too long for the model: with less of it")
        return chunks

    async def _ask(self) -> AsyncGenerator[StreamChunk, None]:
        """The step's chunks."""
        prompt, stream = self._prompt, self._stream
        messages = await prompt.messages()
        if self._session_id is not None:
            stream.history_dropped = prompt.history_dropped
        logprobs = stream.logprobs
        options = options_of(
            self._request,
            self._route,
            principal=self._principal,
            native_turns=prompt.native_turns(),
            on_progress=stream.progress,
            on_native_turn=prompt.keep_native,
            on_logprobs=None if logprobs is None else logprobs.add,
            media=prompt.media,
        )
        step = stream.exchange.step if prompt.said else 1
        turn = AgentTurn(self._request, self._route, messages, options, step, on_chunk=stream.take)
        agent = self._agent = self._services.orchestrator.pick(turn)
        return agent.run(turn)

    async def judge(self, content: str) -> Judgement | None:
        """Check the completion against the request's format (see FormatJudge); None if there is nothing to check."""
        asked = self._request.asked_format
        return None if asked is None else await self._services.judge.judge(content, asked)

    async def settle(self, completion: StoredCompletion, last: Sequence[ControlEvent]) -> bool:
        """Store the completion after its turn, and the end of the stream's log. Returns False if the completion is not
        stored yet (see Settling)."""
        session_id, after = self._session_id, self._last_stored
        if session_id is None:
            return True
        if after is None:
            if self._services.journaling is not None:
                await self._services.journaling.until_withdrawn(self._stream)
            return True
        end = await self._services.journaling.end(self._stream, last) if self._services.journaling else None
        if completion.is_empty and end is None:
            return True
        kept = self._prompt.with_native(completion)
        message_ids: list[str] = []

        async def write() -> None:
            nonlocal message_ids
            message_ids = await self._services.store.append_completion(
                self._principal, session_id, kept, after=after, stream_id=self._stream.stream_id, end=end
            )
            self._services.attachments.stored(self._principal, [each.chat for each in kept.earlier])
            self._services.changes.changed(self._principal, session_id)

        is_stored = await self._services.settling.keep(write)
        if is_stored:
            self._stream.message_ids += message_ids
        return is_stored or completion.is_empty
