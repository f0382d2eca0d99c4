"""tool/approve, tool/claim, tool/result and stream/steer: what a client says to a stream that goes on behind calls.

Never refused for room, as a cancel is not. Each registers what it was told at once, so that the next frame finds it,
and is answered when it is kept; the event that it causes comes behind the answer.
"""

from collections.abc import Awaitable

from archer_ws.core.limits import CLAIM_S
from archer_ws.rpc.context import Context
from archer_ws.rpc.registry import Method, Reply
from archer_ws.rpc.tool_messages import ApproveParams, ClaimParams, ResultParams, SteerParams
from archer_ws.sessions.tool_models import ToolAnswer


def approve(context: Context, params: ApproveParams) -> Awaitable[Reply]:
    """Say whether a call may run."""
    return _answered(
        context.services.manager.calls.approve(context.principal, params.stream_id, params.call_id, params)
    )


def claim(context: Context, params: ClaimParams) -> Awaitable[Reply]:
    """Take a call; it is held for as long as the connection lives, and a while."""
    return _answered(
        context.services.manager.calls.claim(
            context.principal, params.stream_id, params.call_id, params.claim, holder=context.claims, ttl_s=CLAIM_S
        )
    )


def result(context: Context, params: ResultParams) -> Awaitable[Reply]:
    """Answer a call."""
    return _answered(context.services.manager.calls.answer(context.principal, params.stream_id, params.call_id, params))


def steer(context: Context, params: SteerParams) -> Awaitable[Reply]:
    """Put a message into a running stream."""
    return _answered(context.services.manager.calls.steer(context.principal, params.stream_id, params))


async def _answered(answer: Awaitable[ToolAnswer]) -> Reply:
    return Reply(await answer)


METHODS = (
    Method(
        "tool/approve",
        ApproveParams,
        ToolAnswer,
        approve,
        "Say whether a call that needs approval may run; the first word counts.",
        is_control=True,
    ),
    Method(
        "tool/claim",
        ClaimParams,
        ToolAnswer,
        claim,
        "Take a call before you run it, so that nobody else does; harmless to repeat.",
        is_control=True,
    ),
    Method(
        "tool/result",
        ResultParams,
        ToolAnswer,
        result,
        "Answer a call that a stream waits for; the first answer counts.",
        is_control=True,
    ),
    Method(
        "stream/steer",
        SteerParams,
        ToolAnswer,
        steer,
        "Put a user's message into a running stream, for its next step.",
        is_control=True,
    ),
)
