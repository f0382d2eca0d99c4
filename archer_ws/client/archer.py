"""The client: connects to a server, sends chats, and calls the other methods."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from pydantic import ValidationError

from archer_ws import __version__
from archer_ws.client.asking import ask, new_id, outcome_of, plain, without_none
from archer_ws.client.backoff import Backoff
from archer_ws.client.call_run import Approve
from archer_ws.client.conversations import Sessions
from archer_ws.client.dialling import Address
from archer_ws.client.errors import ClientError
from archer_ws.client.link import ConnectionState, Link
from archer_ws.client.running import Running, StreamCalls
from archer_ws.client.stream import ChatStream
from archer_ws.client.tools import Offered, Tool, offer
from archer_ws.client.uploads import OnProgress, Source, UploadedFile, Uploads, has_large_data, with_uploads
from archer_ws.llm_gateway.formats import ResponseFormat
from archer_ws.llm_gateway.tools import NamedTool
from archer_ws.llm_gateway.types import ChatMessage
from archer_ws.rpc.messages import PROTOCOL_VERSION, InitializeParams, ModelListResult, PeerInfo
from archer_ws.sessions.models import StreamInfo, StreamPage

#: How long requests and streams wait without a connection before they fail, in seconds.
GIVE_UP_AFTER_S = 60.0

Messages = str | Sequence[ChatMessage | Mapping[str, Any]]
Tools = Sequence[Offered]
ToolChoice = Literal["auto", "none", "required"] | NamedTool | Mapping[str, str]
Format = ResponseFormat | Mapping[str, Any]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


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
    tools: Tools = (),
    approve: Approve | None = None,
) -> "Archer":
    """A client of the server at `url`; use it as an async context manager.

    Entering it connects; if there is no server, that raises at once. From then on the client reconnects after a loss,
    and streams and requests go on where they were.

    Args:
        url: `http(s)://` or `ws(s)://`, with the path prefix that a proxy may add.
        token: the credential, where the server needs one; it is sent within the connection, never in the URL.
        client_name: the program's name, for the server's log.
        client_version: the program's version.
        coalesce_ms: how long the server may gather a stream's text, in milliseconds; 0 sends it at once.
        give_up_after_s: how long streams and requests wait before they fail, in seconds: while there is no connection,
            or while each is lost before their response.
        backoff: how long to wait between attempts to connect; by default up to 0.5 s, doubling up to 20 s.
        on_connection: called with "connected" and "lost"; it must not block or raise.
        tools: the tools of all chats that name no others.
        approve: asked where a call needs approval, as in `Archer.chat`.

    Raises:
        ClientError: the URL, the token or another value is invalid. On entering: Unreachable, NotArcher, Refused
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
        # The error's own message would contain the token.
        fields = ", ".join(".".join(map(str, each["loc"])) for each in error.errors())
        raise ClientError(f"the value of {fields} is invalid") from None
    address = Address(url)
    link = Link(address, hello, backoff or Backoff(), give_up_after_s, on_connection)
    return Archer(link, Uploads(address, token, give_up_after_s), tools, approve)


class Archer:
    """A connected client; made by `connect`.

    Every async method raises Refused for the server's errors, Unanswered where the connection is lost each time that
    its request is sent, and Unreachable, ClosedByServer or NotArcher where it is lost for good. Leaving the client's
    block cancels the tool calls that run here; its streams go on or end at the server, as their `on_disconnect` says.
    """

    def __init__(self, link: Link, uploads: Uploads, tools: Tools = (), approve: Approve | None = None) -> None:
        self._link = link
        self._uploads = uploads
        self._running = Running(link, uploads)
        self._declarations, self._tools = offer(tools)
        self._approve = approve
        #: The tasks that upload the files of requests.
        self._preparing: set[asyncio.Task[None]] = set()
        self.sessions = Sessions(link)

    async def __aenter__(self) -> "Archer":
        await self._link.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            for preparing in self._preparing:
                preparing.cancel()
            await asyncio.gather(*self._preparing, return_exceptions=True)
            await self._running.aclose()
        finally:
            # Also where this is cancelled: a connection that is left would be renewed for ever.
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
        on_tool_call: Literal["end", "wait"] | None = None,
        max_steps: int | None = None,
        tool_timeout_s: float | None = None,
        approve: Approve | None = None,
        response_format: Format | None = None,
        reasoning_effort: Effort | None = None,
        images: Sequence[Source] = (),
        files: Sequence[Source] = (),
        on_upload: OnProgress | None = None,
    ) -> ChatStream:
        """Send a chat; the stream begins now, and is read with `async for`.

        Pictures and documents are uploaded first, over HTTP, and so is base64 data in the messages that is too large
        for the socket. If the stream is cancelled before that is done, its request is never sent.

        Args:
            messages: the user's text, or a list of messages (models, or plain dicts of the same fields); with
                `session_id` the new turn only. A tool result is a message with the role `tool`.
            model: the model's name, also as `provider/model`; by default the server's.
            provider: the provider's name; by default the server's.
            session_id: the conversation that the stream belongs to.
            stream_id: the stream's id, which makes repeating the request harmless; a new one by default.
            temperature: 0 to 2.
            max_tokens: the limit of tokens of a completion.
            top_p: nucleus sampling, above 0 to 1.
            stop: texts at which the model stops.
            seed: for the same completion again, where the provider supports that.
            replace_from: a message id of the session: this message and all later ones are replaced.
            on_disconnect: `continue` (the default): the stream runs on when the connection is lost and when no client
                reads it any more; `cancel`: it ends.
            on_busy: what to do if the session has a running stream already; `reject` by default.
            instructions: put before the whole conversation for this request, and never stored.
            tools: the tools that the model may call, instead of the client's. Functions (see `Tool`) run here, within
                the stream, which waits for their results. The calls of a declaration (a dict with name, description
                and a JSON Schema of the arguments) are yours to run: if no tool is a function, the stream ends with
                them (its `tool_calls`), and their results go into the next request; otherwise send each result with
                `answer`.
            tool_choice: whether it must call: auto (by default), none, required, or one tool by its name.
            parallel_tool_calls: whether it may make several calls at once.
            on_tool_call: `end`: a call ends the stream; `wait`: the stream waits for its result. The default is `wait`
                where a tool is a function.
            max_steps: with `wait`, the limit of steps; 16 by default.
            tool_timeout_s: with `wait`, how long the calls of a step may take together; 600 s by default.
            approve: asked once for each call that needs approval: a function that gets the call and returns True,
                False, or `(False, reason)`. One that is not async runs in a thread. Without it, the call waits until
                `Archer.approve` approves it, here or in another client.
            response_format: `{"type": "json_object"}`, or `json_schema` with a schema; the stream's `format_valid` says
                whether the text follows it.
            reasoning_effort: how much the model thinks, from `none` to `max`; the `Started` event has the effort that
                was applied.
            images: pictures for the last message: paths, bytes, or files opened for reading bytes.
            files: documents for it, likewise.
            on_upload: called for each piece of a file that was sent; it must not block or raise.

        Raises:
            ValueError: a stream of that id is open on this client.
            ClientError: a function can't be a tool.
        """
        declarations, handlers = (self._declarations, self._tools) if tools is None else offer(tools)
        stream_id = new_id("str") if stream_id is None else stream_id
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
            "tools": declarations if declarations or tools is not None else None,
            "tool_choice": tool_choice if isinstance(tool_choice, str | None) else plain(tool_choice),
            "parallel_tool_calls": parallel_tool_calls,
            "on_tool_call": on_tool_call or ("wait" if handlers else None),
            "max_steps": max_steps,
            "tool_timeout_s": tool_timeout_s,
            "response_format": None if response_format is None else plain(response_format),
            "reasoning_effort": reasoning_effort,
        }
        request = without_none(given)
        calls = None if request.get("on_tool_call") != "wait" else self._calls(handlers, approve)
        stream = ChatStream(self._link, stream_id, request, calls=calls)
        if not (images or files or has_large_data(request["messages"])):
            return self._open(stream)
        preparing = stream.open_with(with_uploads(self._uploads, request, images, files, on_upload))
        self._preparing.add(preparing)
        preparing.add_done_callback(self._preparing.discard)
        return stream

    async def upload(
        self, source: Source, *, media_type: str | None = None, on_progress: OnProgress | None = None
    ) -> UploadedFile:
        """Upload a picture or a document. Parts of messages then name it by its `file_id`.

        Args:
            source: a path, bytes, or a file opened for reading bytes.
            media_type: its media type; by default guessed from the name, or else from the first bytes.
            on_progress: called for each piece; it must not block or raise.

        Raises:
            OSError: it can't be read.
        """
        return await self._uploads.send(source, media_type=media_type, on_progress=on_progress)

    def resume(
        self, stream_id: str, after: int = 0, *, tools: Tools | None = None, approve: Approve | None = None
    ) -> ChatStream:
        """Read a stream that exists already, from the event after `after` (a `last_seq`) on.

        Args:
            stream_id: the stream's id.
            after: the number of the last event to leave out; 0 for all events.
            tools: functions, which run the calls that are still open; by default the client's. Calls without a function
                are only events. With `after`, calls before that event are unknown here.
            approve: asked where a call needs approval; by default the client's.

        Raises:
            ValueError: a stream of that id is open on this client; or tools are given with `after`.
            ClientError: a function can't be a tool.
        """
        if tools and after:
            raise ValueError("calls before `after` may be open: leave out `after`, or the tools")
        handlers = self._tools if tools is None else offer(tools)[1]
        return self._open(ChatStream(self._link, stream_id, None, after, self._calls(handlers, approve)))

    async def approve(self, stream_id: str, call_id: str, approved: bool, reason: str | None = None) -> str:
        """Approve or deny a call that needs approval; any client may have its function.

        Args:
            stream_id: the stream's id.
            call_id: the call's id.
            approved: False: the call does not run, and the model is told so.
            reason: the reason of a denial, for the model.

        Returns:
            The outcome: accepted, too_late (a denial: somebody approved the call before), already_answered,
            already_ended or not_found; a newer server may have others.
        """
        params = {"stream_id": stream_id, "call_id": call_id, "approved": approved, "reason": reason}
        return outcome_of(await self._link.request("tool/approve", without_none(params)))

    async def answer(
        self,
        stream_id: str,
        call_id: str,
        content: str | Sequence[Mapping[str, Any]],
        status: Literal["ok", "error", "denied"] = "ok",
    ) -> str:
        """Send the tool result of a call that a stream waits for, and that no client has claimed.

        Args:
            stream_id: the stream's id.
            call_id: the call's id.
            content: the result for the model: a text, or parts.
            status: how the call ended.

        Returns:
            The outcome: accepted, taken (another client runs the call), needs_approval, already_answered, already_ended
            or not_found; a newer server may have others.
        """
        params = {"stream_id": stream_id, "call_id": call_id, "content": content, "status": status}
        return outcome_of(await self._link.request("tool/result", params))

    async def streams(self, *, session_id: str | None = None, active: bool = False) -> list[StreamInfo]:
        """All running streams and those whose logs the server still has, the last accepted first."""
        params: dict[str, Any] = without_none({"session_id": session_id, "active": active, "limit": _PAGE})
        streams: list[StreamInfo] = []
        while True:
            page = await ask(self._link, "stream/list", params, StreamPage)
            streams += page.items
            if page.next_cursor is None:
                return streams
            params["cursor"] = page.next_cursor

    async def models(self, provider: str | None = None) -> ModelListResult:
        """The available models, the default one, and the providers whose models could not be listed."""
        return await ask(self._link, "model/list", without_none({"provider": provider}), ModelListResult)

    async def ping(self) -> None:
        """Return once the server has responded."""
        await self._link.request("ping", {})

    def _open(self, stream: ChatStream) -> ChatStream:
        self._link.open(stream)
        return stream

    def _calls(self, handlers: Mapping[str, Tool[..., Any]], approve: Approve | None) -> StreamCalls | None:
        return StreamCalls(self._running, handlers, approve or self._approve) if handlers else None


#: The limit of items in a page (protocol section 10).
_PAGE = 200


def _messages(messages: Messages) -> list[dict[str, Any]]:
    if isinstance(messages, str):
        return [{"role": "user", "content": messages}]
    return [plain(each) for each in messages]
