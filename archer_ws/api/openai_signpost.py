"""Tells OpenAI's SDKs that were given a wrong base URL which one is right.

`/api/v1/chat/completions` has the path such an SDK asks for, but another form: without this it would read nothing, or
nonsense, out of an answer that looks like a success.
"""

from urllib.parse import quote

from starlette.types import ASGIApp, Receive, Scope, Send

from archer_ws.api.errors import refuse
from archer_ws.api.openai_paths import base_url, is_openai_sdk, speaks_openai
from archer_ws.api.scope import is_health
from archer_ws.core.exceptions import MethodNotFound

#: The most characters of a path that an answer repeats.
_MAX_PATH_CHARS = 200


class BaseUrlSignpost:
    """Answers 404 to an OpenAI SDK outside `/v1`. The message has the right base URL: Node's SDK shows no more."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what is no such request."""
        if scope["type"] == "http" and is_openai_sdk(scope) and not speaks_openai(scope) and not is_health(scope):
            await refuse(_misdirected(scope), scope, receive, send)
            return
        await self._app(scope, receive, send)


def _misdirected(scope: Scope) -> MethodNotFound:
    right, path = base_url(scope), quote(scope["path"], errors="replace")[:_MAX_PATH_CHARS]
    return MethodNotFound(
        f"{path} is not for OpenAI's SDKs: their base URL here is {right}",
        hint=f'Make the client with base_url="{right}" (Python) or baseURL: "{right}" (JavaScript).',
    )
