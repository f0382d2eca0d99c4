"""session/watch and session/unwatch: notifications when conversations change (protocol section 26)."""

from collections.abc import Awaitable
from functools import partial

from archer_ws.rpc.context import Context
from archer_ws.rpc.messages import Nothing
from archer_ws.rpc.registry import Method, Reply
from archer_ws.rpc.session_messages import SessionWatchParams
from archer_ws.rpc.watching import ExpectedWatch


def watch(context: Context, params: SessionWatchParams) -> Reply | Awaitable[Reply]:
    """Notify of the conversation's changes, or of all conversations', from the response on."""
    if params.session_id is None:
        return Reply(Nothing(), then=context.watching.begin_all)
    return _watch_one(context, context.watching.expect(params.session_id))


async def _watch_one(context: Context, expected: ExpectedWatch) -> Reply:
    try:
        # Raises if there is none.
        await context.services.conversations.version_of(context.principal, expected.session_id)
    except BaseException:
        context.watching.forget(expected)
        raise
    return Reply(Nothing(), then=partial(context.watching.begin, expected))


def unwatch(context: Context, params: SessionWatchParams) -> Reply:
    """Stop notifying of the conversation that was watched by its id; without an id, of all."""
    context.watching.end(params.session_id)
    return Reply(Nothing())


METHODS = (
    Method(
        "session/watch",
        SessionWatchParams,
        Nothing,
        watch,
        "Get a notification (session/changed) whenever a conversation changes: one, or any of yours.",
    ),
    Method("session/unwatch", SessionWatchParams, Nothing, unwatch, "Stop watching that conversation, or all."),
)
