"""The Python client of archer.v1: chat streams over one WebSocket that outlive its losses.

    async with connect("http://127.0.0.1:8000") as archer:
        async for delta in archer.chat("Why is the sky blue?"):
            print(delta, end="", flush=True)

It knows the protocol's messages and nothing else of the server. `archer` is what is called, `stream` one answer
(`so_far`: what it has told, `unread`: what of it waits to be read, `fold`: its messages), `conversations` those that
the server keeps, `watching` how they change. `tools` are functions that a model may call, `running` which calls run,
`call_run` one of them, `calling` and `results` how functions are called and what they give. `link` is the connection
and its mending, `requests` what waits on it, `asking` one request, `dialling` one attempt to connect, `frames` and
`events` the wire's form, `errors` what can go wrong.
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
    "UnknownEvent",
    "Unreachable",
    "UploadProgress",
    "UploadedFile",
    "connect",
    "tool",
]
