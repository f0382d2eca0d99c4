"""What a stream sends to its model: the history, the turn's messages, the files that they name, and native turns.

It reads as much of the history as fits the model's context, and less if that was too long. When the turn is stored and
when a step begins is the turn's business (turn.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial

from archer_ws.core.exceptions import ContentTooLarge
from archer_ws.core.limits import HISTORY_TOKENS_MAX, MEDIA_REQUEST_BYTES
from archer_ws.llm_gateway.asking import conversation
from archer_ws.llm_gateway.media import Media
from archer_ws.llm_gateway.native_turns import NativeTurn
from archer_ws.llm_gateway.types import TOOL, ChatMessage, ChatRequest, Route
from archer_ws.sessions.attachments import StreamFiles, names_files
from archer_ws.sessions.history import (
    NO_HISTORY,
    History,
    Shown,
    estimate_tokens,
    request_tokens,
    without_oldest_shown,
)
from archer_ws.sessions.storage.values import StoredCompletion
from archer_ws.sessions.streams.loop_state import LoopState
from archer_ws.sessions.turn_services import TurnServices


class Prompt:
    """The prompt of a stream, step by step.

    Args:
        services: what all turns share.
        request: the request as the client sent it.
        route: its provider and model.
        principal: the owner of the stream.
        files: the files that the stream holds, whose bytes are read into them.
    """

    def __init__(
        self, services: TurnServices, request: ChatRequest, route: Route, principal: str, files: StreamFiles
    ) -> None:
        self._services = services
        #: The request; once its inline data is stored, as files that it names.
        self.request = request
        self._route = route
        self._principal = principal
        self._files = files
        #: The stored messages of a turn that is generated again; empty if the request has messages.
        self.again: list[ChatMessage] = []
        #: The id of the turn's first stored message.
        self.first_stored: str | None = None
        #: The native turns of this stream's completions, by call id.
        self.native: dict[str, NativeTurn] = {}
        #: The files of `messages`, by their ids.
        self.media: Mapping[str, Media] = {}
        #: The messages of the earlier steps; empty before the first one has ended.
        self.said: list[ChatMessage] = []
        #: The history before the turn once it has been read, and the token budget that it was read for.
        self._history: History | None = None
        self._budget: int | None = None
        #: Whether the provider found more of the history too long.
        self._is_shortened = False

    @property
    def tokens(self) -> int:
        """The approximate tokens of all messages."""
        return (self._history.tokens if self._history else 0) + self.own_tokens

    @property
    def own_tokens(self) -> int:
        """The approximate tokens of all messages behind the history."""
        return self._request_tokens + estimate_tokens(self.again) + estimate_tokens(self.said)

    @cached_property
    def _request_tokens(self) -> int:
        return request_tokens(self.request)

    @property
    def history_dropped(self) -> int | None:
        """How many messages of the history are left out; None: none."""
        return self._history.dropped or None if self._history is not None else None

    def begin(
        self, first_stored: str, again: Sequence[ChatMessage], history: History | None, budget_tokens: int | None
    ) -> None:
        """Note the turn as it was stored.

        Args:
            first_stored: the id of its first message.
            again: its messages, if the request has none.
            history: what was read with it; None: it must be read again.
            budget_tokens: the budget that the history was read for.
        """
        self.first_stored, self.again = first_stored, list(again)
        self._history, self._budget = history, budget_tokens

    def go_on(self, left: LoopState) -> None:
        """Go on from the state that an earlier process left."""
        self.first_stored, self.again = left.first_stored, list(left.again)
        self.native = left.native_turns()

    def next_step(self, said: list[ChatMessage]) -> None:
        """Put the messages of the steps so far before the next one."""
        self.said = said

    def free(self) -> None:
        """Free the memory of the files while the calls run: the next step reads them again."""
        self._files.free()
        self.media = {}

    async def fit(self) -> None:
        """Read the history before the turn again, unless the one that is there fits the model's context."""
        budget = await self._services.windows.ask(self._route)
        taken = self._history
        # The history was read for an earlier budget, or before steps that now take room, too.
        is_other = budget != self._budget or bool(self.said)
        # More than what was shortened was too long for an earlier step.
        is_most = taken is not None and (self._is_shortened or not taken.dropped)
        if taken is None or (is_other and not (is_most and _is_within(taken, self.own_tokens, budget))):
            self._history = await self._read_history(budget)

    async def shorten(self) -> bool:
        """Leave out history: at most half of the prompt stays, and at most the context window that is known now.

        False if there is none to leave out. Half may still be too long: the window may be unknown, and in many scripts
        a token is a byte or two.
        """
        before = self._history
        if before is None or not before.messages:
            return False
        self._is_shortened = True
        half, window = self.tokens // 2, await self._services.windows.ask(self._route)
        self._history = await self._read_history(half if window is None else min(half, window))
        return len(self._history.messages) != len(before.messages)  # Otherwise only system messages are left.

    async def messages(self) -> Sequence[ChatMessage]:
        """The messages of the next step; `media` has their files from now on. History with more pictures and files than
        the provider accepts is left out.

        Raises:
            ContentTooLarge: the turn's own files are too large.
        """
        if self._history is not None:
            self._leave_out_shown(self._history)
        history = self._history or NO_HISTORY
        messages = conversation(self.request, [*history.messages, *self.again] if self.again else history.messages)
        if self.said:
            messages = [*messages, *self.said]
        if not self.media and names_files(messages):  # Otherwise already read: a shorter history names no others.
            await self._read_media(messages)
        return messages

    def native_turns(self) -> Mapping[str, NativeTurn]:
        """The native turns of the tool loop that the turn belongs to, by call id."""
        if self.request.session_id is not None:
            before = self._history.native_turns if self._history is not None else {}
        else:
            route = self._route
            before = self._services.native.of_loop(self._principal, route.provider, route.model, self.request.messages)
        return {**before, **self.native} if self.native else before

    def keep_native(self, turn: NativeTurn) -> None:
        """Keep the native turn of a completion, for the next step, the store and the cache."""
        if self.request.session_id is None:
            self._services.native.put(self._principal, turn)
        if self.request.session_id is not None or self.request.waits_for_results:
            self.native.update(dict.fromkeys(turn.kept.call_ids, turn))

    def with_native(self, completion: StoredCompletion) -> StoredCompletion:
        """The completion and the earlier ones of the stream, with their native turns."""
        if not self.native:
            return completion
        earlier = [
            replace(each, completion=replace(each.completion, native=self._native_of(each.completion)))
            if each.completion
            else each
            for each in completion.earlier
        ]
        return replace(completion, native=self._native_of(completion), earlier=earlier)

    def _native_of(self, completion: StoredCompletion) -> NativeTurn | None:
        return self.native.get(completion.calls[0].call_id) if completion.calls else None

    async def _read_media(self, messages: Sequence[ChatMessage]) -> None:
        """Read the files that the messages name."""
        size = self._services.attachments.media_bytes(self._principal, messages)
        if size > MEDIA_REQUEST_BYTES:
            raise ContentTooLarge(
                f"the files of this turn are {size} bytes of base64, the limit is {MEDIA_REQUEST_BYTES}",
                hint="Send fewer or smaller files: no provider accepts so much.",
            )
        self.media = await self._services.attachments.media(self._principal, messages, self._files)

    def _leave_out_shown(self, history: History) -> None:
        if not any(message.parts for message in history.messages):
            return
        shown = partial(self._services.attachments.shown, self._principal)
        own = [shown(message) for message in (*self.again, *self.request.messages, *self.said)]
        limits = self._services.windows.limits(self._route)
        most = limits.request_bytes if limits is not None else None
        images = limits.images if limits is not None else None
        room = Shown(
            min(MEDIA_REQUEST_BYTES, most or MEDIA_REQUEST_BYTES) - sum(each.encoded_bytes for each in own),
            None if images is None else images - sum(each.images or 0 for each in own),
        )
        goes_on = any(message.role is TOOL for message in self.request.messages[:1])
        self._history = without_oldest_shown(history, shown, room, goes_on=goes_on)

    async def _read_history(self, budget: int | None) -> History:
        session_id, before = self.request.session_id, self.first_stored
        if session_id is None or before is None:
            return NO_HISTORY
        return await self._services.store.history(
            self._principal,
            session_id,
            before=before,
            turn_tokens=self.own_tokens,
            budget_tokens=budget,
        )


def _is_within(history: History, turn_tokens: int, budget: int | None) -> bool:
    """Whether the history fits the budget together with a turn of so many tokens."""
    limit = HISTORY_TOKENS_MAX if budget is None else budget
    return history.tokens + turn_tokens <= limit
