"""session/watch and session/unwatch: notifications when conversations change (protocol section 26)."""

from collections.abc import Awaitable
from functools import partial

from archer_ws.rpc.context import Context
from archer_ws.rpc.messages import Nothing
from archer_ws.rpc.registry import Method, Reply
from archer_ws.rpc.session_messages import SessionWatchParams


def watch(context: Context, params: SessionWatchParams) -> Reply | Awaitable[Reply]:
    """Notify of the conversation's changes, or of all conversations', from the response on."""
    if params.session_id is None:
        return Reply(Nothing(), then=partial(context.watching.begin, None))
    return _watch_one(context, params.session_id)


async def _watch_one(context: Context, session_id: str) -> Reply:
    context.watching.check_room(session_id)
    # Raises if there is none.
    await context.services.conversations.version_of(context.principal, session_id)
    return Reply(Nothing(), then=partial(context.watching.begin, session_id))


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
