"""What one connection has received, frame by frame: the request of each response, the stream of each event.

Whatever breaks a rule that always holds goes into the ledger, whichever check the frame was for. A frame that cannot be
read is a `problem`, which the check meets when it next waits. Pure: peer.py reads and waits.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from archer_ws.conformance.failing import Failed, shown
from archer_ws.conformance.ledger import Ledger, Rule
from archer_ws.conformance.methods import CHAT_SEND, STREAM_SUBSCRIBE, STREAM_UNSUBSCRIBE, ExpectedMethod, Misfit
from archer_ws.conformance.told import Told
from archer_ws.conformance.wire import (
    Notification,
    ReceivedError,
    RequestId,
    Response,
    StreamEvent,
    faults_of_error,
    faults_of_result,
    parse,
)
from archer_ws.sessions.models import SessionChanged

T = TypeVar("T")

#: How many errors with `id: null` are kept: a server that floods us with them must not fill the memory.
UNADDRESSED_MAX = 1000


@dataclass
class Request(Generic[T]):
    """A request that was sent, and its response."""

    method: ExpectedMethod[T]
    id: RequestId
    params: Mapping[str, Any]
    response: Response | None = None
    result: T | None = None


class Inbox:
    """Everything that was received.

    Args:
        ledger: gets the breaches.
    """

    def __init__(self, ledger: Ledger) -> None:
        #: Errors without a request: with `id: null`.
        self.unaddressed: list[ReceivedError] = []
        #: Why no further frame can be trusted.
        self.problem: Failed | None = None
        #: The notifications about watched conversations.
        self.changes: list[SessionChanged] = []
        self._ledger = ledger
        #: By id; of two requests with the same id the older gets the first response.
        self._waiting: dict[RequestId, list[Request[Any]]] = {}
        self._told: dict[str, Told] = {}
        self._events: dict[str, list[str]] = {}

    def expect(self, request: Request[Any]) -> None:
        """Record a request that is about to be sent."""
        self._waiting.setdefault(request.id, []).append(request)

    def told(self, stream_id: str) -> Told:
        """What the newest subscription to a stream has received."""
        return self._told[stream_id]

    def events_of(self, stream_id: str) -> list[str]:
        """The methods of all events of a stream, known or not, of any subscription."""
        return self._events.get(stream_id, [])

    def take(self, frame: str | bytes) -> None:
        """Record a frame."""
        try:
            for message in parse(frame):
                match message:
                    case Response() as response:
                        self._take_response(response)
                    case Notification(method, params) if isinstance(params, StreamEvent):
                        self._events.setdefault(params.stream_id, []).append(method)
                        self._take_event(params)
                    case Notification(_, SessionChanged() as change) if len(self.changes) < UNADDRESSED_MAX:
                        self.changes.append(change)
        except Misfit as misfit:
            breach = f"{misfit}, in {shown(frame if isinstance(frame, str) else frame.hex())}"
            self._ledger.note(Rule.FORM, breach)
            self.problem = Failed("a message of archer.v1", breach)

    def _take_response(self, response: Response) -> None:
        if response.error is not None:
            for fault in faults_of_error(response.error):
                self._ledger.note(Rule.ERRORS, fault)
        if response.id is None:
            if response.error is None:
                raise Misfit("a result with id null")
            if len(self.unaddressed) < UNADDRESSED_MAX:
                self.unaddressed.append(response.error)
            return
        waiting = self._waiting.get(response.id)
        if not waiting:
            breach = f"a response came for the id {response.id!r}, which nothing waits for"
            self._ledger.note(Rule.ONE_RESPONSE, breach)
            return
        request = waiting.pop(0)
        if response.error is None:
            self._take_result(request, response.result)
        request.response = response

    def _take_result(self, request: Request[Any], result: Any) -> None:
        method = request.method
        try:
            request.result = method.result.fit(result)
        except Misfit as misfit:
            raise Misfit(f"result of {method.name}: {misfit}") from None
        for fault in faults_of_result(result, has_free_names=method.has_free_names):
            self._ledger.note(Rule.FORM, f"{method.name}: {fault}")
        self._subscribe(request)

    def _subscribe(self, request: Request[Any]) -> None:
        params = request.params
        result: Any = request.result
        if request.method is CHAT_SEND:
            is_whole = params.get("stream") is False
            self._told[result.stream_id] = Told(result.stream_id, is_whole=is_whole, accepted=result)
        elif request.method is STREAM_SUBSCRIBE:
            self._told[result.stream_id] = Told(result.stream_id, params.get("after") or 0)
        elif request.method is STREAM_UNSUBSCRIBE:
            self._told.pop(params["stream_id"], None)

    def _take_event(self, event: StreamEvent) -> None:
        told = self._told.get(event.stream_id)
        if told is None:
            self._ledger.note(*self._unsubscribed(event.stream_id))
            return
        for rule, breach in told.take(event):
            self._ledger.note(rule, breach)

    def _unsubscribed(self, stream_id: str) -> tuple[Rule, str]:
        for request in (each for waiting in self._waiting.values() for each in waiting):
            is_awaited = request.method in (CHAT_SEND, STREAM_SUBSCRIBE)
            if is_awaited and request.params.get("stream_id", stream_id) == stream_id:
                return Rule.RESPONSE_FIRST, f"an event of {stream_id} came before the response to {request.method.name}"
        return Rule.ORDER, f"an event of {stream_id} came to a socket that is not subscribed to it"
