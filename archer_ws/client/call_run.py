"""One tool call that runs here: approval, claim, run, result (protocol section 23).

Owns the order of these steps, and remembers the approval, the claim and the result, so that no step is done twice. The
requests to the server are harmless to repeat, and the link repeats them after a loss. A function's arguments are read
in tools.py, its return value is converted in results.py.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

from archer_ws.client.asking import new_id, outcome_of
from archer_ws.client.calling import called
from archer_ws.client.errors import (
    ClientClosed,
    ClientError,
    ClosedByServer,
    NotArcher,
    Refused,
    Unanswered,
    Unreachable,
)
from archer_ws.client.events import ToolCall, ToolUpdate
from archer_ws.client.link import Link
from archer_ws.client.requests import Losses, Request
from archer_ws.client.results import SentContent, content_of
from archer_ws.client.tools import Tool, WrongArguments
from archer_ws.client.uploads import Uploads

_log = logging.getLogger(__name__)

#: Whether a call may run, and where it may not, the reason that is sent to the model.
Approval: TypeAlias = bool | tuple[bool, str | None]
Approve: TypeAlias = Callable[[ToolCall], Approval | Awaitable[Approval]]

#: How long to wait before a refused request is repeated, where the server names no time, in milliseconds.
_RETRY_MS = 1000
#: The limit of a denial's reason, in characters.
_REASON_CHARS_MAX = 10_000
#: There is no connection, so the request was not sent.
_UNSENT = (Unreachable, ClosedByServer, NotArcher, ClientClosed)
#: Outcomes after which there is nothing left to do. After others, and those of newer servers, the call may go on.
_OVER = frozenset({"already_answered", "already_ended", "not_found"})


class CallRun:
    """One tool call, from its event to its result. It stops where the client gives up the connection, and goes on from
    that step with the next one.

    Args:
        call: the model's call.
        tool: the function.
        approve: asked where a person must agree; None: the call waits for a `tool/approve` from any client.
        link: sends the requests.
        uploads: sends the files of the result.
        break_off: cancels a task, and has the closing of the client wait for its end.
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
        self._named = call.call_id, tool.name
        self._claim = new_id("claim")
        #: Set once the call is approved, here or elsewhere. `_verdict`: what the person asked here decided.
        self._approved = asyncio.Event()
        self._verdict: tuple[bool, str | None] | None = None
        #: Set when another client's claim has expired.
        self._reopened = asyncio.Event()
        self._is_in_tool = False
        #: Whether the claim of a running function is renewed on each connection, and those lost meanwhile.
        self._is_claim_renewed = True
        self._losses = Losses()
        self._result: dict[str, Any] | None = None
        self._is_finished = False
        self._task: asyncio.Task[None] | None = None

    def go_on(self) -> None:
        """Begin. On a later connection: renew the claim of a running function, or go on with the step that was left."""
        if self._is_in_tool:
            if self._is_claim_renewed:
                self._link.put(self._renewing())
        elif not self._is_finished and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._go(), name=f"archer-call {self._call.call_id}")

    def settle(self) -> None:
        """The call has its result, or its stream has ended: cancel the function."""
        self._is_finished = True
        if self._task is not None:
            self._break_off(self._task)

    @property
    def content(self) -> SentContent | None:
        """The content of the tool result that was sent: a text, or parts; None before there is one."""
        return None if self._result is None else self._result["content"]

    def updated(self, update: ToolUpdate) -> None:
        """The call's state has changed."""
        if update.approved:
            self._approved.set()
        if update.state == "pending":
            self._reopened.set()

    def _renewing(self) -> Request:
        def on_error(error: ClientError) -> None:
            # The connection carries other streams, too. Maybe the result arrives before the claim lapses.
            self._is_claim_renewed = not isinstance(error, Unanswered)

        params = {**self._told, "claim": self._claim}
        return Request("tool/claim", params, self._claimed_again, on_error, is_of_connection=True, losses=self._losses)

    def _claimed_again(self, result: Any) -> None:
        if not self._is_in_tool or self._task is None:
            return
        match outcome_of(result):
            case "taken":
                # The claim expired meanwhile, and another client runs the call. If that one is lost, it is open again.
                self._break_off(self._task)
                self._is_in_tool, self._task = False, None
                self._approved.set()
                self.go_on()
            case outcome if outcome in _OVER:
                self.settle()

    async def _go(self) -> None:
        try:
            await self._until_result()
        except _UNSENT:
            return  # `go_on` continues here; the stream itself reports the loss to its reader.
        except ClientError as error:
            # Another client may still send its result.
            _log.warning("the call %s of the tool %s gets no result from here: %s", *self._named, error)
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
        """Whether a person approves the call, here or elsewhere; a decision made here is sent to the server."""
        said = await self._ask()
        if said is None:
            return True
        approved, reason = said
        told = {"approved": approved, **({"reason": reason[:_REASON_CHARS_MAX]} if reason else {})}
        outcome = await self._send("tool/approve", told)
        if outcome == "too_late":
            # Somebody else approved it first, so that the stream waits for it; but who was asked here said no.
            await self._send_denied(reason)
        return outcome not in _OVER and approved

    async def _is_agreed_to(self) -> bool:
        """Whether a person here agrees, where the function needs approval but its declaration did not say so."""
        said = (False, "There is nobody to ask.") if self._approve is None else await self._ask()
        if said is None or said[0]:
            return True
        await self._send_denied(said[1])
        return False

    async def _send_denied(self, reason: str | None) -> None:
        self._result = {"content": reason or "The call was denied.", "status": "denied"}
        await self._send_result(self._result)

    async def _ask(self) -> tuple[bool, str | None] | None:
        """The decision made here; the person is asked once. None where the call was approved elsewhere first."""
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
        """Claim the call, waiting while another client has it; whether the claim holds."""
        while True:
            self._reopened.clear()
            was_approved = self._approved.is_set()
            match await self._send("tool/claim", {"claim": self._claim}):
                case "claimed":
                    return True
                case "needs_approval" if not was_approved:
                    await self._approved.wait()
                case "taken":
                    await self._reopened.wait()
                case _:
                    return False

    async def _run(self) -> dict[str, Any]:
        """Run the function; its return value or its error as the tool result."""
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
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the model gets whatever a function raises
            _log.info("the tool %s failed", self._tool.name, exc_info=error)
            return _failure(error)

    async def _send_result(self, result: dict[str, Any]) -> None:
        claim = {} if result["status"] == "denied" else {"claim": self._claim}
        try:
            await self._send("tool/result", {**result, **claim})
        except _UNSENT:
            raise
        except ClientError as error:
            # The result is too large or invalid. Send an error instead: the stream waits for every call's result.
            self._result = _failure(f"The tool's result could not be sent: {error.message}")
            await self._send("tool/result", {**self._result, **claim})

    async def _send(self, method: str, params: Mapping[str, Any]) -> str:
        while True:
            try:
                return outcome_of(await self._link.request(method, {**self._told, **params}))
            except Refused as refused:
                # The server's disk is slow, or it is stopping. Repeat the request; after a restart it is accepted.
                if not refused.info.retryable:
                    raise
                await asyncio.sleep((refused.info.retry_after_ms or _RETRY_MS) / 1000)


async def _verdict(approve: Approve, call: ToolCall) -> tuple[bool, str | None]:
    try:
        said = await called(approve, call)
        approved, reason = (said[0], said[1]) if isinstance(said, tuple) else (said, None)
        if not isinstance(approved, bool):
            # A text may be a person's "no".
            raise TypeError(f"approve returned {type(approved).__name__}, and not True or False")
        return approved, None if reason is None else _sendable(str(reason))
    except (Exception, asyncio.CancelledError) as error:
        # A person who can't be asked has not agreed, also where it is what the function waited for that was cancelled.
        if _is_cancelled():
            raise
        return False, f"Nobody could be asked: {_words(error)}"


def _failure(error: str | BaseException) -> dict[str, Any]:
    return {"content": _sendable(error) if isinstance(error, str) else _words(error), "status": "error"}


def _words(error: BaseException) -> str:
    """An error's message, or the name of its class where it has none."""
    return _sendable(str(error).strip()) or type(error).__name__


def _sendable(text: str) -> str:
    """The text with each lone surrogate replaced, which a terminal or a file's name can have: the server refuses these
    (protocol section 1), and then a denial or an error would be lost.
    """
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
