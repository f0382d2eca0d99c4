"""The work of a stream for one chat request: stores its turn, waits for its provider's slot, assembles the messages,
and stores the completion."""

from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import msgspec
import structlog
from pydantic import BaseModel

from archer_ws.agents.base import Agent, AgentTurn, Gateway
from archer_ws.agents.orchestrator import Orchestrator
from archer_ws.core.exceptions import (
    ArcherError,
    Conflict,
    ContentTooLarge,
    FieldError,
    InvalidParams,
    Overloaded,
    ProviderNotConfigured,
    SessionNotFound,
    StorageFull,
    StorageUnavailable,
    Unsupported,
)
from archer_ws.core.lean_dataclass import lean_dataclass
from archer_ws.core.limits import HISTORY_TOKENS_MAX, MEDIA_REQUEST_BYTES
from archer_ws.core.wire_model import MAX_FIELD_ERRORS
from archer_ws.llm_gateway.asking import conversation, options_of
from archer_ws.llm_gateway.content import MediaPart
from archer_ws.llm_gateway.media import Media
from archer_ws.llm_gateway.native_turns import NativeTurn
from archer_ws.llm_gateway.tool_history import check_arguments
from archer_ws.llm_gateway.tools import ToolCall
from archer_ws.llm_gateway.types import (
    ASSISTANT,
    TOOL,
    ChatMessage,
    ChatOptions,
    ChatRequest,
    Route,
    StreamChunk,
    TokenUsage,
)
from archer_ws.sessions.attachments import Attachments, StreamFiles, has_inline, names_files
from archer_ws.sessions.changes import SessionChanges
from archer_ws.sessions.format_judge import FormatJudge, Judgement
from archer_ws.sessions.history import (
    NO_HISTORY,
    History,
    Shown,
    estimate_tokens,
    request_tokens,
    without_oldest_shown,
)
from archer_ws.sessions.journaling import Journaling
from archer_ws.sessions.native_cache import NativeTurnCache
from archer_ws.sessions.results import check_place
from archer_ws.sessions.settling import Settling
from archer_ws.sessions.storage.refusals import renamed
from archer_ws.sessions.storage.store import SessionStore
from archer_ws.sessions.storage.values import StoredCompletion
from archer_ws.sessions.streams.calls import as_tool_call
from archer_ws.sessions.streams.events import ControlEvent
from archer_ws.sessions.streams.exchange import Parked
from archer_ws.sessions.streams.fold import messages_of
from archer_ws.sessions.streams.gates import Slot, StreamQuota
from archer_ws.sessions.streams.loop_state import LoopState
from archer_ws.sessions.windows import Windows

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
#: The fingerprint of a request whose stream's id the server mints: no request repeats it.
NEVER_REPEATED = b""
_NOT_ASKED = {"stream", "stream_id"}


def check_turn(request: ChatRequest, max_content_bytes: int) -> bool:
    """Validate a request's messages, by the rules for requests with or without a session. Returns whether they have
    more than text.

    Raises:
        InvalidParams: with a session: an assistant message, or a tool result after another message; without one:
            `replace_from` or `session_version`, or a call that no client can have run.
        ContentTooLarge: the messages have more text than `max_content_bytes`.
    """
    messages, instructions = request.messages, request.instructions
    size = 0 if instructions is None else len(instructions.encode())
    has_calls = has_parts = False
    for message in messages:
        size += message.text_bytes
        has_calls = has_calls or message.tool_calls is not None
        has_parts = has_parts or message.parts is not None
    if request.session_id is None:
        if request.replace_from is not None or request.session_version is not None:
            name = "session_version" if request.replace_from is None else "replace_from"
            raise InvalidParams(
                f"{name} needs a session_id",
                hint=f"Add session_id, or leave {name} out.",
                errors=[FieldError(path=name, message="needs a session_id")],
            )
        if has_calls:
            check_arguments(messages)
    elif said := [f"messages.{place}" for place, message in enumerate(messages) if message.role is ASSISTANT]:
        raise InvalidParams(
            "with session_id, messages holds the new turn only: no assistant messages",
            hint="Send only what is new: a user message or tool results. The server puts the session's stored history "
            "before it.",
            errors=[FieldError(path=path, message="is the assistant's") for path in said[:MAX_FIELD_ERRORS]],
        )
    else:
        check_place(messages)
    if size > max_content_bytes:
        raise ContentTooLarge(
            f"the messages are {size} bytes of text, the limit is {max_content_bytes}",
            hint="Send fewer or shorter messages, or raise MAX_CONTENT_BYTES.",
        )
    return has_parts


def fingerprint_of(request: ChatRequest) -> bytes:
    """A hash of a request's parameters, without `stream` and `stream_id`.

    It covers the fields that were sent, in any order. So a field that is added to the protocol later does not change
    the hash of a request that lacks it (protocol section 21).
    """
    asked = {name: value for name, value in _sent_fields(request).items() if name not in _NOT_ASKED}
    return blake2b(_AS_SORTED_JSON.encode(asked), digest_size=16).digest()


def _sent_fields(model: BaseModel) -> dict[str, Any]:
    values = model.__dict__
    sent = {name: value for name in model.model_fields_set if (value := values[name]) is not None}
    if "url" in sent and isinstance(model, MediaPart):
        sent["url"] = model.fingerprint  # In place of megabytes.
    return sent


_AS_SORTED_JSON = msgspec.json.Encoder(enc_hook=_sent_fields, order="sorted")


@lean_dataclass(frozen=True, slots=True, kw_only=True)
class TurnServices:
    """What all turns of a manager share."""

    #: The providers, and what runs the agents.
    gateway: Gateway
    orchestrator: Orchestrator
    store: SessionStore
    #: Stores the completion, retrying after the stream's end if needed.
    settling: Settling
    #: Writes streams to the store; None if the store has no streams.
    journaling: Journaling | None
    #: The models' context windows.
    windows: Windows
    #: Caches native turns for requests without a session.
    native: NativeTurnCache
    #: Checks the response format.
    judge: FormatJudge
    #: The files that messages name.
    attachments: Attachments
    #: Notified of what is stored.
    changes: SessionChanges
    #: Counts the streams that wait for tool results.
    quota: StreamQuota


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
        self._media: Mapping[str, Media] = {}
        if request.extras.top_logprobs is not None:
            stream.keep_logprobs()
        #: The stored messages of a turn that is generated again; empty if the request has messages.
        self._again: list[ChatMessage] = []
        self._first_stored: str | None = None
        self._last_stored: str | None = None
        #: The history before the turn once it has been read, and the token budget that it was read for.
        self._history: History | None = None
        self._budget: int | None = None
        #: The native turns of this stream's completions, by call id.
        self._native: dict[str, NativeTurn] = {}
        self._is_second_try = False
        #: The agent of the last step; None before the first in this process.
        self._agent: Agent | None = None
        #: The messages of the earlier steps.
        self._said: list[ChatMessage] = []
        #: The version of the loop state that was written last: it is written again when this changes. None: write it.
        self._kept_state: tuple[int, int, int, TokenUsage | None] | None = None
        self._left = left
        if left is not None:
            self._again = list(left.again)
            self._first_stored, self._last_stored = left.first_stored, left.last_stored
            self._native = left.native_turns()
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
        return (self._history.tokens if self._history else 0) + self._own_tokens

    @property
    def _own_tokens(self) -> int:
        """The approximate tokens of the prompt without the history."""
        return self._request_tokens + estimate_tokens(self._again) + estimate_tokens(self._said)

    @cached_property
    def _request_tokens(self) -> int:
        return request_tokens(self._request)

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
        if has_inline(self._request.messages):
            # Store no files for a session that does not exist.
            await self._services.store.get(self._principal, session_id)
            await self._keep_inline()
        if self._stream.status == "cancelling":
            # The cancel won before admission: nothing is stored.
            await self._services.store.get(self._principal, session_id)
            return
        self._budget = self._services.windows.budget(self._route)
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
                turn_tokens=self._own_tokens,
                budget_tokens=self._budget,
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
        self._first_stored, self._last_stored = turn[0].message_id, turn[-1].message_id
        if not self._request.messages:
            self._again = [message.as_chat() for message in turn]
        # An interrupted stream's completion belongs before this turn, and is not stored yet.
        self._history = None if self._predecessors else stored.history
        # Not before: a refused request must not interrupt anything.
        for predecessor in self._predecessors:
            predecessor.cancel("interrupted")

    @property
    def is_storing(self) -> bool:
        """Whether the turn is being stored, or is stored."""
        return self._files.may_be_named

    def withdraw(self) -> None:
        """Undo what `admit` stores, since a cancel came first."""
        if self._services.journaling is not None:
            told = partial(self._services.changes.changed, self._principal, self._session_id)
            self._services.journaling.withdraw(self._stream, told)

    async def _keep_inline(self) -> None:
        """Store inline data as files, which the messages name from now on: sessions store no base64."""
        named, hold = await self._services.attachments.with_files(self._principal, self._request.messages)
        if hold is not None:
            self._files.add(hold)
            self._request = self._request.model_copy(update={"messages": named})

    @property
    def waits(self) -> bool:
        """Whether the stream waits for the results of its calls and goes on."""
        return self._request.waits_for_results

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
            await self._fit_history()
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
        # The connection to the provider is closed by now, so other streams may use the slot while the calls run, and
        # the memory of the files: the next step reads them again.
        self._slot.release()
        self._files.free()
        self._media = {}
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
        self._take_said()
        self._is_second_try = False
        return await self._begin_step()

    def _agent_left(self) -> Agent:
        """The agent of the step that an earlier process ran, by the turn's messages without the history."""
        messages = conversation(self._request, self._again)
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

    def _take_said(self) -> None:
        """Put the messages of the steps so far before the next one."""
        self._said = [message.as_chat() for message in messages_of(self._stream.log.events())]

    async def keep(self, events: Sequence[ControlEvent]) -> None:
        """If streams are stored: store the next events of the log, and what a restart needs to go on.

        Raises:
            StorageUnavailable, StorageFull: they were not stored.
        """
        if not self._stream.is_admitted and not await self._begun():
            return
        if self._services.journaling is not None and self._session_id is not None:
            exchange, usage = self._stream.exchange, self._stream.usage
            state = (exchange.step, len(self._native), len(exchange.steering.accepted), usage)
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
            again=self._again,
            stored=(self._first_stored, self._last_stored),
            message_ids=stream.message_ids,
            usage=stream.usage,
            history_dropped=stream.history_dropped,
            native=self._native.values(),
            steered=stream.exchange.steering.accepted,
        )

    async def open_shorter(self) -> AsyncGenerator[StreamChunk, None] | None:
        """Try again with less history: at most half of the prompt, and at most the context window that is known now.

        None if there is no history to leave out, or if this was the second try.
        """
        before = self._history
        if before is None or not before.messages or self._is_second_try:
            return None
        self._is_second_try = True
        half, window = self.estimate_prompt() // 2, await self._services.windows.ask(self._route)
        self._history = await self._read_history(half if window is None else min(half, window))
        if len(self._history.messages) == len(before.messages):
            return None  # Only system messages are left.
        chunks = await self._ask()
        self._stream.progress("retrying", "the history was too long for the model: with less of it")
        return chunks

    async def _ask(self) -> AsyncGenerator[StreamChunk, None]:
        """The step's chunks. History with more pictures and files than the provider accepts is left out.

        Raises:
            ContentTooLarge: the turn's own files are too large.
        """
        if self._history is not None:
            self._leave_out_shown(self._history)
        messages = self._messages()
        if not self._media and names_files(messages):  # Otherwise already read: a shorter history names no others.
            await self._take_media(messages)
        return self._run(messages)

    def _run(self, messages: Sequence[ChatMessage]) -> AsyncGenerator[StreamChunk, None]:
        history = self._history or NO_HISTORY
        stream = self._stream
        stream.history_dropped = history.dropped or None
        logprobs = stream.logprobs
        options = options_of(
            self._request,
            self._route,
            principal=self._principal,
            native_turns=self._kept_turns(),
            on_progress=stream.progress,
            on_native_turn=self._keep_native,
            on_logprobs=None if logprobs is None else logprobs.add,
            media=self._media,
        )
        step = stream.exchange.step if self._said else 1
        turn = AgentTurn(self._request, self._route, messages, options, step, on_chunk=stream.take)
        agent = self._agent = self._services.orchestrator.pick(turn)
        return agent.run(turn)

    def _messages(self) -> Sequence[ChatMessage]:
        history = self._history or NO_HISTORY
        before = [*history.messages, *self._again] if self._again else history.messages
        messages = conversation(self._request, before)
        return [*messages, *self._said] if self._said else messages

    async def _take_media(self, messages: Sequence[ChatMessage]) -> None:
        """Read the files that the messages name."""
        size = self._services.attachments.media_bytes(self._principal, messages)
        if size > MEDIA_REQUEST_BYTES:
            raise ContentTooLarge(
                f"the files of this turn are {size} bytes of base64, the limit is {MEDIA_REQUEST_BYTES}",
                hint="Send fewer or smaller files: no provider accepts so much.",
            )
        self._media = await self._services.attachments.media(self._principal, messages, self._files)

    def _leave_out_shown(self, history: History) -> None:
        if not any(message.parts for message in history.messages):
            return
        shown = partial(self._services.attachments.shown, self._principal)
        own = [shown(message) for message in (*self._again, *self._request.messages, *self._said)]
        limits = self._services.windows.limits(self._route)
        most = limits.request_bytes if limits is not None else None
        images = limits.images if limits is not None else None
        room = Shown(
            min(MEDIA_REQUEST_BYTES, most or MEDIA_REQUEST_BYTES) - sum(each.encoded_bytes for each in own),
            None if images is None else images - sum(each.images or 0 for each in own),
        )
        goes_on = any(message.role is TOOL for message in self._request.messages[:1])
        self._history = without_oldest_shown(history, shown, room, goes_on=goes_on)

    async def judge(self, content: str) -> Judgement | None:
        """Check the completion against the request's format (see FormatJudge); None if there is nothing to check."""
        asked = self._request.asked_format
        return None if asked is None else await self._services.judge.judge(content, asked)

    async def settle(self, completion: StoredCompletion, last: Sequence[ControlEvent]) -> bool:
        """Store the completion after its turn, and the end of the stream's log. Returns False if the completion is not
        stored yet (see Settling)."""
        session_id, after = self._session_id, self._last_stored
        if session_id is None or after is None:
            return True
        end = await self._services.journaling.end(self._stream, last) if self._services.journaling else None
        if completion.is_empty and end is None:
            return True
        kept = self._with_native(completion)
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

    def _with_native(self, completion: StoredCompletion) -> StoredCompletion:
        """The completion and the earlier ones of the stream, with their native turns."""
        if not self._native:
            return completion
        earlier = [
            replace(each, completion=replace(each.completion, native=self._native_of(each.completion)))
            if each.completion
            else each
            for each in completion.earlier
        ]
        return replace(completion, native=self._native_of(completion), earlier=earlier)

    def _native_of(self, completion: StoredCompletion) -> NativeTurn | None:
        return self._native.get(completion.calls[0].call_id) if completion.calls else None

    def _kept_turns(self) -> Mapping[str, NativeTurn]:
        """The native turns of the tool loop that the turn belongs to, by call id."""
        if self._session_id is not None:
            before = self._history.native_turns if self._history is not None else {}
        else:
            route = self._route
            before = self._services.native.of_loop(self._principal, route.provider, route.model, self._request.messages)
        return {**before, **self._native} if self._native else before

    def _keep_native(self, turn: NativeTurn) -> None:
        if self._session_id is None:
            self._services.native.put(self._principal, turn)
        if self._session_id is not None or self.waits:
            self._native.update(dict.fromkeys(turn.kept.call_ids, turn))

    async def _fit_history(self) -> None:
        """Read the history before the turn again, unless the one that is there fits the model's context."""
        budget = await self._services.windows.ask(self._route)
        taken = self._history
        # The history was read for an earlier budget, or before steps that now take room, too.
        is_other = budget != self._budget or bool(self._said)
        if taken is None or (is_other and not _is_whole_within(taken, self._own_tokens, budget)):
            self._history = await self._read_history(budget)

    async def _read_history(self, budget: int | None) -> History:
        session_id, before = self._session_id, self._first_stored
        if session_id is None or before is None:
            return NO_HISTORY
        return await self._services.store.history(
            self._principal,
            session_id,
            before=before,
            turn_tokens=self._own_tokens,
            budget_tokens=budget,
        )


def _is_whole_within(history: History, turn_tokens: int, budget: int | None) -> bool:
    """Whether the history is complete, and also fits the new budget."""
    limit = HISTORY_TOKENS_MAX if budget is None else budget
    return not history.dropped and history.tokens + turn_tokens <= limit
