"""tool/approve, tool/claim, tool/result and stream/steer: what a client sends to a stream that goes on after tool
calls.

Like a cancel, these are never refused for load. Each registers its message at once, so that the next frame finds it,
and its response is sent when the message is stored; the event that it causes comes after the response.
"""

from collections.abc import Awaitable

from archer_ws.core.limits import CLAIM_S
from archer_ws.rpc.context import Context
from archer_ws.rpc.registry import Method, Reply
from archer_ws.rpc.tool_messages import ApproveParams, ClaimParams, ResultParams, SteerParams
from archer_ws.sessions.tool_models import ToolOutcome


def approve(context: Context, params: ApproveParams) -> Awaitable[Reply]:
    """Decide whether a call may run."""
    return _reply(context.services.manager.calls.approve(context.principal, params.stream_id, params.call_id, params))


def claim(context: Context, params: ClaimParams) -> Awaitable[Reply]:
    """Claim a call; the claim lasts as long as the connection, and a while longer."""
    return _reply(
        context.services.manager.calls.claim(
            context.principal, params.stream_id, params.call_id, params.claim, holder=context.claims, ttl_s=CLAIM_S
        )
    )


def result(context: Context, params: ResultParams) -> Awaitable[Reply]:
    """Send a call's result."""
    return _reply(
        context.services.manager.calls.add_result(context.principal, params.stream_id, params.call_id, params)
    )


def steer(context: Context, params: SteerParams) -> Awaitable[Reply]:
    """Put a message into a running stream."""
    return _reply(context.services.manager.calls.steer(context.principal, params.stream_id, params))


async def _reply(outcome: Awaitable[ToolOutcome]) -> Reply:
    return Reply(await outcome)


METHODS = (
    Method(
        "tool/approve",
        ApproveParams,
        ToolOutcome,
        approve,
        "Decide whether a call that needs approval may run; the first decision counts.",
        is_control=True,
    ),
    Method(
        "tool/claim",
        ClaimParams,
        ToolOutcome,
        claim,
        "Claim a call before you run it, so that nobody else does; harmless to repeat.",
        is_control=True,
    ),
    Method(
        "tool/result",
        ResultParams,
        ToolOutcome,
        result,
        "Send the result of a call that a stream waits for; the first result counts.",
        is_control=True,
    ),
    Method(
        "stream/steer",
        SteerParams,
        ToolOutcome,
        steer,
        "Put a user's message into a running stream, for its next step.",
        is_control=True,
    ),
)
