"""What `server/` uses of uvicorn beyond its documented interface, by name: an upgrade that changes it fails here.

The upper bound in pyproject.toml is raised when this and the tests of the server pass with the next version.
"""

import ast
import asyncio
import inspect
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from uvicorn.config import Config
from uvicorn.protocols.http import httptools_impl
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import HANDLED_SIGNALS, ServerState

import archer_ws.server

#: Methods that are overridden, with the parameters they are called with.
HTTP_METHODS = {
    "_should_upgrade": [],
    "_start_asgi_task": ["cycle", "app"],
    "_unset_keepalive_if_required": [],
    "connection_lost": ["exc"],
    "connection_made": ["transport"],
    "data_received": ["data"],
    "handle_websocket_upgrade": [],
    "on_body": ["body"],
    "on_headers_complete": [],
    "on_message_begin": [],
    "on_message_complete": [],
    "on_response_complete": [],
    "pause_writing": [],
    "send_400_response": ["msg"],
    "shutdown": [],
}
WEBSOCKET_METHODS = {
    "connection_lost": ["exc"],
    "connection_made": ["transport"],
    "data_received": ["data"],
    "handle_bytes": ["event"],
    "handle_close": ["event"],
    "handle_connect": ["event"],
    "handle_cont": ["event"],
    "handle_parser_exception": [],
    "handle_ping": [],
    "handle_pong": ["event"],
    "handle_text": ["event"],
    "keepalive_timeout": [],
    "pause_writing": [],
    "receive": [],
    "resume_writing": [],
    "send": ["message"],
    "send_keepalive_ping": [],
    "send_receive_event_to_app": [],
    "shutdown": [],
}
SERVER_METHODS = {
    "capture_signals": [],
    "handle_exit": ["sig", "frame"],
    "serve": ["sockets"],
    "shutdown": ["sockets"],
    "startup": ["sockets"],
}
#: What is read or set of an instance, or called.
HTTP_NAMES = {
    *("_should_upgrade_to_ws", "client", "config", "cycle", "expect_100_continue", "flow", "headers", "logger", "loop"),
    *("parser", "pipeline", "scope", "server_state", "tasks", "timeout_keep_alive", "transport", "url"),
}
WEBSOCKET_NAMES = {
    *("client", "close_sent", "close_timer", "conn", "curr_msg_data_type", "disconnected", "frames"),
    *("handshake_complete", "handshake_initiated", "initial_response", "logger", "loop", "pending_ping_payload"),
    *("ping_timeout", "pong_timer", "queue", "read_paused", "transport", "writable"),
}
SERVER_NAMES = {"server_state", "should_exit"}
CYCLE_NAMES = {
    *("body", "chunked_encoding", "default_headers", "disconnected", "expected_content_length", "flow", "keep_alive"),
    *("message_event", "more_body", "on_response", "response_complete", "response_started", "scope", "transport"),
    "waiting_for_100_continue",
}
HTTP_FILES = ("http_bodies", "http_idle", "http_prompt", "http_protocol", "http_seats", "http_stalls", "upgrade_offers")
WEBSOCKET_FILES = ("ws_inbound", "ws_protocol")
#: Set when a handshake comes, and read where there may have been none yet.
LATE = {"scope"}


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    """An application that is never called."""


@pytest.fixture
async def instances() -> dict[type, object]:
    """One of each class, with nothing connected to it."""
    config = Config(nothing, log_config=None)
    config.load()
    state: dict[str, Any] = {}
    http = HttpToolsProtocol(config, ServerState(), state, asyncio.get_running_loop())
    http.on_message_begin()
    parameters: dict[str, Any] = dict.fromkeys(inspect.signature(RequestResponseCycle).parameters)
    cycle = RequestResponseCycle(**parameters | {"scope": {"headers": []}})
    socket = WebSocketsSansIOProtocol(config, ServerState(), state, asyncio.get_running_loop())
    made: list[object] = [http, cycle, socket, uvicorn.Server(config)]
    return {type(each): each for each in made}


@pytest.mark.parametrize(
    ("owner", "names"),
    [
        (HttpToolsProtocol, HTTP_NAMES),
        (RequestResponseCycle, CYCLE_NAMES),
        (WebSocketsSansIOProtocol, WEBSOCKET_NAMES),
        (uvicorn.Server, SERVER_NAMES),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
async def test_its_instances_have_what_is_used_of_them(
    instances: dict[type, object], owner: type, names: set[str]
) -> None:
    assert sorted(name for name in names if not hasattr(instances[owner], name)) == []


@pytest.mark.parametrize(
    ("owner", "methods"),
    [
        (HttpToolsProtocol, HTTP_METHODS),
        (WebSocketsSansIOProtocol, WEBSOCKET_METHODS),
        (uvicorn.Server, SERVER_METHODS),
    ],
    ids=["http", "websocket", "server"],
)
def test_its_methods_that_are_overridden_are_there_and_take_what_they_took(
    owner: type, methods: dict[str, list[str]]
) -> None:
    there = {name: getattr(owner, name) for name in methods if hasattr(owner, name)}
    taken = {name: [*inspect.signature(method).parameters][1:] for name, method in there.items()}
    assert taken == methods


def test_the_rest_of_it_is_where_it_was() -> None:
    assert httptools_impl.STATUS_LINE[400].startswith(b"HTTP/1.1 400 ")
    assert issubclass(ClientDisconnected, OSError)
    assert HANDLED_SIGNALS
    assert {"connections", "tasks"} <= set(vars(ServerState()))
    assert {"read_paused", "resume_reading"} <= {*dir(FlowControl), *vars(FlowControl(None))}  # type: ignore[arg-type]
    assert "http_protocol_class(" in inspect.getsource(uvicorn.Server), "our class is what makes HTTP connections"
    assert "ws_protocol_class(" in inspect.getsource(HttpToolsProtocol), "and what takes them over"


@pytest.mark.parametrize(
    ("owner", "files", "known"),
    [
        (HttpToolsProtocol, HTTP_FILES, {*HTTP_METHODS, *HTTP_NAMES}),
        (WebSocketsSansIOProtocol, WEBSOCKET_FILES, {*WEBSOCKET_METHODS, *WEBSOCKET_NAMES}),
        (uvicorn.Server, ("server",), {*SERVER_METHODS, *SERVER_NAMES}),
    ],
    ids=["http", "websocket", "server"],
)
async def test_nothing_of_it_is_used_that_is_not_named_here(
    instances: dict[type, object], owner: type, files: tuple[str, ...], known: set[str]
) -> None:
    theirs = {*dir(instances[owner])} - {*dir(object)}
    assert sorted(_names_used(files) & theirs - known - LATE) == []


def _names_used(files: tuple[str, ...]) -> set[str]:
    """The methods that the modules define, and what they look up on `self` and `super()`."""
    used: set[str] = set()
    (package,) = archer_ws.server.__path__
    for file in files:
        for node in ast.walk(ast.parse((Path(package) / f"{file}.py").read_text("utf-8"))):
            match node:
                case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                    used.add(name)
                case ast.Attribute(value=ast.Name(id="self") | ast.Call(func=ast.Name(id="super")), attr=name):
                    used.add(name)
    return used - {"__init__"}
