"""The connection to the server: opens it, reopens it after a loss, and carries requests, streams and watches.

Owns two tasks. One connects, sends, and connects again; while there is a connection, the other reads. Requests and
streams are queued synchronously and sent in that order. After a loss, every stream that the server has accepted is
first attached again after its last event; then the requests without a response are sent again, which is harmless for
each of them. One for which the connection is lost again and again fails. What a stream does with its events is in
stream.py.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol

from pydantic import ValidationError
from websockets.exceptions import ConnectionClosed

from archer_ws.client.backoff import Backoff
from archer_ws.client.dialling import Address, ConnectionLost, WatchedConnection, close, closing_error, dial
from archer_ws.client.errors import ClientClosed, ClientError, NotArcher, Refused, Unanswered, Unreachable
from archer_ws.client.frames import Failure, Notification, Result, decode_frame
from archer_ws.client.requests import Losses, Request, Requests
from archer_ws.client.watches import Watches
from archer_ws.client.watching import SessionWatch
from archer_ws.core.patience import PatientTimer
from archer_ws.rpc.messages import InitializeParams, InitializeResult

#: How long the response to `initialize` may take, in seconds.
INITIALIZE_LIMIT_S = 10.0
#: A connection is lost after two heartbeat intervals and this long without a byte from the server, in seconds.
SILENCE_SLACK_S = 5.0
#: How long to wait before a refused request is repeated, where the server names no time, in milliseconds.
_RETRY_MS = 1000
#: How long closing waits for queued requests to be sent, in seconds.
FLUSH_LIMIT_S = 3.0

ConnectionState = Literal["connected", "lost"]
Taken = Literal["taken", "gap", "over"]


class Attachable(Protocol):
    """A stream as the link sees it."""

    stream_id: str
    #: Connections that were lost while it was attached again.
    losses: Losses

    @property
    def may_exist(self) -> bool:
        """Whether the server has accepted it, on this connection or an earlier one, or may have."""

    def attaching(self) -> tuple[str, Mapping[str, Any]]:
        """The method and params that have the server send its events, after those that have come."""

    def attached(self, result: Any) -> None:
        """The server accepted that request; the events follow. `result` is the request's."""

    def unanswered(self, error: Unanswered) -> bool:
        """Its request, or the one to attach it again, got no response; whether the server may have the stream, so that
        it should be attached.
        """

    def detached(self) -> None:
        """The connection is lost: no events come until it is attached again."""

    def take(self, method: str, params: Mapping[str, Any]) -> Taken:
        """An event; returns whether it was in order ("taken"), after a gap, or the last one ("over")."""

    def fail(self, error: ClientError) -> None:
        """The stream can't be continued."""


class Link:
    """The connection to one server, over as many sockets as it takes.

    Args:
        address: the server's address.
        hello: the params of `initialize`.
        backoff: how long to wait between attempts to connect.
        give_up_after_s: how long requests and streams wait before they fail, in seconds: without a connection, or while
            each is lost before their response.
        on_connection: called with "connected" and "lost".
    """

    def __init__(
        self,
        address: Address,
        hello: InitializeParams,
        backoff: Backoff,
        give_up_after_s: float,
        on_connection: Callable[[ConnectionState], None] | None,
    ) -> None:
        self._address = address
        self._hello = hello
        self._backoff = backoff
        self._give_up_after_s = give_up_after_s
        self._on_connection = on_connection or (lambda _: None)
        self._streams: dict[str, Attachable] = {}
        self._watches = Watches()
        self._requests = Requests()
        self._silence_s = INITIALIZE_LIMIT_S
        self._is_ready = False
        #: How many connections there have been.
        self._connections = 0
        self._is_closing = False
        self._failure: ClientError | None = None
        self._last_loss: ConnectionLost | None = None
        self._wake = asyncio.Event()
        self._first: asyncio.Future[None] | None = None
        self._runner: asyncio.Task[None] | None = None
        self._giving_up: PatientTimer | None = None
        self._watching: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Connect.

        Raises:
            ClientError: there is no server, or it refuses the connection.
        """
        self._first = asyncio.get_running_loop().create_future()
        self._arm()
        self._runner = asyncio.create_task(self._run(), name="archer-link")
        try:
            await self._first
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """Send the queued requests, close the connection, and fail whatever still waits for a response.

        If this is cancelled, the connection is closed all the same, without what is not sent yet.
        """
        self._is_closing = True
        self._wake.set()
        if self._runner is not None:
            try:
                await asyncio.wait({self._runner}, timeout=FLUSH_LIMIT_S if self._is_ready else 0)
            finally:
                self._runner.cancel()
                await asyncio.wait({self._runner})
            if not self._runner.cancelled():
                self._runner.result()

    def put(self, request: Request) -> None:
        """Queue a request. Requests and streams are sent in the order of the calls to `put` and `open`."""
        if self._failure is not None:
            request.on_error(self._failure)
            return
        self._requests.put(request)
        self._arm()
        self._wake.set()

    async def request(self, method: str, params: Mapping[str, Any], *, even_if_given_up: bool = False) -> Any:
        """Send a request and return its result.

        If this is cancelled, the request is not sent on a later connection, except with `even_if_given_up`.

        Raises:
            ClientError: the server refused it, or it could not be sent.
        """
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def on_result(result: Any) -> None:
            if not future.done():
                future.set_result(result)

        def on_error(error: ClientError) -> None:
            if not future.done():
                future.set_exception(error)

        request = Request(method, params, on_result, on_error)
        self.put(request)
        try:
            return await future
        except asyncio.CancelledError:
            if not even_if_given_up:
                request.is_given_up = True
                if not self._is_ready:
                    self._requests.drop(request)
            raise

    def open(self, stream: Attachable) -> None:
        """Pass a stream's events on to it until its end, over as many connections as it takes.

        Raises:
            ValueError: a stream of that id is open already.
        """
        if self._failure is not None:
            stream.fail(self._failure)
            return
        if stream.stream_id in self._streams:
            raise ValueError(f"stream {stream.stream_id} is open already")
        self._streams[stream.stream_id] = stream
        self._requests.put(self._attaching(stream))
        self._arm()
        self._wake.set()

    def withdraw(self, stream: Attachable) -> bool:
        """Let a stream go whose request waits to be sent; whether it did."""
        is_withdrawn = self._requests.withdraw_chat(stream.stream_id)
        if is_withdrawn:
            self._streams.pop(stream.stream_id, None)
        return is_withdrawn

    def watch(self, session_id: str | None) -> SessionWatch:
        """Watch one conversation, or all of them, over as many connections as it takes."""
        watch = SessionWatch(self, session_id)
        if self._failure is not None:
            watch.fail(self._failure)
            return watch
        self._watches.add(watch)
        self._arm()
        self.watch_again(watch)
        return watch

    def watch_again(self, watch: SessionWatch) -> None:
        """Have the server report to the watch. Without a connection this happens on the next one."""
        if self._is_ready and watch in self._watches:
            self.put(watch.attaching())

    def leave(self, watch: SessionWatch) -> None:
        """Stop reporting to a watch, and have the server stop where no other watch needs it."""
        if watch not in self._watches:
            return
        for request in self._watches.remove(watch):
            # Without a connection there is nothing to stop.
            if self._is_ready:
                self.put(request)

    async def _run(self) -> None:
        try:
            while not self._is_closing:
                try:
                    await self._serve(await dial(self._address))
                except ConnectionLost as loss:
                    self._last_loss = loss
                    if loss.nobody_there and self._first is not None and not self._first.done():
                        # If there was no server from the beginning, waiting is useless: somebody has to start it.
                        raise Unreachable(loss.message, loss.hint) from loss
                    await asyncio.sleep(self._backoff.next_s())
        except ClientError as error:
            self._failure = error
        finally:
            # Whatever ended this task: fail everything that waits for it.
            self._failure = self._failure or ClientClosed("the client is closed", "Connect anew.")
            self._disarm()
            self._fail_waiting(self._failure)

    async def _serve(self, connection: WatchedConnection) -> None:
        """Use a connection until it is closed: raises where the server closed it, returns where this client did."""
        reader = asyncio.create_task(self._read(connection), name="archer-reader")
        reader.add_done_callback(lambda _: self._wake.set())
        self._silence_s = INITIALIZE_LIMIT_S
        self._watch(connection)
        try:
            await self._write(connection, reader)
            if not self._is_closing:
                # Read the frames that came before the close: streams may have ended in them.
                await reader
        finally:
            self._detach()
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
            await close(connection)

    async def _write(self, connection: WatchedConnection, reader: asyncio.Task[None]) -> None:
        params = self._hello.model_dump(exclude_none=True)
        hello = Request("initialize", params, self._initialized, self._not_initialized, is_of_connection=True)
        try:
            await connection.send(self._requests.frame_of(hello), text=True)
            while not reader.done():
                frame = self._requests.next_frame() if self._is_ready else None
                if frame is not None:
                    await connection.send(frame, text=True)
                elif self._is_closing:
                    return
                else:
                    self._wake.clear()
                    await self._wake.wait()
        except ConnectionClosed:
            return

    async def _read(self, connection: WatchedConnection) -> None:
        try:
            while True:
                self._take(connection, await connection.recv())
        except ConnectionClosed as closed:
            raise closing_error(self._address, closed) from closed

    def _take(self, connection: WatchedConnection, frame: str | bytes) -> None:
        match decode_frame(frame):
            case Notification(method, {"stream_id": str(stream_id)} as params):
                stream = self._streams.get(stream_id)
                if stream is not None:
                    self._deliver(stream, method, params)
            case Notification("session/changed", {"session_id": str(session_id)} as params):
                self._watches.take(session_id, params)
            case Notification("$/heartbeat"):
                self._backoff.reset()
            case Result(identity, result):
                request = self._requests.resolve(identity, result)
                if request is not None and request.method == "initialize":
                    self._watch(connection)
                elif request is not None:
                    self._backoff.reset()
                self._wake.set()
            case Failure(identity, error):
                self._requests.reject(identity, error)
                self._wake.set()

    def _deliver(self, stream: Attachable, method: str, params: Mapping[str, Any]) -> None:
        match stream.take(method, params):
            case "over":
                self._streams.pop(stream.stream_id, None)
            case "gap":
                self._requests.put(self._attaching(stream))
                self._wake.set()

    def _initialized(self, result: Any) -> None:
        try:
            welcome = InitializeResult.model_validate(result)
        except ValidationError:
            raise NotArcher(f"the response of {self._address.url} is not an Archer server's") from None
        self._requests.limits = welcome.limits
        self._silence_s = 2 * welcome.heartbeat_ms / 1000 + SILENCE_SLACK_S
        self._is_ready = True
        self._connections += 1
        self._disarm()
        # The requests for the others have kept their places among those that wait.
        streams = [self._attaching(stream) for stream in self._streams.values() if stream.may_exist]
        self._requests.put_first([*streams, *self._watches.attaching()])
        if self._first is not None and not self._first.done():
            self._first.set_result(None)
        self._on_connection("connected")

    def _not_initialized(self, error: ClientError) -> None:
        if isinstance(error, Refused) and error.info.retryable:
            raise ConnectionLost(error.message, error.hint)
        raise error

    def _attaching(self, stream: Attachable) -> Request:
        def on_error(error: ClientError) -> None:
            if self._streams.get(stream.stream_id) is not stream:
                return
            if stream.may_exist and isinstance(error, Refused) and error.info.retryable:
                # The server has not loaded its stored streams yet, for example. The stream itself is as it was.
                pause_s = (error.info.retry_after_ms or _RETRY_MS) / 1000
                asyncio.get_running_loop().call_later(pause_s, self._attach_again, stream, self._connections)
            elif not (isinstance(error, Unanswered) and stream.unanswered(error)):
                del self._streams[stream.stream_id]
                stream.fail(error)

        method, params = stream.attaching()
        if stream.may_exist:
            return Request(method, params, stream.attached, on_error, is_of_connection=True, losses=stream.losses)
        return Request(method, params, stream.attached, on_error)

    def _attach_again(self, stream: Attachable, connections: int) -> None:
        """Repeat the request on the connection where it was refused; on a later one it has been sent anyway."""
        is_current = self._is_ready and connections == self._connections
        if is_current and self._streams.get(stream.stream_id) is stream:
            self._requests.put(self._attaching(stream))
            self._wake.set()

    def _detach(self) -> None:
        """The connection is lost: queue the requests without a response again, and detach all streams."""
        if self._watching is not None:
            self._watching.cancel()
        self._requests.take_back(asyncio.get_running_loop().time(), self._give_up_after_s)
        for stream in self._streams.values():
            stream.detached()
        was_ready, self._is_ready = self._is_ready, False
        if was_ready and not self._is_closing:
            self._arm()
            self._on_connection("lost")

    def _watch(self, connection: WatchedConnection) -> None:
        """Cut the connection once no byte has come for too long."""
        if self._watching is not None:
            self._watching.cancel()
        due = connection.heard_at + self._silence_s
        if connection.loop.time() >= due:
            connection.transport.abort()
        else:
            self._watching = connection.loop.call_at(due, self._watch, connection)

    def _arm(self) -> None:
        """Start the time after which everything that waits for a connection fails."""
        if not self._is_ready and self._giving_up is None:
            self._giving_up = PatientTimer(self._give_up_after_s, self._give_up)

    def _disarm(self) -> None:
        if self._giving_up is not None:
            self._giving_up.cancel()
            self._giving_up = None

    def _give_up(self) -> None:
        self._giving_up = None
        message = f"no connection to {self._address.url} for {self._give_up_after_s:g} s"
        if self._last_loss is not None:
            message += f": {self._last_loss.message}"
        self._fail_waiting(Unreachable(message, self._last_loss.hint if self._last_loss else None))

    def _fail_waiting(self, error: ClientError) -> None:
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            stream.fail(error)
        self._watches.fail(error)
        self._requests.fail(error)
        if self._first is not None and not self._first.done():
            self._first.set_exception(error)
