"""One call that is run here: approval, claim, run, answer (protocol section 23).

Owns the order of these, and what is remembered of them so that nothing is done twice: what a person said, the claim,
the answer. What is said to the server is harmless to repeat, and the link repeats it. What a function takes and gives
is for tools.py and results.py.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

from archer_ws.client.asking import new_id, outcome_of
from archer_ws.client.calling import called
from archer_ws.client.errors import ClientClosed, ClientError, ClosedByServer, NotArcher, Refused, Unreachable
from archer_ws.client.events import ToolCall, ToolUpdate
from archer_ws.client.link import Link
from archer_ws.client.requests import Request
from archer_ws.client.results import content_of
from archer_ws.client.tools import Tool, WrongArguments
from archer_ws.client.uploads import Uploads

_log = logging.getLogger(__name__)

#: Whether a call may run; and why not, which the model is told.
Approval: TypeAlias = bool | tuple[bool, str | None]
Approve: TypeAlias = Callable[[ToolCall], Approval | Awaitable[Approval]]

#: How long is waited before something is said again that could not be taken, where the server does not say.
_RETRY_MS = 1000
#: The longest reason that the server takes, in characters.
_REASON_CHARS_MAX = 10_000
#: There is no connection, and so nothing was said.
_UNSAID = (Unreachable, ClosedByServer, NotArcher, ClientClosed)
#: Outcomes behind which nothing is left to be done; others, and those of newer servers, may still lead on.
_OVER = frozenset({"already_answered", "already_ended", "not_found"})


class CallRun:
    """One call's way to its answer. Where the connection is given up it stops, and goes on from there with the next.

    Args:
        call: what the model asked for.
        tool: the function.
        approve: who is asked where somebody must agree; None: whoever approves over the wire.
        link: what carries what is said of it.
        uploads: what carries the files that it gives.
        break_off: cancels a task, and has closing wait for its end.
    """

    def __init__(
        self,
        call: ToolCall,
        tool: Tool[..., Any],
        approve: Approve | None,
        *,
        link: Link,
        uploads: Uploads,
        break_off: Callable[[asyncio.Task[None]], None],
    ) -> None:
        self._call = call
        self._tool = tool
        self._approve = approve
        self._link = link
        self._uploads = uploads
        self._break_off = break_off
        self._told: dict[str, Any] = {"stream_id": call.stream_id, "call_id": call.call_id}
        self._claim = new_id("claim")
        #: Approved by whoever; and what was answered here, once somebody was asked.
        self._approved = asyncio.Event()
        self._verdict: tuple[bool, str | None] | None = None
        #: Set when another's claim has lapsed.
        self._reopened = asyncio.Event()
        self._is_in_tool = False
        self._result: dict[str, Any] | None = None
        self._is_finished = False
        self._task: asyncio.Task[None] | None = None

    def go_on(self) -> None:
        """Begin; on a further connection, go on where the last one was given up, or hold what runs there as well."""
        if self._is_in_tool:
            params = {**self._told, "claim": self._claim}
            self._link.put(Request("tool/claim", params, self._claimed_again, lambda _: None, is_of_connection=True))
        elif not self._is_finished and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._go(), name=f"archer-call {self._call.call_id}")

    def settle(self) -> None:
        """It is answered, or nobody waits for it."""
        self._is_finished = True
        if self._task is not None:
            self._break_off(self._task)

    @property
    def text(self) -> str | None:
        """The text of the tool result that was sent; None before there is one, and where it consists of parts."""
        content = None if self._result is None else self._result["content"]
        return content if isinstance(content, str) else None

    def updated(self, update: ToolUpdate) -> None:
        """The call has moved."""
        if update.approved:
            self._approved.set()
        if update.state == "pending":
            self._reopened.set()

    def _claimed_again(self, result: Any) -> None:
        if not self._is_in_tool or self._task is None:
            return
        match outcome_of(result):
            case "taken":
                # The claim lapsed meanwhile, and another runs it; should that one be lost, it is open once more.
                self._break_off(self._task)
                self._is_in_tool, self._task = False, None
                self._approved.set()
                self.go_on()
            case outcome if outcome in _OVER:
                self.settle()

    async def _go(self) -> None:
        try:
            await self._until_result()
        except _UNSAID:
            return  # To be gone on with; the stream's reader is told.
        except ClientError:
            pass  # The server does not take what is said of this call: others may still answer it.
        self._is_finished = True

    async def _until_result(self) -> None:
        if self._result is None:
            if not await self._may_run() or not await self._claimed():
                return
            self._is_in_tool = True
            self._result = await self._run()
            self._is_in_tool = False
        await self._send_result(self._result)

    async def _may_run(self) -> bool:
        """Whether a person agrees, where one must."""
        if self._approved.is_set():
            return True
        if self._call.needs_approval:
            return await self._is_approved()
        return not self._tool.needs_approval or await self._is_agreed_to()

    async def _is_approved(self) -> bool:
        """Whether whoever is asked approves the call, here or elsewhere; the server is told."""
        said = await self._ask()
        if said is None:
            return True
        approved, reason = said
        told = {"approved": approved, **({"reason": reason[:_REASON_CHARS_MAX]} if reason else {})}
        return await self._say("tool/approve", told) not in _OVER and approved

    async def _is_agreed_to(self) -> bool:
        """Whether whoever is asked here agrees, where the request did not say that somebody must."""
        said = (False, "There is nobody to ask.") if self._approve is None else await self._ask()
        if said is None or said[0]:
            return True
        self._result = {"content": said[1] or "The call was denied.", "status": "denied"}
        await self._send_result(self._result)
        return False

    async def _ask(self) -> tuple[bool, str | None] | None:
        """What is said here, asked once; None where it is approved elsewhere before."""
        if self._verdict is not None:
            return self._verdict
        if self._approve is None:
            await self._approved.wait()
            return None
        asked = asyncio.ensure_future(_verdict(self._approve, self._call))
        approved = asyncio.ensure_future(self._approved.wait())
        try:
            await asyncio.wait({asked, approved}, return_when=asyncio.FIRST_COMPLETED)
            self._verdict = asked.result() if asked.done() else None
        finally:
            asked.cancel()
            approved.cancel()
            await asyncio.gather(asked, approved, return_exceptions=True)
        return self._verdict

    async def _claimed(self) -> bool:
        """Whether the call is ours, once nobody else has it."""
        while True:
            self._reopened.clear()
            was_approved = self._approved.is_set()
            match await self._say("tool/claim", {"claim": self._claim}):
                case "claimed":
                    return True
                case "needs_approval" if not was_approved:
                    await self._approved.wait()
                case "taken":
                    await self._reopened.wait()
                case _:
                    return False

    async def _run(self) -> dict[str, Any]:
        """What the function gives, or what went wrong, as the model is told."""
        try:
            async with asyncio.timeout(self._tool.timeout_s) as limit:
                given = await self._tool.run(self._call)
            return {"content": await content_of(given, self._uploads), "status": "ok"}
        except asyncio.CancelledError as error:
            if _is_cancelled():
                raise
            return _failure(error)
        except TimeoutError as error:
            if limit.expired():
                return _failure(f"The tool did not come to an end within {self._tool.timeout_s:g} s.")
            return _failure(error)
        except WrongArguments as error:
            return _failure(str(error))
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a function raises, the model is told
            _log.info("the tool %s failed", self._tool.name, exc_info=error)
            return _failure(error)

    async def _send_result(self, result: dict[str, Any]) -> None:
        claim = {} if result["status"] == "denied" else {"claim": self._claim}
        try:
            await self._say("tool/result", {**result, **claim})
        except _UNSAID:
            raise
        except ClientError as error:
            # Too large, or not what the server takes: a call without an answer would hold up the stream.
            self._result = _failure(f"The tool's result could not be sent: {error.message}")
            await self._say("tool/result", {**self._result, **claim})

    async def _say(self, method: str, params: Mapping[str, Any]) -> str:
        while True:
            try:
                return outcome_of(await self._link.request(method, {**self._told, **params}))
            except Refused as refused:
                # A server whose disk is slow, or that stops; the one that comes after it takes what is said.
                if not refused.info.retryable:
                    raise
                await asyncio.sleep((refused.info.retry_after_ms or _RETRY_MS) / 1000)


async def _verdict(approve: Approve, call: ToolCall) -> tuple[bool, str | None]:
    try:
        said = await called(approve, call)
    except Exception as error:  # noqa: BLE001 - whoever can't be asked has not agreed
        return False, f"Nobody could be asked: {_words(error)}"
    return (bool(said[0]), said[1]) if isinstance(said, tuple) else (bool(said), None)


def _failure(error: str | BaseException) -> dict[str, Any]:
    return {"content": error if isinstance(error, str) else _words(error), "status": "error"}


def _words(error: BaseException) -> str:
    """An error's message; its kind, where it has none."""
    return str(error).strip() or type(error).__name__


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
