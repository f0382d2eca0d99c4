"""A recorder of all that our server sends in the test run: each message is held to its schema (strict_schemas.py).

`recording()` taps three narrow places of this process: the channel of every socket's `Connection`, the
`ObservedRequest` of every HTTP request, and what the server offers it for writing past ASGI. A server in another
process is tapped at its client: `RecordedSocket`.
"""

import json
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jsonschema_rs
import pytest
import websockets
from pydantic_core import from_json
from starlette.types import Message, Receive, Scope, Send

from archer_ws.api.http.access_log import ObservedRequest
from archer_ws.api.http.direct import DIRECT, Direct, direct
from archer_ws.api.http.hot_routes import HotApplication
from archer_ws.api.signposts.dialects import Dialect, dialect_of
from archer_ws.rpc.channel import Channel
from archer_ws.rpc.connection import Connection
from tests.fakes.rpc_peer import RpcPeer, SocketTransport
from tests.fakes.strict_schemas import CODE_OF_KIND, Validator, http_schemas, socket_schemas

#: So much of a wrong message is shown.
SHOWN_CHARS = 2000
#: Paths whose answers are in the document.
DESCRIBED = ("/api/v1/", "/health", "/v1/")
#: Below this one, events are OpenAI's chunks, which have no names.
OPENAIS = "/v1/"
#: The request log's name for an answer that nobody reads.
CLIENT_CLOSED_REQUEST = 499


class Recorder:
    """What was seen, by kind, and what was wrong with it."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        #: How many of them came over sockets.
        self.frames = 0
        self._violations: list[str] = []

    def note(self, kind: str, validator: Validator | None, value: Any) -> None:
        """One message of this kind."""
        self.seen[kind] += 1
        if validator is None:
            return
        try:
            validator.validate(value)
        except jsonschema_rs.ValidationError as error:
            where = "/".join(map(str, error.instance_path))
            self.violation(f"{kind} at {where or 'its top'}: {error.message}", value)

    def violation(self, what: str, message: Any) -> None:
        """Something that must not be sent."""
        shown = message if isinstance(message, str) else json.dumps(message, ensure_ascii=False)
        self._violations.append(f"{what[:SHOWN_CHARS]}\n    {shown[:SHOWN_CHARS]}")

    def take(self) -> list[str]:
        """The violations since the last call."""
        found, self._violations = self._violations, []
        return found


#: The run's.
RECORDER = Recorder()


class Conversation:
    """One socket's frames: responses are judged by the method that was asked."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._schemas = socket_schemas()
        self._asked: dict[str | int, str] = {}

    def received(self, text: str) -> None:
        """What the client sent. With NaN, or nested too deeply, it is no JSON, and its id is nobody's."""
        try:
            frame = from_json(text, allow_inf_nan=False)
        except ValueError:
            return
        for message in frame if isinstance(frame, list) else [frame]:
            match message:
                case {"id": bool()}:
                    pass
                case {"id": int() | str() as identity, "method": str(method)}:
                    self._asked.setdefault(identity, method)

    def sent(self, text: str) -> None:
        """What the server sends."""
        self._recorder.frames += 1
        frame = _json(text)
        # The responses to a batch come in one array.
        for message in frame if isinstance(frame, list) and frame else [frame]:
            self._take(message)

    def _take(self, frame: Any) -> None:
        match frame:
            case {"jsonrpc": "2.0", "method": str(method), "params": params, **rest} if not rest:
                known = self._schemas.notifications.get(method)
                if known is None:
                    self._recorder.violation(f"there is no notification {method}", frame)
                self._recorder.note(method, known, params)
            case {"jsonrpc": "2.0", "id": str() | int() as identity, "result": result, **rest} if not rest:
                method = self._asked.pop(identity, "")
                known = self._schemas.results.get(method)
                if known is None:
                    self._recorder.violation("a result for nobody", frame)
                self._recorder.note(f"{method} result", known, result)
            case {"jsonrpc": "2.0", "id": str() | int() | None as identity, "error": error, **rest} if not rest:
                self._error(error, self._asked.pop(identity, None) if identity is not None else None)
            case _:
                self._recorder.violation("neither a response nor a notification", frame)

    def _error(self, error: Any, method: str | None) -> None:
        self._recorder.note("error", self._schemas.error, error)
        match error:
            case {"code": code, "data": {"kind": kind}} if CODE_OF_KIND.get(kind) == code:
                described = self._schemas.kinds.get(method or "")
                if described is not None and kind not in described:
                    self._recorder.violation(f"{method} is not said to give {kind}", error)
            case _:
                self._recorder.violation("code and kind do not belong together", error)


class RecordedChannel:
    """A connection's channel that is listened to."""

    def __init__(self, channel: Channel, recorder: Recorder) -> None:
        self._channel = channel
        self._conversation = Conversation(recorder)
        self._was_refused = False

    async def receive(self) -> str:
        text = await self._channel.receive()
        if not self._was_refused:
            self._conversation.received(text)
        self._was_refused = False
        return text

    def push_to(self, take: Callable[[str], bool] | None) -> None:
        def heard(text: str) -> bool:
            assert take is not None
            # Before it is taken, which may send its response. One that is refused is received next.
            self._conversation.received(text)
            self._was_refused = not take(text)
            return not self._was_refused

        self._channel.push_to(take and heard)

    def try_send(self, text: str) -> bool:
        sent = self._channel.try_send(text)
        if sent:
            self._conversation.sent(text)
        return sent

    async def send(self, text: str) -> None:
        self._conversation.sent(text)
        await self._channel.send(text)

    async def close(self, code: int, reason: str) -> None:
        await self._channel.close(code, reason)


class RecordedSocket(SocketTransport):
    """A client's socket to a server in another process."""

    def __init__(self, connection: websockets.ClientConnection, recorder: Recorder = RECORDER) -> None:
        super().__init__(connection)
        self._conversation = Conversation(recorder)

    async def send(self, text: str) -> None:
        self._conversation.received(text)
        await super().send(text)

    async def recv(self) -> str:
        text = await super().recv()
        self._conversation.sent(text)
        return text


class _Answer:
    """One HTTP answer as it is sent."""

    def __init__(self, scope: Scope, send: Send, recorder: Recorder) -> None:
        self._scope = scope
        self._send = send
        self._recorder = recorder
        self._schemas = http_schemas()
        self._status = 0
        self._headers: dict[str, str] = {}
        self._body = b""

    def send(self, message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            self.begin(message["status"], message["headers"])
        elif message["type"] == "http.response.body":
            self.take(message.get("body", b""), is_last=not message.get("more_body", False))
        return self._send(message)

    def begin(self, status: int, fields: Sequence[tuple[bytes, bytes]]) -> None:
        """The head, whichever way it goes."""
        self._status = status
        self._headers = {name.decode().lower(): value.decode("latin-1") for name, value in fields}

    def take(self, body: bytes, *, is_last: bool = False) -> None:
        """A piece of the body, whichever way it goes."""
        self._body += body
        if self._media_type == "text/event-stream":
            if not self._scope["path"].startswith(OPENAIS):
                self._take_events()
        elif is_last:
            self._take_body()

    @property
    def _media_type(self) -> str:
        return self._headers.get("content-type", "").partition(";")[0]

    def _take_events(self) -> None:
        *whole, self._body = self._body.split(b"\n\n")
        for block in whole:
            fields = dict(line.partition(": ")[::2] for line in block.decode().split("\n"))
            if "data" in fields and fields["data"] != "[DONE]":
                name = fields.get("event", "message")
                known = self._schemas.events.get(name)
                if known is None:
                    self._recorder.violation(f"there is no event {name}", fields)
                self._recorder.note(f"event {name}", known, _json(fields["data"]))

    def _take_body(self) -> None:
        if self._scope["method"] == "HEAD" or self._status == CLIENT_CLOSED_REQUEST:
            return
        path = getattr(self._scope.get("route"), "path", None)
        described = self._schemas.answers.get((str(path), self._scope["method"]))
        asked = f"{self._scope['method']} {path or self._scope['path']}"
        if "x-request-id" not in self._headers:
            self._recorder.violation(f"{asked} {self._status} without X-Request-ID", str(self._headers))
        if described is None:
            # No route, or none for this method: an error, in the form of the API whose client asks.
            dialect = dialect_of(self._scope)
            schema = self._schemas.error if dialect is Dialect.ARCHER else None
            kind = "HTTP error" if schema else f"HTTP error of {dialect.value}"
            self._recorder.note(kind, schema, _json(self._body))
        elif self._status not in described:
            self._recorder.violation(f"{asked} answers {self._status}, which is not described", self._body.decode())
        elif not described[self._status]:
            if self._body:
                self._recorder.violation(f"{asked} {self._status} has a body", self._body.decode())
        elif "*/*" in described[self._status]:
            return  # A file, which is as it was sent.
        elif self._media_type not in described[self._status]:
            self._recorder.violation(f"{asked} {self._status} is {self._media_type!r}", self._body.decode())
        else:
            validator = described[self._status][self._media_type]
            self._recorder.note(f"{asked} {self._status}", validator, _json(self._body))


class _RecordedDirect:
    """A response that is written past ASGI, and listened to."""

    def __init__(self, way: Direct, answer: _Answer) -> None:
        self._way = way
        self._answer = answer

    def take_body(self, most: int) -> bytes | None:
        return self._way.take_body(most)

    def begin(self, status: int, fields: Sequence[tuple[bytes, bytes]]) -> bool:
        has_begun = self._way.begin(status, fields)
        if has_begun:
            self._answer.begin(status, fields)
        return has_begun

    def respond(self, status: int, fields: Sequence[tuple[bytes, bytes]], body: bytes) -> bool:
        is_sent = self._way.respond(status, fields, body)
        if is_sent:
            self._answer.begin(status, fields)
            self._answer.take(body, is_last=True)
        return is_sent

    def end(self, block: bytes) -> bool:
        is_sent = self._way.end(block)
        if is_sent:
            self._answer.take(block, is_last=True)
        return is_sent

    def is_ready(self) -> bool:
        return self._way.is_ready()

    def write(self, block: bytes) -> None:
        self._answer.take(block)
        self._way.write(block)


def _tap_direct(scope: Scope, answer: _Answer) -> None:
    way = direct(scope)
    if way is not None:
        scope["extensions"][DIRECT] = lambda: _RecordedDirect(way, answer)


def _json(text: str | bytes) -> Any:
    """Decoded; what is no JSON stays text, which fits no schema."""
    try:
        return json.loads(text)
    except ValueError:
        return text if isinstance(text, str) else text.decode("utf-8", "replace")


@contextmanager
def recording() -> Iterator[Recorder]:
    """Everything sent in this process is recorded within, and nothing that a test's client reads goes by unseen."""
    recorder = RECORDER
    plain_init, plain_begin = Connection.__init__, ObservedRequest.__init__

    def begin(self: ObservedRequest, scope: Scope, receive: Receive, send: Send) -> None:
        # Not of an application that a test made up.
        is_ours = scope["type"] == "http" and isinstance(scope.get("app"), HotApplication)
        if is_ours and scope["path"].startswith(DESCRIBED) and scope["method"] != "OPTIONS":
            # Inside: what the log adds (X-Request-ID) belongs to the answer.
            answer = _Answer(scope, send, recorder)
            _tap_direct(scope, answer)
            send = answer.send
        plain_begin(self, scope, receive, send)

    def init(self: Connection, channel: Channel, *arguments: Any, **options: Any) -> None:
        plain_init(self, RecordedChannel(channel, recorder), *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Connection, "__init__", init)
        patch.setattr(ObservedRequest, "__init__", begin)
        yield recorder
    # A tap that came off its pipe must not pass for a run without a fault.
    assert recorder.frames >= RpcPeer.frames_in_all, f"{recorder.frames} recorded, {RpcPeer.frames_in_all} read"
