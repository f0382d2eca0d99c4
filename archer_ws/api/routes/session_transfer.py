"""Export and import of whole conversations as JSON Lines: one conversation per line."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing

import structlog
from fastapi import APIRouter, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from archer_ws.api.dependencies import Principal, RequestId, ServicesDep
from archer_ws.api.http.head_requests import asked_method
from archer_ws.api.openapi.error_responses import GUARDED, error_responses
from archer_ws.api.openapi.success_responses import success_response
from archer_ws.api.streaming.departure import client_departure
from archer_ws.core.exceptions import ArcherError, Overloaded, StorageUnavailable
from archer_ws.examples.sessions import EXPORTED_SESSION
from archer_ws.sessions.importing import IMPORT_LINE_BYTES_MAX
from archer_ws.sessions.json_lines import MEDIA_TYPE, exported_blocks, lines_of
from archer_ws.sessions.models import ImportResult

log = structlog.get_logger(__name__)

IMPORT_PATH = "/api/v1/sessions/import"

router = APIRouter(prefix="/api/v1/sessions", tags=["sessions"])

_LINE = json.dumps(EXPORTED_SESSION) + "\n"
_LINES = {MEDIA_TYPE: {"schema": {"type": "string"}, "example": _LINE}}


class ExportResponse(Response):
    """An export, sent at its reader's pace; at most one block and one conversation of it are in memory.

    If the store fails during the export, the response ends incomplete and its connection is closed.
    """

    media_type = MEDIA_TYPE

    def __init__(self, blocks: AsyncIterator[bytes] | None) -> None:
        super().__init__(
            headers={"Cache-Control": "no-store", "Content-Disposition": 'attachment; filename="conversations.jsonl"'}
        )
        # Set by Response for its empty body.
        del self.headers["content-length"]
        self._blocks = blocks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send everything, or until the client has disconnected."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        if self._blocks is not None and not await self._send(self._blocks, receive, send):
            return
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, blocks: AsyncIterator[bytes], receive: Receive, send: Send) -> bool:
        departure = asyncio.create_task(client_departure(receive))
        try:
            async for block in blocks:
                if departure.done():
                    return False
                await send({"type": "http.response.body", "body": block, "more_body": True})
        except ArcherError as error:
            log.error("export_cut_off", cause=str(error))  # noqa: TRY400 - a traceback adds nothing
            return False
        finally:
            departure.cancel()
            await asyncio.gather(departure, return_exceptions=True)
        return True


async def _begun(blocks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The blocks, with the first one already read: a failure before it can still be sent as an error."""
    first = await anext(blocks, b"")

    async def all_blocks() -> AsyncIterator[bytes]:
        yield first
        async for block in blocks:
            yield block

    return all_blocks()


@router.get(
    "/export",
    status_code=200,
    response_class=ExportResponse,
    operation_id="exportSessions",
    summary="Export your conversations",
    responses={
        200: {"description": "All of them, the oldest first: one JSON object per line", "content": _LINES},
        **error_responses(*GUARDED, StorageUnavailable),
    },
)
async def export_sessions(request: Request, services: ServicesDep, principal: Principal) -> Response:
    """All your conversations with all their messages, as JSON Lines: one conversation (`ExportedSession`) per line."""
    if asked_method(request.scope) == "HEAD":
        return ExportResponse(None)
    return ExportResponse(await _begun(exported_blocks(services.conversations.export(principal))))


@router.post(
    "/import",
    operation_id="importSessions",
    summary="Import conversations",
    responses={
        200: success_response(
            "The result for each line: it is stored completely or not at all",
            example={"imported": 12, "failed": 0, "failures": []},
        ),
        **error_responses(*GUARDED, Overloaded),
    },
    openapi_extra={"requestBody": {"required": True, "content": _LINES}},
)
async def import_sessions(
    request: Request, services: ServicesDep, principal: Principal, request_id: RequestId
) -> ImportResult:
    """Store the conversations of an export, one per line of at most 16 MiB; each keeps its ids and times.

    A line that is invalid, or whose `session_id` is taken, is reported by its number; the other lines are still stored.
    """
    async with aclosing(lines_of(request.stream(), IMPORT_LINE_BYTES_MAX)) as lines:
        return await services.conversations.import_lines(principal, lines, request_id)
