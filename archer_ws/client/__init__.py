"""The Python client of archer.v1: chat streams over one WebSocket that outlive its losses.

    async with connect("http://127.0.0.1:8000") as archer:
        async for delta in archer.chat("Why is the sky blue?"):
            print(delta, end="", flush=True)

It depends on the protocol's messages and on nothing else of the server.

- What a program calls: `archer` (the client), `stream` (one stream), `conversations` (those that the server stores),
  `watching` (one watch of their changes), `tools` (functions that a model may call), `uploads`, `errors`.
- Of a stream: `so_far` (its state), `unread` (events not read yet), `fold` (events to messages).
- Of tool calls: `running` (all calls that run here), `call_run` (one of them), `calling` (calling a function),
  `results` (its return value as a tool result).
- Of the connection: `link` (opens and reopens it), `requests` (those without a response), `watches`, `asking` (one
  request), `dialling` (one attempt to connect), `backoff`, `frames` and `events` (the messages on the wire).
"""

from archer_ws.client.archer import Archer, connect
from archer_ws.client.backoff import Backoff
from archer_ws.client.call_run import Approval, Approve
from archer_ws.client.conversations import Sessions
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
    Unanswered,
    Unreachable,
)
from archer_ws.client.events import (
    ArgumentsDelta,
    Delta,
    Ended,
    Progress,
    Started,
    Step,
    StreamEvent,
    ToolCall,
    ToolResult,
    ToolUpdate,
    UnknownEvent,
)
from archer_ws.client.results import File, Image
from archer_ws.client.stream import ChatStream
from archer_ws.client.tools import Tool, tool
from archer_ws.client.uploads import Source, UploadedFile, UploadProgress
from archer_ws.client.watching import SessionWatch

__all__ = [
    "Approval",
    "Approve",
    "Archer",
    "ArgumentsDelta",
    "Backoff",
    "ChatStream",
    "ClientClosed",
    "ClientError",
    "ClosedByServer",
    "Delta",
    "Ended",
    "File",
    "Image",
    "NotArcher",
    "Progress",
    "Refused",
    "SessionWatch",
    "Sessions",
    "Source",
    "Started",
    "Step",
    "StreamError",
    "StreamEvent",
    "StreamFailed",
    "StreamForgotten",
    "StreamIncomplete",
    "Tool",
    "ToolCall",
    "ToolResult",
    "ToolUpdate",
    "Unanswered",
    "UnknownEvent",
    "Unreachable",
    "UploadProgress",
    "UploadedFile",
    "connect",
    "tool",
]
