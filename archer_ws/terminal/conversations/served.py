"""The conversations of a running server, over REST."""

import http.client
import json
import ssl
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeVar
from urllib.parse import quote, urlencode, urlsplit

from pydantic import BaseModel, ValidationError

from archer_ws.client.dialling import SOCKET_PATH, Address
from archer_ws.client.errors import ClientError
from archer_ws.core.ids import is_valid_id
from archer_ws.sessions.json_lines import BLOCK_BYTES, MEDIA_TYPE
from archer_ws.sessions.models import (
    DeletedSessions,
    FoundMessage,
    ImportResult,
    SearchPage,
    Session,
    SessionDetail,
    SessionPage,
    StoredMessage,
)
from archer_ws.sessions.storage.refusals import no_session
from archer_ws.terminal.conversations.source import HINTS, SourceError

#: How long a server may be silent, in seconds: deleting the conversations of a large file takes a while.
SILENCE_LIMIT_S = 120.0
_PAGE = 200
#: What a path has as it is (RFC 3986, section 3.3), escapes of a given URL included.
_IN_PATHS = "/%:@!$&'()*+,;="
_START = "Start it with archer-ws serve, or name its URL (--url); for a stopped server's file: --data-dir."

_Model = TypeVar("_Model", bound=BaseModel)


class ServedConversations:
    """A Source over a running server.

    Args:
        url: the server's URL, as for the client.
        token: the credential, if the server needs one.

    Raises:
        SourceError: the URL is invalid, or the token can't be a server's.
    """

    def __init__(self, url: str, token: str | None) -> None:
        try:
            address = Address(url)
        except ClientError as error:
            raise SourceError(error.message, error.hint) from None
        if token and not (token.isascii() and token.isprintable()):
            raise SourceError("the token has characters that no server's token has", HINTS["unauthenticated"])
        parts = urlsplit(address.socket_url)
        self._url = url
        self._base = quote(parts.path.removesuffix(SOCKET_PATH), safe=_IN_PATHS) + "/api/v1/sessions"
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._host, self._port = parts.hostname or "", parts.port
        self._tls = ssl.create_default_context() if parts.scheme == "wss" else None

    def sessions(self, archived: bool | None) -> Iterator[Session]:
        query = {} if archived is None else {"archived": str(archived).lower()}
        cursor: str | None = None
        while True:
            page = self._get(self._query("", {"order": "updated", **query}, cursor), SessionPage)
            yield from page.items
            cursor = page.next_cursor
            if cursor is None:
                return

    def session(self, session_id: str) -> tuple[Session, list[StoredMessage]]:
        path = _path_of(session_id)
        detail = self._get(self._query(path, {}, None), SessionDetail)
        pages, cursor = [detail.messages], detail.next_cursor
        while cursor is not None:
            older = self._get(self._query(path, {}, cursor), SessionDetail)
            pages.append(older.messages)
            cursor = older.next_cursor
        return detail, [message for page in reversed(pages) for message in page]

    def found(self, query: str) -> Iterator[FoundMessage]:
        cursor: str | None = None
        while True:
            page = self._get(self._query("/search", {"q": query}, cursor), SearchPage)
            yield from page.items
            cursor = page.next_cursor
            if cursor is None:
                return

    def export(self) -> Iterator[bytes]:
        connection, response = self._ask("GET", "/export")
        try:
            while block := response.read1(BLOCK_BYTES):
                yield block
        except (http.client.HTTPException, OSError):
            raise _cut_off() from None
        finally:
            connection.close()

    def take(self, lines: BinaryIO) -> ImportResult:
        blocks = iter(lambda: lines.read(BLOCK_BYTES), b"")
        connection, response = self._ask("POST", "/import", blocks, {"Content-Type": MEDIA_TYPE})
        return self._read(connection, response, ImportResult)

    def delete(self, session_id: str) -> None:
        connection, response = self._ask("DELETE", _path_of(session_id))
        response.read()
        connection.close()

    def delete_all(self) -> int:
        return self._read(*self._ask("DELETE", "?all=true"), DeletedSessions).deleted

    def backup(self, path: Path) -> None:
        raise SourceError(
            "a running server writes no backup",
            "Use archer-ws sessions export, which takes your conversations while it runs; or stop it, and name its "
            "folder: --data-dir.",
        )

    def close(self) -> None:
        """Nothing to do: each request has its own connection."""

    def _query(self, path: str, query: Mapping[str, str], cursor: str | None) -> str:
        return f"{path}?{urlencode({**query, 'limit': str(_PAGE), **({'cursor': cursor} if cursor else {})})}"

    def _get(self, path: str, model: type[_Model]) -> _Model:
        return self._read(*self._ask("GET", path), model)

    def _read(
        self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse, model: type[_Model]
    ) -> _Model:
        try:
            return model.model_validate_json(response.read())
        except ValidationError:
            raise SourceError(f"{self._url} does not respond as an Archer server of this version does") from None
        except (http.client.HTTPException, OSError) as error:
            raise SourceError(f"the response of {self._url} was cut off ({error})", "Try again.") from None
        finally:
            connection.close()

    def _ask(
        self, method: str, path: str, body: Iterator[bytes] | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """The response's head, if it is a success."""
        # Never through the environment's proxy: nearly every server is on this machine.
        connection = (
            http.client.HTTPConnection(self._host, self._port, timeout=SILENCE_LIMIT_S)
            if self._tls is None
            else http.client.HTTPSConnection(self._host, self._port, timeout=SILENCE_LIMIT_S, context=self._tls)
        )
        try:
            connection.connect()
        except OSError as error:
            raise SourceError(f"no server answers at {self._url} ({error.strerror or error})", _START) from None
        try:
            # The server may have responded before it read the whole body.
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.request(
                    method,
                    self._base + path,
                    body,
                    {**self._headers, **(headers or {}), **({"Transfer-Encoding": "chunked"} if body else {})},
                    encode_chunked=body is not None,
                )
            response = connection.getresponse()
        except (http.client.HTTPException, OSError) as error:
            connection.close()
            raise SourceError(f"{self._url} broke off ({error or type(error).__name__})", "Try again.") from None
        if response.status >= 300:
            raise self._refusal(connection, response)
        return connection, response

    def _refusal(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> SourceError:
        try:
            told: Any = json.loads(response.read(1_000_000))["error"]
            return SourceError(told["message"], HINTS.get(told["kind"], told.get("hint")))
        except (ValueError, KeyError, TypeError, http.client.HTTPException, OSError):
            return SourceError(
                f"{self._url} answers {response.status} {response.reason}",
                "Is another program listening there, or is a path missing in the URL?",
            )
        finally:
            connection.close()


def _path_of(session_id: str) -> str:
    """A conversation's path below the others'.

    Raises:
        SourceError: it is no id. A server would say so in terms of its requests.
    """
    if not is_valid_id(session_id):
        raise SourceError(no_session(session_id).message, HINTS["session_not_found"])
    return f"/{quote(session_id, safe='')}"


def _cut_off() -> SourceError:
    return SourceError("the export was cut off before its end", "Look at the server's log, and try again.")
