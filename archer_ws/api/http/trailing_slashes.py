"""A path with slashes at its end is the same route: a redirect would lose the bodies of those who do not follow it.

`scope["slashed"]` tells that there were any, for pages whose links are relative.
"""

from starlette.types import ASGIApp, Receive, Scope, Send


class TrailingSlashes:
    """Takes the slashes off the end of a path, but for `/` itself, wherever the application is mounted."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] in {"http", "websocket"} and scope["path"].endswith("/"):
            scope = _without(scope)
        await self._app(scope, receive, send)


def _without(scope: Scope) -> Scope:
    root: str = scope.get("root_path", "")
    path = root + scope["path"].removeprefix(root).rstrip("/")
    if path == root:
        path += "/"
    raw_path = scope.get("raw_path")
    return {**scope, "path": path, "slashed": True, **({"raw_path": raw_path.rstrip(b"/") or b"/"} if raw_path else {})}
