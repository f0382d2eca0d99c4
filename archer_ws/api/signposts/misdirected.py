"""Refuses clients of other APIs at paths whose responses they would misread.

`/api/v1/chat/completions` has a path that clients of OpenAI's API request, but another form: such a client would read
nothing, or nonsense, from a response that looks like a success and that the model was paid for.
"""

from collections.abc import Mapping

from starlette.types import ASGIApp, Receive, Scope, Send

from archer_ws.api.http.error_handlers import refuse
from archer_ws.api.http.scope import header_values, is_health, path_of
from archer_ws.api.signposts.dialects import (
    OPENAI,
    dialect_of_fields,
    dialect_of_sole_fields,
    is_below_v1,
    is_responses,
)
from archer_ws.api.signposts.no_such_path import no_such_path, no_such_socket

_UPGRADE_REQUIRED = 426
#: The protocol to use instead (RFC 9110, section 15.5.22).
_INSTEAD = {"Upgrade": "HTTP/1.1", "Connection": "Upgrade"}


class MisdirectedClients:
    """Answers 404 to a client of OpenAI's API outside of `/v1`, by its header fields; the routes check bodies.

    A WebSocket for OpenAI's Responses API gets 426, after which its clients use POST at once; any other status they
    retry for seconds.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on every other request."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
        elif _asks_for_socket(scope) and is_responses(path_of(scope)):
            await refuse(no_such_socket(scope), scope, receive, send, status=_UPGRADE_REQUIRED, headers=_INSTEAD)
        elif scope["type"] == "http" and _is_misdirected(scope):
            await refuse(no_such_path(scope), scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def passes(self, scope: Scope, fields: Mapping[bytes, bytes]) -> bool:
        """Whether the request has nothing of a client of OpenAI's API, or may have it; a POST asks for no socket."""
        return dialect_of_sole_fields(fields) is not OPENAI or is_below_v1(scope["path"])


def _is_misdirected(scope: Scope) -> bool:
    served_here = is_below_v1(path_of(scope)) or is_health(scope)
    return not served_here and dialect_of_fields(scope["headers"]) is OPENAI


def _asks_for_socket(scope: Scope) -> bool:
    """Whether a WebSocket was requested; our own server turns such a request into a plain GET where it has no
    socket."""
    if scope["type"] == "websocket":
        return True
    return scope["method"] == "GET" and any(value.lower() == b"websocket" for value in header_values(scope, b"upgrade"))
