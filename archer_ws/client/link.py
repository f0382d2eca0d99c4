"""The connection: its keeping, its mending, and what waits on it.

Owns two tasks: one that connects, sends, and connects again; and while a connection stands, one that reads. Requests
and streams are put here synchronously and sent in that order. Behind a loss every stream is attached anew at its last
event, then the unanswered requests are repeated: each of them may be sent twice without harm. What a stream makes of
its events is stream.py's.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol

from pydantic import ValidationError
from websockets.exceptions import ConnectionClosed

from archer_ws.client.backoff import Backoff
from archer_ws.client.dialling import Address, ConnectionLost, WatchedConnection, close, closing_error, dial
from archer_ws.client.errors import ClientClosed, ClientError, NotArcher, Refused, Unreachable
from archer_ws.client.frames import Failure, Notification, Result, decode_frame
from archer_ws.client.requests import Request, Requests
from archer_ws.client.watching import SessionWatch
from archer_ws.rpc.messages import InitializeParams, InitializeResult

#: How long the answer to `initialize` may take, in seconds.
INITIALIZE_LIMIT_S = 10.0
#: What is added to two of the server's heartbeats before silence counts as a loss, in seconds.
SILENCE_SLACK_S = 5.0
#: How long what is still to be sent may hold up closing, in seconds.
FLUSH_LIMIT_S = 3.0

ConnectionState = Literal["connected", "lost"]
Taken = Literal["taken", "gap", "over"]


class Attachable(Protocol):
    """A stream as the link sees it."""

    stream_id: str

    def attaching(self) -> tuple[str, Mapping[str, Any]]:
        """The request that has its events delivered from where it is."""

    def attached(self, result: Any) -> None:
        """That request was answered: its events follow."""

    def detached(self) -> None:
        """Nothing more is delivered until it is attached anew."""

    def take(self, method: str, params: Mapping[str, Any]) -> Taken:
        """An event: in order, out of order, or the last."""

    def fail(self, error: ClientError) -> None:
        """It can't be continued."""


class Link:
    """One server's connection.

    Args:
        address: where it is.
        hello: what to introduce ourselves with.
        backoff: how long to wait between attempts.
        give_up_after_s: how long what waits may be without a connection, in seconds.
        on_connection: told of each change.
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
        # In the order they came.
        self._watches: dict[SessionWatch, None] = {}
        self._requests = Requests()
        self._silence_s = INITIALIZE_LIMIT_S
        self._is_ready = False
        self._is_closing = False
        self._failure: ClientError | None = None
        self._last_loss: ConnectionLost | None = None
        self._wake = asyncio.Event()
        self._first: asyncio.Future[None] | None = None
        self._runner: asyncio.Task[None] | None = None
        self._giving_up: asyncio.TimerHandle | None = None
        self._watching: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Connect.

        Raises:
            ClientError: there is no server, or none that takes us.
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
        """Send what is to be sent, close, and fail what still waits."""
        self._is_closing = True
        self._wake.set()
        if self._runner is not None:
            await asyncio.wait({self._runner}, timeout=FLUSH_LIMIT_S if self._is_ready else 0)
            self._runner.cancel()
            await asyncio.wait({self._runner})
            if not self._runner.cancelled():
                self._runner.result()

    def put(self, request: Request) -> None:
        """Have a request sent; in the order of the calls to this method and to `open`."""
        if self._failure is not None:
            request.on_error(self._failure)
            return
        self._requests.put(request)
        self._arm()
        self._wake.set()

    async def request(self, method: str, params: Mapping[str, Any]) -> Any:
        """A request's result.

        Raises:
            ClientError: it was refused, or could not be made.
        """
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def on_result(result: Any) -> None:
            if not future.done():
                future.set_result(result)

        def on_error(error: ClientError) -> None:
            if not future.done():
                future.set_exception(error)

        self.put(Request(method, params, on_result, on_error))
        return await future

    def open(self, stream: Attachable) -> None:
        """Deliver a stream's events to it until its end, over as many connections as it takes.

        Raises:
            ValueError: a stream of that id is open already.
        """
        if self._failure is not None:
            stream.fail(self._failure)
            return
        if stream.stream_id in self._streams:
            raise ValueError(f"stream {stream.stream_id} is open already")
        self._streams[stream.stream_id] = stream
        self._arm()
        if self._is_ready:
            self._requests.put(self._attaching(stream))
            self._wake.set()

    def watch(self, session_id: str | None) -> SessionWatch:
        """Tell of a conversation, or of all, as they change, over as many connections as it takes."""
        watch = SessionWatch(self, session_id)
        if self._failure is not None:
            watch.fail(self._failure)
            return watch
        self._watches[watch] = None
        self._arm()
        self.watch_again(watch)
        return watch

    def watch_again(self, watch: SessionWatch) -> None:
        """Ask the server to tell the watch; without a connection, the next one does it."""
        if self._is_ready and watch in self._watches:
            self.put(self._asking_to_watch(watch))

    def leave(self, watch: SessionWatch) -> None:
        """Tell the watch nothing more, and the server that nobody listens, where nobody does."""
        if watch not in self._watches:
            return
        del self._watches[watch]
        if not self._is_ready:
            return
        wanted = {each.session_id for each in self._watches}
        if watch.session_id in wanted:
            return
        params = {} if watch.session_id is None else {"session_id": watch.session_id}
        self.put(Request("session/unwatch", params, lambda _: None, lambda _: None, is_of_connection=True))
        if watch.session_id is None:
            # That ended those of single conversations, too.
            for each in wanted - {None}:
                params = {"session_id": each} if each else {}
                self.put(Request("session/watch", params, lambda _: None, lambda _: None, is_of_connection=True))

    async def _run(self) -> None:
        try:
            while not self._is_closing:
                try:
                    await self._serve(await dial(self._address))
                except ConnectionLost as loss:
                    self._last_loss = loss
                    if loss.nobody_there and self._first is not None and not self._first.done():
                        # A server that never was there is told at once: it has to be started first.
                        raise Unreachable(loss.message, loss.hint) from loss
                    await asyncio.sleep(self._backoff.next_s())
        except ClientError as error:
            self._failure = error
        finally:
            # Whatever ended this task, nobody may wait for it in vain.
            self._failure = self._failure or ClientClosed("the client is closed", "Connect anew.")
            self._disarm()
            self._fail_waiting(self._failure)

    async def _serve(self, connection: WatchedConnection) -> None:
        """Use a connection until it is closed, by the other side with an error, by us without."""
        reader = asyncio.create_task(self._read(connection), name="archer-reader")
        reader.add_done_callback(lambda _: self._wake.set())
        self._silence_s = INITIALIZE_LIMIT_S
        self._watch(connection)
        try:
            await self._write(connection, reader)
            if not self._is_closing:
                # What came before the close is read first: it may hold ends.
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
                for watch in [each for each in self._watches if each.wants(session_id)]:
                    watch.take(params)
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
            raise NotArcher(f"{self._address.url} does not answer as an Archer server does") from None
        self._requests.limits = welcome.limits
        self._silence_s = 2 * welcome.heartbeat_ms / 1000 + SILENCE_SLACK_S
        self._is_ready = True
        self._disarm()
        attaching = [self._attaching(stream) for stream in self._streams.values()]
        self._requests.put_first([*attaching, *map(self._asking_to_watch, self._watches)])
        if self._first is not None and not self._first.done():
            self._first.set_result(None)
        self._on_connection("connected")

    def _not_initialized(self, error: ClientError) -> None:
        if isinstance(error, Refused) and error.info.retryable:
            raise ConnectionLost(error.message, error.hint)
        raise error

    def _attaching(self, stream: Attachable) -> Request:
        def on_error(error: ClientError) -> None:
            self._streams.pop(stream.stream_id, None)
            stream.fail(error)

        method, params = stream.attaching()
        return Request(method, params, stream.attached, on_error, is_of_connection=True)

    def _asking_to_watch(self, watch: SessionWatch) -> Request:
        params = {} if watch.session_id is None else {"session_id": watch.session_id}
        return Request("session/watch", params, lambda _: watch.attached(), watch.refused, is_of_connection=True)

    def _detach(self) -> None:
        """Take back what was sent and not answered."""
        if self._watching is not None:
            self._watching.cancel()
        self._requests.take_back()
        for stream in self._streams.values():
            stream.detached()
        was_ready, self._is_ready = self._is_ready, False
        if was_ready and not self._is_closing:
            self._arm()
            self._on_connection("lost")

    def _watch(self, connection: WatchedConnection) -> None:
        """Cut the connection when nothing has been heard for too long."""
        if self._watching is not None:
            self._watching.cancel()
        due = connection.heard_at + self._silence_s
        if connection.loop.time() >= due:
            connection.transport.abort()
        else:
            self._watching = connection.loop.call_at(due, self._watch, connection)

    def _arm(self) -> None:
        """Without a connection, what waits waits so long and no longer."""
        if not self._is_ready and self._giving_up is None:
            self._giving_up = asyncio.get_running_loop().call_later(self._give_up_after_s, self._give_up)

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
        watches, self._watches = self._watches, {}
        for watch in watches:
            watch.fail(error)
        self._requests.fail(error)
        if self._first is not None and not self._first.done():
            self._first.set_exception(error)
