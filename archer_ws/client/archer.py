"""What a program calls: a server, its chats, its sessions."""

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ValidationError

from archer_ws import __version__
from archer_ws.client.backoff import Backoff
from archer_ws.client.dialling import Address
from archer_ws.client.errors import ClientError, NotArcher, Refused
from archer_ws.client.link import ConnectionState, Link
from archer_ws.client.stream import ChatStream
from archer_ws.client.uploads import OnProgress, Source, UploadedFile, Uploads, has_large_data, with_uploads
from archer_ws.client.watching import SessionWatch
from archer_ws.llm_gateway.formats import ResponseFormat
from archer_ws.llm_gateway.tools import NamedTool, Tool
from archer_ws.llm_gateway.types import ChatMessage
from archer_ws.rpc.messages import PROTOCOL_VERSION, InitializeParams, ModelListResult, PeerInfo
from archer_ws.sessions.models import (
    DeletedSessions,
    SearchPage,
    Session,
    SessionDetail,
    SessionPage,
    StreamInfo,
    StreamPage,
)

#: How long what waits may be without a connection, in seconds.
GIVE_UP_AFTER_S = 60.0

Messages = str | Sequence[ChatMessage | Mapping[str, Any]]
Tools = Sequence[Tool | Mapping[str, Any]]
ToolChoice = Literal["auto", "none", "required"] | NamedTool | Mapping[str, str]
Format = ResponseFormat | Mapping[str, Any]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
_Result = TypeVar("_Result", bound=BaseModel)


def connect(
    url: str,
    *,
    token: str | None = None,
    client_name: str = "archer-ws",
    client_version: str = __version__,
    coalesce_ms: int = 0,
    give_up_after_s: float = GIVE_UP_AFTER_S,
    backoff: Backoff | None = None,
    on_connection: Callable[[ConnectionState], None] | None = None,
) -> "Archer":
    """A client of the server at `url`; use it as an async context manager.

    Entering it connects: a server that is not there is told at once. From then on a lost connection is mended, and
    streams and requests go on where they were.

    Args:
        url: `http(s)://` or `ws(s)://`, with the path prefix that a proxy may add.
        token: the credential, where the server needs one; it is sent within the connection, never in the URL.
        client_name: who we are, for the server's log.
        client_version: which release of it.
        coalesce_ms: how long the server may gather a stream's text, in milliseconds; 0 sends all at once.
        give_up_after_s: how long streams and requests wait while there is no connection, in seconds.
        backoff: how long to wait between attempts to connect; by default up to 0.5 s, doubling up to 20 s.
        on_connection: called with "connected" and "lost"; it must not block or raise.

    Raises:
        ClientError: the URL, the token or another value can't be used. On entering: Unreachable, NotArcher, Refused
            (a wrong token), ClosedByServer.
    """
    try:
        hello = InitializeParams(
            protocol_version=PROTOCOL_VERSION,
            client=PeerInfo(name=client_name, version=client_version),
            token=token,
            coalesce_ms=coalesce_ms,
        )
    except ValidationError as error:
        # Its own words would show the token.
        fields = ", ".join(".".join(map(str, each["loc"])) for each in error.errors())
        raise ClientError(f"what was given for {fields} can't be used") from None
    address = Address(url)
    link = Link(address, hello, backoff or Backoff(), give_up_after_s, on_connection)
    return Archer(link, Uploads(address, token, give_up_after_s))


class Archer:
    """A connected client; made by `connect`.

    Every method that waits raises Refused for the server's errors, and Unreachable, ClosedByServer or NotArcher where
    there is no connection any more. Leaving the client's block leaves its streams to their `on_disconnect`.
    """

    def __init__(self, link: Link, uploads: Uploads) -> None:
        self._link = link
        self._uploads = uploads
        #: Of requests whose files are on their way.
        self._preparing: set[asyncio.Task[None]] = set()
        self.sessions = Sessions(link)

    async def __aenter__(self) -> "Archer":
        await self._link.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        for preparing in self._preparing:
            preparing.cancel()
        await asyncio.gather(*self._preparing, return_exceptions=True)
        await self._link.aclose()

    def chat(
        self,
        messages: Messages,
        *,
        model: str | None = None,
        provider: str | None = None,
        session_id: str | None = None,
        stream_id: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        top_p: float | None = None,
        stop: Sequence[str] | None = None,
        seed: int | None = None,
        replace_from: str | None = None,
        on_disconnect: Literal["continue", "cancel"] | None = None,
        on_busy: Literal["reject", "interrupt"] | None = None,
        instructions: str | None = None,
        tools: Tools | None = None,
        tool_choice: ToolChoice | None = None,
        parallel_tool_calls: bool | None = None,
        response_format: Format | None = None,
        reasoning_effort: Effort | None = None,
        images: Sequence[Source] = (),
        files: Sequence[Source] = (),
        on_upload: OnProgress | None = None,
    ) -> ChatStream:
        """Ask for an answer; it begins now, and is read with `async for`.

        Pictures and documents are uploaded first, beside the socket; so is what stands in the messages as base64 and
        is too large for it. An answer that is cancelled before is never asked for.

        Args:
            messages: the user's text, or a list of messages (models, or plain dicts of the same fields); with
                `session_id` the new turn only. A result of a call is a message with the role `tool`.
            model: also as `provider/model`.
            provider: by default the server's.
            session_id: the conversation it belongs to.
            stream_id: the answer's id, which makes repeating the request harmless; minted where not given.
            temperature: 0 to 2.
            max_tokens: the most tokens of the answer.
            top_p: nucleus sampling, above 0 to 1.
            stop: texts at which the model stops.
            seed: for the same answer again, where the provider can.
            replace_from: the message of the session from which on to replace all.
            on_disconnect: what becomes of it when nobody holds it any more; `continue` by default. `cancel` ends it
                when the connection is lost, too.
            on_busy: what to do when the session is answering already; `reject` by default.
            instructions: put before the whole conversation for this request, and never stored.
            tools: what the model may call: name, description, and a JSON Schema of the arguments. You run the calls
                (the stream's `tool_calls`), and send their results with the next request.
            tool_choice: whether it must call: auto (by default), none, required, or one tool by its name.
            parallel_tool_calls: whether it may make several calls at once.
            response_format: the form of the answer, `{"type": "json_object"}` or `json_schema` with a schema; the
                stream's `format_valid` tells whether the answer has it.
            reasoning_effort: how much the model thinks, from `none` to `max`; the `Started` event tells what became of
                it with this model.
            images: pictures for the last message: paths, bytes, or files opened for reading bytes.
            files: documents for it, likewise.
            on_upload: called for each piece of a file that was sent; it must not block or raise.

        Raises:
            ValueError: a stream of that id is open on this client.
        """
        stream_id = _new_id("str") if stream_id is None else stream_id
        given = {
            "messages": _messages(messages),
            "model": model,
            "provider": provider,
            "session_id": session_id,
            "stream_id": stream_id,
            "temperature": temperature,
            "max_tokens": max_tokens,
            "top_p": top_p,
            "stop": None if stop is None else list(stop),
            "seed": seed,
            "replace_from": replace_from,
            "on_disconnect": on_disconnect,
            "on_busy": on_busy,
            "instructions": instructions,
            "tools": None if tools is None else [_plain(tool) for tool in tools],
            "tool_choice": tool_choice if isinstance(tool_choice, str | None) else _plain(tool_choice),
            "parallel_tool_calls": parallel_tool_calls,
            "response_format": None if response_format is None else _plain(response_format),
            "reasoning_effort": reasoning_effort,
        }
        request = _without_none(given)
        stream = ChatStream(self._link, stream_id, request)
        if not (images or files or has_large_data(request["messages"])):
            return self._open(stream)
        preparing = stream.open_with(with_uploads(self._uploads, request, images, files, on_upload))
        self._preparing.add(preparing)
        preparing.add_done_callback(self._preparing.discard)
        return stream

    async def upload(
        self, source: Source, *, media_type: str | None = None, on_progress: OnProgress | None = None
    ) -> UploadedFile:
        """Send a picture or a document, for parts of messages to name it by its `file_id`.

        Args:
            source: a path, bytes, or a file opened for reading bytes.
            media_type: what it is; by its name where not given, and where it has none by its first bytes.
            on_progress: called for each piece; it must not block or raise.

        Raises:
            OSError: it can't be read.
        """
        return await self._uploads.send(source, media_type=media_type, on_progress=on_progress)

    def resume(self, stream_id: str, after: int = 0) -> ChatStream:
        """A stream that is there already, from the event behind `after` (a `last_seq`) on.

        Raises:
            ValueError: a stream of that id is open on this client.
        """
        return self._open(ChatStream(self._link, stream_id, None, after))

    async def streams(self, *, session_id: str | None = None, active: bool = False) -> list[StreamInfo]:
        """The streams that run or are still kept, the last accepted first; asked for page by page."""
        params: dict[str, Any] = _without_none({"session_id": session_id, "active": active, "limit": _PAGE})
        streams: list[StreamInfo] = []
        while True:
            page = await _ask(self._link, "stream/list", params, StreamPage)
            streams += page.items
            if page.next_cursor is None:
                return streams
            params["cursor"] = page.next_cursor

    async def models(self, provider: str | None = None) -> ModelListResult:
        """The models that can be named, the default, and the providers that could not be asked."""
        return await _ask(self._link, "model/list", _without_none({"provider": provider}), ModelListResult)

    async def ping(self) -> None:
        """Return when the server has answered."""
        await self._link.request("ping", {})

    def _open(self, stream: ChatStream) -> ChatStream:
        self._link.open(stream)
        return stream


class Sessions:
    """The server's conversations."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def create(
        self, *, title: str | None = None, metadata: Mapping[str, Any] | None = None, session_id: str | None = None
    ) -> Session:
        """A new conversation, or the one with that id."""
        # An id of our own makes repeating the request harmless.
        params = {"session_id": session_id or _new_id("ses"), "title": title, "metadata": metadata}
        return await _ask(self._link, "session/create", _without_none(params), Session)

    async def get(self, session_id: str, *, limit: int | None = None, cursor: str | None = None) -> SessionDetail:
        """One conversation with a page of its messages: the newest, or with a page's `next_cursor` those before it."""
        params = _without_none({"session_id": session_id, "limit": limit, "cursor": cursor})
        return await _ask(self._link, "session/get", params, SessionDetail)

    async def list(
        self,
        *,
        order: Literal["updated", "created"] | None = None,
        archived: bool | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> SessionPage:
        """A page of conversations, newest first by `order`; the last changed first where it is left out.

        Args:
            order: by what they are sorted.
            archived: those alone that were put aside, or those alone that were not.
            limit: how many at most, 1 to 200.
            cursor: the page before's `next_cursor`.
        """
        params = {"order": order, "archived": archived, "limit": limit, "cursor": cursor}
        return await _ask(self._link, "session/list", _without_none(params), SessionPage)

    async def search(self, query: str, *, limit: int | None = None, cursor: str | None = None) -> SearchPage:
        """A page of the messages that have all words of the query, the last stored first."""
        params = {"query": query, "limit": limit, "cursor": cursor}
        return await _ask(self._link, "session/search", _without_none(params), SearchPage)

    async def update(
        self,
        session_id: str,
        *,
        title: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        archived: bool | None = None,
        version: int | None = None,
    ) -> Session:
        """The conversation with what is given changed; with a version, if it still has that one.

        Raises:
            Refused: `conflict`, where it has another version.
        """
        change = _without_none({"title": title, "metadata": metadata, "archived": archived})
        params = _without_none({"session_id": session_id, **change, "version": version})
        try:
            return await _ask(self._link, "session/update", params, Session)
        except Refused as error:
            # Sent a second time behind a lost connection, it may find its own work done.
            if version is None or not (error.repeated and error.kind == "conflict"):
                raise
            found = await self._session(session_id)
            is_done = found.version == version + 1 and all(
                (getattr(found, name) or False if name == "archived" else getattr(found, name)) == value
                for name, value in change.items()
            )
            if not is_done:
                raise
            return found

    async def fork(self, session_id: str, *, before: str | None = None, new_session_id: str | None = None) -> Session:
        """A new conversation with the messages of this one, up to (and without) the message `before`."""
        new_id = new_session_id or _new_id("ses")
        params = _without_none({"session_id": session_id, "before": before, "new_session_id": new_id})
        try:
            return await _ask(self._link, "session/fork", params, Session)
        except Refused as error:
            # Likewise; an id that was minted here is nobody else's.
            if new_session_id is None and error.repeated and error.kind == "conflict":
                return await self._session(new_id)
            raise

    def watch(self, session_id: str | None = None) -> SessionWatch:
        """Conversations as they change, all of them or one: `async for change in watch`."""
        return self._link.watch(session_id)

    async def delete(self, session_id: str) -> None:
        """End its streams and forget it."""
        try:
            await self._link.request("session/delete", {"session_id": session_id})
        except Refused as error:
            # Sent a second time behind a lost connection, it may find its own work done.
            if not (error.repeated and error.kind == "session_not_found"):
                raise

    async def delete_all(self, *, confirm: Literal[True]) -> int:
        """End the streams of all conversations and forget these, for good; how many there were."""
        answer = await _ask(self._link, "session/delete_all", {"confirm": confirm}, DeletedSessions)
        return answer.deleted

    async def _session(self, session_id: str) -> Session:
        return await _ask(self._link, "session/get", {"session_id": session_id, "limit": 1}, Session)


#: The most items that a page may have (protocol section 10).
_PAGE = 200


async def _ask(link: Link, method: str, params: Mapping[str, Any], result: type[_Result]) -> _Result:
    answer = await link.request(method, params)
    try:
        # What a newer server adds, such as parts of a message, is kept: in the model's `model_extra`.
        return result.model_validate(answer, extra="allow")
    except ValidationError:
        raise NotArcher(
            f"the server's answer to {method} is not of archer.v1", "Is it an Archer server of this age?"
        ) from None


def _messages(messages: Messages) -> list[dict[str, Any]]:
    if isinstance(messages, str):
        return [{"role": "user", "content": messages}]
    return [_plain(each) for each in messages]


def _plain(value: BaseModel | Mapping[str, Any]) -> dict[str, Any]:
    return (
        value.model_dump(mode="json", by_alias=True, exclude_none=True) if isinstance(value, BaseModel) else dict(value)
    )


def _without_none(params: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if value is not None}


def _new_id(prefix: str) -> str:
    return f"{prefix}_{secrets.token_urlsafe(15)}"
