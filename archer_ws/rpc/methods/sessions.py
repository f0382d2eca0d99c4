"""session/…: the conversations, as over REST."""

from archer_ws.rpc.connection import Connection
from archer_ws.rpc.messages import Nothing, SessionGetParams, SessionIdParams, SessionListParams, SessionUpdateParams
from archer_ws.rpc.methods.principal import principal_of
from archer_ws.rpc.registry import Method, Reply
from archer_ws.sessions.models import Session, SessionCreate, SessionDetail, SessionPage


async def create(connection: Connection, params: SessionCreate) -> Reply:
    """A new conversation, or the existing one with that id."""
    session, _ = await connection.services.conversations.create(principal_of(connection), params)
    return Reply(session)


async def get(connection: Connection, params: SessionGetParams) -> Reply:
    """One conversation with a page of its messages."""
    conversations = connection.services.conversations
    return Reply(
        await conversations.get(principal_of(connection), params.session_id, limit=params.limit, cursor=params.cursor)
    )


async def list_sessions(connection: Connection, params: SessionListParams) -> Reply:
    """Conversations, newest first."""
    page = await connection.services.conversations.page(principal_of(connection), params.limit, params.cursor)
    return Reply(page)


async def update(connection: Connection, params: SessionUpdateParams) -> Reply:
    """Change the title or the metadata."""
    conversations = connection.services.conversations
    return Reply(await conversations.update(principal_of(connection), params.session_id, params))


async def delete(connection: Connection, params: SessionIdParams) -> Reply:
    """End its streams and forget it."""
    await connection.services.conversations.delete(principal_of(connection), params.session_id)
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
