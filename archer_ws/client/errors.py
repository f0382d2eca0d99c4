"""What can go wrong for a client.

ClientError
├── Unreachable          no connection: nothing answers, or none for `give_up_after_s`
├── ClosedByServer       the server closed the connection for good (protocol section 11)
├── NotArcher            what answers there does not speak archer.v1
├── ClientClosed         the client was closed while something waited
├── Refused              the server answered a request with an error
└── StreamError          an answer did not come to a good end; `text` is what came
    ├── StreamFailed · StreamIncomplete · StreamForgotten
"""

from archer_ws.core.exceptions import ErrorInfo


class ClientError(Exception):
    """Base of all; `message` says what happened and `hint` what to do, which a traceback shows below it."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if hint is not None:
            self.add_note(hint)


class Unreachable(ClientError):
    """There is no connection, and there was none for as long as the client was told to try."""


class NotArcher(ClientError):
    """Something answers, but not as an Archer server does."""


class ClientClosed(ClientError):
    """The client was closed; the stream goes on or ends at the server as its `on_disconnect` says."""


class ClosedByServer(ClientError):
    """The server closed the connection with a code that forbids connecting again."""

    def __init__(self, code: int, message: str, hint: str | None = None) -> None:
        super().__init__(message, hint)
        self.code = code


class Refused(ClientError):
    """The server answered with an error; `info.kind` says which, `info.retryable` whether to try again."""

    def __init__(self, info: ErrorInfo, *, repeated: bool = False) -> None:
        super().__init__(info.message, info.hint)
        self.info = info
        #: Whether the request had been sent before, over a connection that was lost.
        self.repeated = repeated

    @property
    def kind(self) -> str:
        """The protocol's name for it."""
        return self.info.kind


class StreamError(ClientError):
    """An answer that did not come to a good end.

    Args:
        stream_id: which.
        text: what came of it.
        info: the server's error; None where it gave none.
        message: what to say where it gave none.
    """

    def __init__(self, stream_id: str, text: str, info: ErrorInfo | None, message: str) -> None:
        super().__init__(info.message if info else message, info.hint if info else None)
        self.stream_id = stream_id
        self.text = text
        self.info = info


class StreamFailed(StreamError):
    """The provider or the server failed."""


class StreamIncomplete(StreamError):
    """The answer just stopped: no end marker from the provider, or too much text."""


class StreamForgotten(StreamError):
    """The server has no log of the stream (any more): it was restarted, or the stream ended too long ago."""
