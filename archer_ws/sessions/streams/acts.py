"""Serialises the client requests to a running stream, called acts: approvals, claims, results and steers (protocol
section 23, rule 1).

An act goes through these phases: its files are stored, it is decided, stored (if the store is on a disk), its outcome
is returned to the client, and then its event is appended to the log. Acts run one at a time, in the order of their
arrival. So an act finds the earlier ones stored, or without any effect, and each event has the number under which it
was stored. An act runs to its end even if the client that requested it has disconnected. If the stream ends first, acts
that are not decided get their outcome at once: the disk that their files wait for may stand still.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

from archer_ws.core.deferred import afterwards
from archer_ws.core.exceptions import ArcherError, ContentTooLarge
from archer_ws.core.limits import EXCHANGED_BYTES_MAX
from archer_ws.sessions.streams.events import ControlEvent, MakeEvent
from archer_ws.sessions.streams.log import StreamLog
from archer_ws.sessions.tool_models import ToolOutcome


@dataclass(frozen=True, slots=True)
class Act:
    """A decided act: its outcome and its effects."""

    #: Returned to the client once the act is stored.
    outcome: ToolOutcome
    #: Called when the outcome is returned.
    effect: Callable[[], None]
    #: Its event, appended after the outcome is returned; None if it has no event.
    make: MakeEvent | None = None
    #: Called if the act could not be stored, or came too late.
    undo: Callable[[], None] = lambda: None


#: Decides an act when its turn has come. Returns an outcome alone if there is nothing to store.
Decide = Callable[[], Act | ToolOutcome]
#: Stores the files of an act, before it is decided.
KeepFiles = Callable[[], Awaitable[None]]


class Acts:
    """The acts of one stream.

    Args:
        stream_log: the log that gets their events.
        keep: stores the next events of the log, and what a restart needs.
        name: the name of their tasks.
    """

    def __init__(
        self, stream_log: StreamLog, keep: Callable[[Sequence[ControlEvent]], Awaitable[None]], name: str
    ) -> None:
        #: Held by the act that is next, until it holds `order`: other code that appends events need not wait for files.
        self._next = asyncio.Lock()
        #: Held by an act from its decision until its event is appended, and by other code that appends events.
        self.order = asyncio.Lock()
        self.is_over = False
        #: Makes the error of later acts, if they get one instead of the outcome of their `over`.
        self._refusal: Callable[[], ArcherError] | None = None
        #: The bytes of acts that wait for their turn or are being stored.
        self.pending_bytes = 0
        #: The bytes of all accepted acts.
        self._taken_bytes = 0
        self._log = stream_log
        self._keep = keep
        self._name = name
        #: The event of an act whose outcome was returned, until it is appended.
        self._untold: MakeEvent | None = None
        self._running: set[asyncio.Task[None]] = set()
        #: The futures of acts whose turn has not come, each with its `over`.
        self._undecided: dict[asyncio.Future[ToolOutcome], Callable[[], ToolOutcome]] = {}

    async def quiet(self) -> None:
        """Wait until all acts have run."""
        while self._running:
            await asyncio.wait(self._running)

    def begin(
        self, decide: Decide, *, over: Callable[[], ToolOutcome], size: int = 0, keep_files: KeepFiles | None = None
    ) -> "asyncio.Future[ToolOutcome]":
        """Begin an act, and return the future of its outcome.

        The future gets the exception if `keep_files`, `decide` or storing the act raises one.

        Args:
            decide: decides the act.
            over: returns the outcome if the stream ends first.
            size: the bytes of its content.
            keep_files: stores its files, unless the stream ends first; None if it has none.

        Raises:
            ContentTooLarge: the content of the stream's acts together would exceed EXCHANGED_BYTES_MAX.
        """
        if size and self._taken_bytes + self.pending_bytes + size > EXCHANGED_BYTES_MAX:
            raise ContentTooLarge(
                f"the results and messages of this stream would exceed {EXCHANGED_BYTES_MAX} bytes of text",
                hint="Send only the part that the model needs.",
            )
        outcome: asyncio.Future[ToolOutcome] = asyncio.get_running_loop().create_future()
        running = asyncio.create_task(self._run(decide, over, outcome, size, keep_files), name=self._name)
        self._running.add(running)
        self._undecided[outcome] = over
        self.pending_bytes += size
        running.add_done_callback(partial(self._done, outcome))
        return outcome

    async def keep(self, makes: Sequence[MakeEvent]) -> None:
        """Store the log's next events before they are appended. The caller holds `order`.

        Raises:
            StorageUnavailable, StorageFull: they were not stored.
        """
        await self._keep([make(seq) for seq, make in enumerate(makes, self._log.head_seq + 1)])

    def end(self, refusal: Callable[[], ArcherError] | None = None) -> None:
        """Give all later acts the outcome of their `over`, or this error. The event of an act whose outcome was
        returned is appended now."""
        self.is_over, self._refusal = True, refusal
        self._tell()

    def answer_undecided(self) -> None:
        """After `end`: give the acts that are not decided yet the outcome of later ones, without waiting for their
        files."""
        undecided, self._undecided = self._undecided, {}
        for outcome, over in undecided.items():
            if not outcome.done():
                try:
                    outcome.set_result(self._late(over))
                except ArcherError as refusal:
                    outcome.set_exception(refusal)

    def _late(self, over: Callable[[], ToolOutcome]) -> ToolOutcome:
        if self._refusal is not None:
            raise self._refusal()
        return over()

    async def _run(
        self,
        decide: Decide,
        over: Callable[[], ToolOutcome],
        outcome: "asyncio.Future[ToolOutcome]",
        size: int,
        keep_files: KeepFiles | None,
    ) -> None:
        async with self._next:
            if keep_files is not None and not self.is_over:
                try:
                    await keep_files()
                except Exception as cause:  # noqa: BLE001 - whoever asked gets it
                    self.pending_bytes -= size
                    _fail(outcome, cause)
                    return
            await self.order.acquire()
        self._undecided.pop(outcome, None)
        decided: Act | ToolOutcome | None = None
        try:
            decided = self._late(over) if self.is_over else decide()
            if isinstance(decided, Act):
                await self.keep([decided.make] if decided.make is not None else [])
                if self.is_over:
                    decided.undo()
                    decided = self._late(over)
        except BaseException as cause:
            if isinstance(decided, Act):
                decided.undo()
            self.order.release()
            self.pending_bytes -= size
            if not isinstance(cause, Exception):
                raise
            _fail(outcome, cause)
            return
        self.pending_bytes -= size
        if not outcome.done():
            outcome.set_result(decided.outcome if isinstance(decided, Act) else decided)
        if not isinstance(decided, Act):
            self.order.release()
            return
        self._taken_bytes += size
        decided.effect()
        if decided.make is None:
            self.order.release()
            return
        self._untold = decided.make
        # The requesting task is woken in the next loop iteration and responds there; `_tell` runs in the one after it.
        afterwards(self._tell)

    def _tell(self) -> None:
        make, self._untold = self._untold, None
        if make is not None:
            self._log.append(make)
            self.order.release()

    def _done(self, outcome: "asyncio.Future[ToolOutcome]", running: asyncio.Task[None]) -> None:
        self._running.discard(running)
        self._undecided.pop(outcome, None)
        if running.cancelled():
            outcome.cancel()  # The event loop is closing.


def _fail(outcome: "asyncio.Future[ToolOutcome]", cause: Exception) -> None:
    if not outcome.done():  # Done if the client's request was cancelled.
        outcome.set_exception(cause)


def at_once(outcome: ToolOutcome) -> "asyncio.Future[ToolOutcome]":
    """An outcome that needs no act: nothing has to be stored for it."""
    done: asyncio.Future[ToolOutcome] = asyncio.get_running_loop().create_future()
    done.set_result(outcome)
    return done
