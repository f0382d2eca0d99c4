"""A small client of the REST and SSE interface (protocol section 10).

Owns the connections, and saying in words why a server can't be reached. What its bytes mean is events.py's, what is
done with an answer the caller's. It does not resume a broken stream: over SSE the server ends what nobody reads.
"""

import asyncio
import ipaddress
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from typing import NoReturn
from urllib.parse import urlsplit

import httpx

from archer_ws.client.events import (
    ClientError,
    Ended,
    Refused,
    ServerSentEvents,
    StreamEvent,
    Unreachable,
    json_object,
    parse_event,
    refusal,
)

#: How long connecting may take, and any request but a chat's, in seconds.
CONNECT_LIMIT_S, REQUEST_LIMIT_S = 5.0, 10.0
#: The server writes a comment after 15 s of silence: after this long it is gone, in seconds.
SILENCE_LIMIT_S = 60.0
#: How long telling the server of a cancel may take: a person waits. In seconds.
CANCEL_LIMIT_S = 2.0


class ArcherClient:
    """One server; use it as an async context manager.

    Args:
        url: where it is; `http://` where no scheme is given.
        token: the credential, where the server needs one.

    Raises:
        ClientError: the URL or the token can't be used.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        self.url = url if "://" in url else f"http://{url}"
        if token is not None and not re.fullmatch(r"[!-~]+", token):
            raise ClientError("the token is empty, or has spaces or letters outside ASCII", "Set ARCHER_TOKEN anew.")
        try:
            parts = urlsplit(self.url)
            host = parts.hostname or ""
            usable = parts.scheme in {"http", "https"} and host and parts.port != 0 and "@" not in parts.netloc
            base_url = httpx.URL(self.url)
        except (ValueError, httpx.InvalidURL):
            usable = False
        if not usable:
            raise ClientError(f"{url} is not the URL of a server", "Write it like http://127.0.0.1:8000.")
        self._is_local = _is_loopback(host)
        self._http = httpx.AsyncClient(
            base_url=base_url,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=httpx.Timeout(REQUEST_LIMIT_S, connect=CONNECT_LIMIT_S),
            # A proxy could not reach this machine's own addresses.
            trust_env=not self._is_local,
        )

    async def __aenter__(self) -> "ArcherClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def chat(self, request: Mapping[str, object]) -> AsyncGenerator[StreamEvent, None]:
        """The answer's events; the last is `Ended`. Closing the generator closes the connection, and so ends the
        generation, unless the request says otherwise.

        Args:
            request: the protocol's ChatRequest.

        Raises:
            Refused: the server does not accept the request.
            Unreachable: there is no server, or the connection broke off before the end.
        """
        ended = False
        try:
            async with self._http.stream(
                "POST",
                "/api/v1/chat/completions/stream",
                json=request,
                timeout=httpx.Timeout(SILENCE_LIMIT_S, connect=CONNECT_LIMIT_S),
            ) as response:
                if not response.headers.get("content-type", "").startswith("text/event-stream"):
                    await response.aread()
                    self._raise_refusal(response)
                decoder = ServerSentEvents()
                async for chunk in response.aiter_bytes():
                    for name, data in decoder.feed(chunk):
                        event = parse_event(name, data)
                        if event is not None:
                            yield event
                        # Read on to the body's end, so that the connection can be used again.
                        ended = ended or isinstance(event, Ended)
        except httpx.HTTPError as error:
            if not ended:
                raise self._unreachable(error) from error
        if not ended:
            raise Unreachable(f"{self.url} closed the connection before the answer's end", "Look into its log.")

    async def cancel(self, stream_id: str) -> None:
        """End a stream, if the server can be told within 2 s; harmless when there is no such stream."""
        with suppress(httpx.HTTPError, TimeoutError):
            async with asyncio.timeout(CANCEL_LIMIT_S):
                await self._http.delete(f"/api/v1/streams/{stream_id}")

    async def create_session(self) -> str:
        """The id of a new conversation.

        Raises:
            Refused: the server does not give one.
            Unreachable: there is no server.
        """
        try:
            response = await self._http.post("/api/v1/sessions", json={})
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        session = json_object(response.content) or {}
        if not response.is_success or "session_id" not in session:
            self._raise_refusal(response)
        return str(session["session_id"])

    def _raise_refusal(self, response: httpx.Response) -> NoReturn:
        error = (json_object(response.content) or {}).get("error")
        if not response.is_success and isinstance(error, dict) and "kind" in error:
            raise refusal(error)
        raise Refused(
            "unknown",
            f"{self.url} answered {response.status_code}, and not as an Archer server does",
            "Is another program listening there? Name the server with --url or ARCHER_URL.",
        )

    def _unreachable(self, error: httpx.HTTPError) -> Unreachable:
        match error:
            case httpx.ConnectError() if "SSL" in str(error):
                return Unreachable(f"no secure connection to {self.url}: {error}", "Is it http:// there?")
            case httpx.ConnectError() | httpx.ConnectTimeout():
                hint = "archer-ws serve --provider local" if self._is_local else "archer-ws serve, or correct the URL"
                return Unreachable(f"nothing answers at {self.url}", f"Start the server with: {hint}")
            case httpx.TimeoutException():
                return Unreachable(f"{self.url} gave no sign of life for too long", "Look into the server's log.")
            case _:
                return Unreachable(f"the connection to {self.url} broke off", "Look into the server's log.")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
