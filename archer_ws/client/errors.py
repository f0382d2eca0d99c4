"""The errors that a client raises.

ClientError
├── Unreachable          no connection: nothing answers, or none for `give_up_after_s`
├── ClosedByServer       the server closed the connection for good (protocol section 11)
├── NotArcher            the server there does not follow archer.v1
├── ClientClosed         the client was closed while a request or a stream waited
├── Refused              the response to a request is an error
├── Unanswered           a request got no response: the connection was lost each time that it was sent
└── StreamError          a stream failed or stopped early; `text` is what came
    ├── StreamFailed · StreamIncomplete · StreamForgotten
"""

from archer_ws.core.exceptions import ErrorInfo


class ClientError(Exception):
    """The base class; `message` says what happened and `hint` what to do, which a traceback shows below it."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if hint is not None:
            self.add_note(hint)


class Unreachable(ClientError):
    """There is no server, or there was no connection for `give_up_after_s` seconds."""


class NotArcher(ClientError):
    """There is a server, but what it sends does not follow archer.v1."""


class ClientClosed(ClientError):
    """The client was closed; the stream goes on or ends at the server as its `on_disconnect` says."""


class ClosedByServer(ClientError):
    """The server closed the connection with a code that forbids connecting again."""

    def __init__(self, code: int, message: str, hint: str | None = None) -> None:
        super().__init__(message, hint)
        self.code = code


class Refused(ClientError):
    """The response is an error: `info.kind` says which one, `info.retryable` whether to try again."""

    def __init__(self, info: ErrorInfo, *, repeated: bool = False) -> None:
        super().__init__(info.message, info.hint)
        self.info = info
        #: Whether the request was sent before, over a connection that was lost.
        self.repeated = repeated

    @property
    def kind(self) -> str:
        """The protocol's name for it."""
        return self.info.kind


class Unanswered(ClientError):
    """For `give_up_after_s` seconds, each connection was lost after this request and before its response. Everything
    else goes on.
    """

    def __init__(self, method: str, losses: int) -> None:
        super().__init__(
            f"the connection was lost {losses} times before the response to {method} came",
            "The server, or a proxy before it, may close the connection because of this request: see their logs. "
            "Whether the request had an effect is not known.",
        )


class StreamError(ClientError):
    """A stream that failed or stopped early.

    Args:
        stream_id: the stream's id.
        text: the text that came before.
        info: the server's error; None where it sent none.
        message: the message where the server sent no error.
    """

    def __init__(self, stream_id: str, text: str, info: ErrorInfo | None, message: str) -> None:
        super().__init__(info.message if info else message, info.hint if info else None)
        self.stream_id = stream_id
        self.text = text
        self.info = info


class StreamFailed(StreamError):
    """The provider or the server failed."""


class StreamIncomplete(StreamError):
    """The text just stopped: the provider sent no end marker, or there was too much text."""


class StreamForgotten(StreamError):
    """The server no longer has the stream's log: it was restarted, or the stream ended too long ago."""
