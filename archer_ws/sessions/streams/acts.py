"""In which order things are said to a running stream, and when each counts (protocol section 23, rule 1).

An act is decided, kept (where the store is on a disk), answered, and told in the log behind its answer; only then comes
the next, in the order in which they came. So each finds the one before it kept, or as if it had never been, and each
event has the number under which it was kept. An act runs to its end, also where who asked for it is gone.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

from archer_ws.core.deferred import afterwards
from archer_ws.core.exceptions import ContentTooLarge
from archer_ws.core.limits import EXCHANGED_BYTES_MAX
from archer_ws.sessions.streams.events import ControlEvent, MakeEvent
from archer_ws.sessions.streams.log import StreamLog
from archer_ws.sessions.tool_models import ToolOutcome


@dataclass(frozen=True, slots=True)
class Act:
    """What is to become of something that was said."""

    #: Given once it is kept.
    outcome: ToolOutcome
    #: Called then.
    effect: Callable[[], None]
    #: What tells it, behind the answer; None where nobody is told.
    make: MakeEvent | None = None
    #: Called where it comes to nothing.
    undo: Callable[[], None] = lambda: None


#: Called when it is the act's turn: what is to become of it, or what is answered where nothing is to be kept.
Decide = Callable[[], Act | ToolOutcome]


class Acts:
    """One stream's.

    Args:
        stream_log: where they are told.
        keep: keeps the next events of the log, and all that a restart needs.
        name: of their tasks.
    """

    def __init__(
        self, stream_log: StreamLog, keep: Callable[[Sequence[ControlEvent]], Awaitable[None]], name: str
    ) -> None:
        #: Held by an act from its decision until it is told, and by whatever else tells events.
        self.order = asyncio.Lock()
        self.is_over = False
        #: Of what waits for its turn, or is being kept.
        self.pending_bytes = 0
        #: Of all that was accepted.
        self._taken_bytes = 0
        self._log = stream_log
        self._keep = keep
        self._name = name
        #: Acknowledged, and told behind the acknowledgement.
        self._untold: MakeEvent | None = None
        self._running: set[asyncio.Task[None]] = set()

    async def quiet(self) -> None:
        """Wait until all that was said is answered."""
        while self._running:
            await asyncio.wait(self._running)

    def begin(self, decide: Decide, *, over: Callable[[], ToolOutcome], size: int = 0) -> "asyncio.Future[ToolOutcome]":
        """Something of `size` bytes was said; `over` is what is answered where the end comes first.

        What `decide` raises, and what keeping it raises, is the answer's.

        Raises:
            ContentTooLarge: there is no room for so much, beside what was said before.
        """
        if size and self._taken_bytes + self.pending_bytes + size > EXCHANGED_BYTES_MAX:
            raise ContentTooLarge(
                f"the results and messages of this stream would be more than {EXCHANGED_BYTES_MAX} bytes of text",
                hint="Answer with less: the part that the model needs.",
            )
        outcome: asyncio.Future[ToolOutcome] = asyncio.get_running_loop().create_future()
        running = asyncio.create_task(self._run(decide, over, outcome, size), name=self._name)
        self._running.add(running)
        self.pending_bytes += size
        running.add_done_callback(partial(self._done, outcome))
        return outcome

    async def keep(self, makes: Sequence[MakeEvent]) -> None:
        """Keep what will be the log's next events; within `order`.

        Raises:
            StorageUnavailable, StorageFull: they are not kept.
        """
        await self._keep([make(seq) for seq, make in enumerate(makes, self._log.head_seq + 1)])

    def end(self) -> None:
        """Nothing more counts but what is acknowledged, which is told now."""
        self.is_over = True
        self._tell()

    async def _run(
        self, decide: Decide, over: Callable[[], ToolOutcome], outcome: "asyncio.Future[ToolOutcome]", size: int
    ) -> None:
        await self.order.acquire()
        decided: Act | ToolOutcome | None = None
        try:
            decided = over() if self.is_over else decide()
            if isinstance(decided, Act):
                await self.keep([decided.make] if decided.make is not None else [])
                if self.is_over:
                    decided.undo()
                    decided = over()
        except BaseException as cause:
            if isinstance(decided, Act):
                decided.undo()
            self.order.release()
            self.pending_bytes -= size
            if not isinstance(cause, Exception):
                raise
            if not outcome.done():  # Else who asked is gone.
                outcome.set_exception(cause)
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
        # Who asked is woken in the next turn of the loop, and answered there; this comes in the one behind it.
        afterwards(self._tell)

    def _tell(self) -> None:
        make, self._untold = self._untold, None
        if make is not None:
            self._log.append(make)
            self.order.release()

    def _done(self, outcome: "asyncio.Future[ToolOutcome]", running: asyncio.Task[None]) -> None:
        self._running.discard(running)
        if running.cancelled():
            outcome.cancel()  # It was cut short, with its loop.


def at_once(outcome: ToolOutcome) -> "asyncio.Future[ToolOutcome]":
    """An outcome that needs no act: nothing has to be stored for it."""
    done: asyncio.Future[ToolOutcome] = asyncio.get_running_loop().create_future()
    done.set_result(outcome)
    return done
