"""The error for a request that no route matches: a chat in OpenAI's form is recognised by its body where the path tells
nothing.
"""

from starlette.requests import Request

from archer_ws.api.dependencies import Services
from archer_ws.api.http.scope import SOCKET_PATH, path_of
from archer_ws.api.signposts.dialects import Dialect, is_familiar, note_dialect
from archer_ws.api.signposts.foreign_chats import is_foreign_request
from archer_ws.api.signposts.no_such_path import no_such_path
from archer_ws.api.socket import stopping
from archer_ws.core.exceptions import ArcherError


async def lost_request(request: Request) -> ArcherError:
    """The error for a request that no route matches; this also decides the error's form."""
    services: Services = request.app.state.services
    if path_of(request.scope) == SOCKET_PATH and services.manager.is_draining:
        return stopping()  # As for a handshake: a page asks here why its own failed.
    if is_familiar(path_of(request.scope)) and await is_foreign_request(request):
        note_dialect(request.scope, Dialect.OPENAI)
    return no_such_path(request.scope)
