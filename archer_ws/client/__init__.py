"""The Python client of archer.v1: chat streams over one WebSocket that outlive its losses.

    async with connect("http://127.0.0.1:8000") as archer:
        async for delta in archer.chat("Why is the sky blue?"):
            print(delta, end="", flush=True)

It knows the protocol's messages and nothing else of the server. `archer` is what is called, `stream` one answer,
`watching` conversations that change, `link` the connection and its mending, `requests` what waits on it, `dialling` one
attempt to connect, `frames` and `events` the wire's form, `errors` what can go wrong.
"""

from archer_ws.client.archer import Archer, Sessions, connect
from archer_ws.client.backoff import Backoff
from archer_ws.client.errors import (
    ClientClosed,
    ClientError,
    ClosedByServer,
    NotArcher,
    Refused,
    StreamError,
    StreamFailed,
    StreamForgotten,
    StreamIncomplete,
    Unreachable,
)
from archer_ws.client.events import ArgumentsDelta, Delta, Ended, Progress, Started, StreamEvent, ToolCall, UnknownEvent
from archer_ws.client.stream import ChatStream
from archer_ws.client.uploads import Source, UploadedFile, UploadProgress
from archer_ws.client.watching import SessionWatch

__all__ = [
    "Archer",
    "ArgumentsDelta",
    "Backoff",
    "ChatStream",
    "ClientClosed",
    "ClientError",
    "ClosedByServer",
    "Delta",
    "Ended",
    "NotArcher",
    "Progress",
    "Refused",
    "SessionWatch",
    "Sessions",
    "Source",
    "Started",
    "StreamError",
    "StreamEvent",
    "StreamFailed",
    "StreamForgotten",
    "StreamIncomplete",
    "ToolCall",
    "UnknownEvent",
    "Unreachable",
    "UploadProgress",
    "UploadedFile",
    "connect",
]
