"""session/…: the conversations, as over REST."""

from archer_ws.rpc.context import Context
from archer_ws.rpc.messages import Nothing, SessionGetParams, SessionIdParams, SessionListParams, SessionUpdateParams
from archer_ws.rpc.registry import Method, Reply
from archer_ws.sessions.models import Session, SessionCreate, SessionDetail, SessionPage


async def create(context: Context, params: SessionCreate) -> Reply:
    """A new conversation, or the existing one with that id."""
    session, _ = await context.services.conversations.create(context.principal, params)
    return Reply(session)


async def get(context: Context, params: SessionGetParams) -> Reply:
    """One conversation with a page of its messages."""
    conversations = context.services.conversations
    return Reply(
        await conversations.get(context.principal, params.session_id, limit=params.limit, cursor=params.cursor)
    )


async def list_sessions(context: Context, params: SessionListParams) -> Reply:
    """Conversations, newest first."""
    page = await context.services.conversations.page(context.principal, params.limit, params.cursor)
    return Reply(page)


async def update(context: Context, params: SessionUpdateParams) -> Reply:
    """Change the title or the metadata."""
    conversations = context.services.conversations
    return Reply(await conversations.update(context.principal, params.session_id, params))


async def delete(context: Context, params: SessionIdParams) -> Reply:
    """End its streams and forget it."""
    await context.services.conversations.delete(context.principal, params.session_id)
    return Reply(Nothing())


METHODS = (
    Method("session/create", SessionCreate, Session, create, "A new conversation, or the one with that session_id."),
    Method(
        "session/get", SessionGetParams, SessionDetail, get, "One conversation with its newest messages, or older ones."
    ),
    Method("session/list", SessionListParams, SessionPage, list_sessions, "Your conversations, newest first."),
    Method("session/update", SessionUpdateParams, Session, update, "Change the title or the metadata."),
    Method("session/delete", SessionIdParams, Nothing, delete, "End its streams and forget it."),
)
