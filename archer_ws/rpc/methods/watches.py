"""session/watch and session/unwatch: be told of conversations that change (protocol section 26)."""

from collections.abc import Awaitable
from functools import partial

from archer_ws.rpc.context import Context
from archer_ws.rpc.messages import Nothing, SessionWatchParams
from archer_ws.rpc.registry import Method, Reply


def watch(context: Context, params: SessionWatchParams) -> Reply | Awaitable[Reply]:
    """Tell of the conversation, or of all, from the response on."""
    if params.session_id is None:
        return Reply(Nothing(), then=partial(context.watching.begin, None))
    return _watch_one(context, params.session_id)


async def _watch_one(context: Context, session_id: str) -> Reply:
    context.watching.check_room(session_id)
    # Or there is none, and this raises.
    await context.services.conversations.version_of(context.principal, session_id)
    return Reply(Nothing(), then=partial(context.watching.begin, session_id))


def unwatch(context: Context, params: SessionWatchParams) -> Reply:
    """Tell no more of the conversation that was watched by its id; without one, of none."""
    context.watching.end(params.session_id)
    return Reply(Nothing())


METHODS = (
    Method(
        "session/watch",
        SessionWatchParams,
        Nothing,
        watch,
        "Be told of your conversations as they change (session/changed): of one, or of all.",
    ),
    Method("session/unwatch", SessionWatchParams, Nothing, unwatch, "Be told no more of that one, or of any."),
)
