"""CORS for pages of the allowed origins, at next to nothing for all others."""

from collections.abc import Awaitable

from starlette.middleware.cors import CORSMiddleware
from starlette.types import Message, Receive, Scope, Send


class LeanCORS(CORSMiddleware):
    """Starlette's, for requests of pages. Of what programs ask, which send no Origin, it tells caches that the answer
    would be another for a page, as Starlette's does; but without looking at each chunk in a coroutine."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application."""
        if scope["type"] != "http" or any(name == b"origin" for name, _ in scope["headers"]):
            await super().__call__(scope, receive, send)
            return

        def telling(message: Message) -> Awaitable[None]:
            return send(_varying(message) if message["type"] == "http.response.start" else message)

        await self.app(scope, receive, telling)


def _varying(start: Message) -> Message:
    """The head of an answer that says it depends on Origin, too."""
    headers = list(start.get("headers", ()))
    known = [value for name, value in headers if name == b"vary"]
    others = [(name, value) for name, value in headers if name != b"vary"] if known else headers
    return {**start, "headers": [*others, (b"vary", b", ".join([*known, b"Origin"]))]}
