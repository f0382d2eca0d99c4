"""session/…: the conversations, as over REST."""

from archer_ws.rpc.context import Context
from archer_ws.rpc.messages import Nothing
from archer_ws.rpc.registry import Method, Reply
from archer_ws.rpc.session_messages import (
    SessionDeleteAllParams,
    SessionDeleteParams,
    SessionForkParams,
    SessionGetParams,
    SessionListParams,
    SessionSearchParams,
    SessionUpdateParams,
)
from archer_ws.sessions.models import DeletedSessions, SearchPage, Session, SessionCreate, SessionDetail, SessionPage


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
    """Conversations, the most recently changed first."""
    conversations = context.services.conversations
    return Reply(
        await conversations.page(
            context.principal, params.limit, params.cursor, order=params.order, archived=params.archived
        )
    )


async def search(context: Context, params: SessionSearchParams) -> Reply:
    """Messages that contain all words of a query."""
    conversations = context.services.conversations
    return Reply(await conversations.search(context.principal, params.query, params.limit, params.cursor))


async def update(context: Context, params: SessionUpdateParams) -> Reply:
    """Change the title or the metadata, or archive it."""
    conversations = context.services.conversations
    return Reply(await conversations.update(context.principal, params.session_id, params))


async def fork(context: Context, params: SessionForkParams) -> Reply:
    """A new conversation with the first messages of this one."""
    return Reply(await context.services.conversations.fork(context.principal, params.session_id, params))


async def delete(context: Context, params: SessionDeleteParams) -> Reply:
    """End its streams and delete it."""
    await context.services.conversations.delete(context.principal, params.session_id, version=params.version)
    return Reply(Nothing())


async def delete_all(context: Context, _params: SessionDeleteAllParams) -> Reply:
    """End the streams of all conversations and delete them."""
    return Reply(DeletedSessions(deleted=await context.services.conversations.delete_all(context.principal)))


METHODS = (
    Method("session/create", SessionCreate, Session, create, "A new conversation, or the one with that session_id."),
    Method(
        "session/get",
        SessionGetParams,
        SessionDetail,
        get,
        "One conversation with a page of its messages: the newest, or older ones.",
    ),
    Method(
        "session/list",
        SessionListParams,
        SessionPage,
        list_sessions,
        "Your conversations, the most recently changed first.",
    ),
    Method(
        "session/search", SessionSearchParams, SearchPage, search, "The messages that contain all words of a query."
    ),
    Method("session/update", SessionUpdateParams, Session, update, "Change the title or the metadata, or archive it."),
    Method("session/fork", SessionForkParams, Session, fork, "A new conversation with the first messages of this one."),
    Method("session/delete", SessionDeleteParams, Nothing, delete, "End its streams and delete it."),
    Method(
        "session/delete_all",
        SessionDeleteAllParams,
        DeletedSessions,
        delete_all,
        "End the streams of all your conversations and delete them.",
    ),
)
