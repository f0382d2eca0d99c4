"""The streams of earlier processes: the ended ones are loaded, those that wait for tool results go on.

When they are read, and what is stored of them, is journaling.py's.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import structlog

from archer_ws.core.exceptions import ArcherError, StorageUnavailable
from archer_ws.sessions.attachments import StreamFiles
from archer_ws.sessions.journaling import Journaling
from archer_ws.sessions.storage.journal import KeptStream, WaitingStream
from archer_ws.sessions.streams.gates import ProviderGate, Slot
from archer_ws.sessions.streams.lost import LeftWaiting
from archer_ws.sessions.streams.recovered import RecoveredStream, identity_of
from archer_ws.sessions.streams.retention import StreamTable
from archer_ws.sessions.streams.rules import StreamRules
from archer_ws.sessions.streams.stream import Stream
from archer_ws.sessions.streams.tombstones import Tombstones
from archer_ws.sessions.turn import Turn
from archer_ws.sessions.turn_services import TurnServices

log = structlog.get_logger(__name__)


class Recovery:
    """Puts the streams that a journal has into the table of streams.

    Args:
        journaling: the journal, which loads what an ended stream said when somebody asks for it.
        services: what all turns share.
        rules: what all streams share.
        table: the table of streams.
        gates: the concurrency of each provider, by its name.
        tombstones: the cancels that came before their streams.
        enter: enters a running stream with its slot wherever running streams are known, and returns its files.
    """

    def __init__(
        self,
        journaling: Journaling,
        services: TurnServices,
        rules: StreamRules[Stream],
        table: StreamTable,
        *,
        gates: Mapping[str, ProviderGate],
        tombstones: Tombstones,
        enter: Callable[[Stream, Slot], StreamFiles],
    ) -> None:
        self._journaling = journaling
        self._services = services
        self._rules = rules
        self._table = table
        self._gates = gates
        self._tombstones = tombstones
        self._enter = enter
        #: The streams that could not go on: their sessions, and why.
        self._not_taken_up: dict[tuple[str, str], tuple[str, str]] = {}

    def take(self, streams: Sequence[KeptStream | WaitingStream]) -> None:
        """Take the next streams that were found in the journal."""
        for kept in streams:
            if isinstance(kept, WaitingStream):
                self._go_on(kept)
            else:
                self._load(kept)
        if self._journaling.has_found:
            self._tombstones.go_on()
        if streams:
            ended = [kept.status for kept in streams if isinstance(kept, KeptStream)]
            log.info(
                "streams_recovered",
                streams=len(streams),
                incomplete=ended.count("incomplete"),
                waiting=len(streams) - len(ended),
            )

    def why_not(self, principal: str, stream_id: str) -> str | None:
        """Why a stream of an earlier process could not go on; None if it could, or there is none with this id."""
        left = self._not_taken_up.get((principal, stream_id))
        return None if left is None else left[1]

    def forget(self, stream: Stream) -> None:
        """Note that a stream is forgotten, which had taken the id of one that could not go on."""
        self._not_taken_up.pop((stream.identity.principal, stream.stream_id), None)

    def session_gone(self, principal: str, session_id: str | None) -> None:
        """Forget the streams of a deleted session that could not go on; None: of all the principal's sessions."""
        for key, (its_session, _) in list(self._not_taken_up.items()):
            if key[0] == principal and session_id in (None, its_session):
                del self._not_taken_up[key]

    def _load(self, kept: KeptStream) -> None:
        """Make an ended stream readable again."""
        try:
            stream = RecoveredStream(
                kept,
                self._rules,
                load=self._journaling.load,
                on_resized=self._table.resized,
                on_gone=self._table.drop,
            )
        except ValueError as damage:
            log.error("stream_damaged", stream_id=kept.record.stream_id, cause=type(damage).__name__)  # noqa: TRY400 - the exception's text may contain the stream's
            return
        self._table.add_ended(stream)

    def _go_on(self, kept: WaitingStream) -> None:
        """Go on with a stream that waits for tool results."""
        record = kept.record
        if self._table.get(record.principal, record.stream_id) is not None:
            return
        try:
            left = LeftWaiting(kept.pieces, kept.loop)
            route = self._services.gateway.resolve(
                left.request.model_copy(update={"provider": record.provider, "model": record.model})
            )
        except ArcherError as cause:
            # It stays stored as it is: the next start may have the provider.
            self._not_taken_up[record.principal, record.stream_id] = record.session_id, cause.message
            log.error(  # noqa: TRY400 - the message says all
                "stream_not_taken_up", stream_id=record.stream_id, provider=record.provider, cause=str(cause)
            )
            return
        self._services.quota.enter_again(record.principal)
        identity = identity_of(
            record,
            on_disconnect=left.request.on_disconnect or "continue",
            reasoning_effort=route.reasoning_effort,
        )
        stream = Stream(identity, self._rules, stream_log=left.log)
        stream.created_at = record.created_at
        slot = self._gates[route.provider].unasked(record.principal)
        files = self._enter(stream, slot)
        with suppress(StorageUnavailable):  # Nothing is removed while the files can't be read.
            files.hold(self._services.attachments.present(record.principal, left.said))
        self._journaling.adopt(stream)
        turn = Turn(
            self._services,
            left.request,
            route,
            stream=stream,
            predecessors=(),
            slot=slot,
            files=files,
            left=left.state,
        )
        stream.go_on(turn, left.exchange(stream.stream_id, turn), left.state.usage)
        if self._tombstones.take(record.principal, record.stream_id):
            stream.cancel("client")
