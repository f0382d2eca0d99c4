"""Files: upload, read, delete (protocol section 20). The body of an upload is the file itself."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import StreamingResponse

from archer_ws.api.dependencies import Principal, ServicesDep
from archer_ws.api.http.file_response import names_tag
from archer_ws.api.http.head_requests import asked_method
from archer_ws.api.http.request_body import JsonRoute, declared_length
from archer_ws.api.http.scope import FILES_PATH
from archer_ws.api.openapi.error_responses import GUARDED, error_responses
from archer_ws.api.openapi.success_responses import success_response
from archer_ws.core.exceptions import (
    Conflict,
    ContentTooLarge,
    FieldError,
    FileNotFound,
    InvalidParams,
    StorageFull,
    StorageUnavailable,
    Unsupported,
)
from archer_ws.core.wire_types import Count
from archer_ws.examples.chat import UPLOADED
from archer_ws.examples.story import FILE_ID
from archer_ws.files.file_types import extension_of
from archer_ws.files.stored import FileHold

router = APIRouter(prefix=FILES_PATH, route_class=JsonRoute, tags=["files"])


FileId = Annotated[str, Path(max_length=128, description="The file's id", examples=[FILE_ID])]
_BYTES: dict[str, Any] = {
    "schema": {"type": "string", "format": "binary"},
    "examples": {"bytes": {"summary": "The file's bytes, unchanged", "value": "GIF89a…"}},
}
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The file's bytes, with its type as Content-Type: a PNG, JPEG, GIF or WebP picture, a PDF, or "
        "text in UTF-8. They are checked against that type.",
        "content": {
            **dict.fromkeys(("image/png", "image/jpeg", "image/gif", "image/webp", "application/pdf"), _BYTES),
            "text/plain": {"schema": {"type": "string"}, "examples": {"note": {"value": "Rayleigh scattering\n"}}},
            "application/octet-stream": _BYTES,
        },
    }
}


class UploadedFile(BaseModel):
    """A stored file: refer to its `file_id` in a message's part."""

    model_config = ConfigDict(json_schema_extra={"examples": [UPLOADED]})

    file_id: str = Field(description="Its id: the same for the same bytes and type.")
    media_type: str = Field(description="Its media type, according to its first bytes.")
    bytes: Count = Field(description="Its size in bytes.")


@router.post(
    "",
    status_code=201,
    operation_id="uploadFile",
    summary="Upload a file",
    openapi_extra=_BODY,
    responses={
        201: success_response("It is kept", example=UPLOADED),
        200: {
            "model": UploadedFile,
            **success_response("It was stored already, and its lifetime starts anew", example=UPLOADED),
        },
        **error_responses(*GUARDED, Unsupported, InvalidParams, ContentTooLarge, StorageFull, StorageUnavailable),
    },
)
async def upload_file(
    request: Request, services: ServicesDep, principal: Principal, response: Response
) -> UploadedFile:
    """Store the body as a file, and return the id that messages refer to it by.

    It is stored for a day after its last upload or use, and as long as a stored message refers to it. The same bytes of
    the same type have the same id.
    """
    declared = request.headers.get("content-type", "")
    try:
        with services.files.upload(principal, declared, declared_length(request.scope)) as upload:
            async for piece in request.stream():
                await upload.write(piece)
            kept = await upload.finish()
    except (InvalidParams, Unsupported) as error:
        where = FieldError(path="body", message=error.message)
        raise type(error)(error.message, hint=error.hint, errors=[where]) from None
    kept.hold.release()
    if not kept.is_new:
        response.status_code = 200
    return UploadedFile(file_id=kept.file.file_id, media_type=kept.file.media_type, bytes=kept.file.size)


@router.get(
    "/{file_id}",
    operation_id="readFile",
    summary="A file's bytes",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "The file, unchanged, with its media type",
            "content": {"*/*": _BYTES},
        },
        304: {"description": "You have it already: `If-None-Match` has its ETag"},
        **error_responses(*GUARDED, InvalidParams, FileNotFound, StorageUnavailable),
    },
)
async def read_file(request: Request, services: ServicesDep, principal: Principal, file_id: FileId) -> Response:
    """The file, as a download: browsers never show it as a page of this server."""
    file = services.files.find(principal, file_id)
    headers = {
        "ETag": f'"{file.file_id}"',
        "Cache-Control": "private, no-cache",
        "X-Content-Type-Options": "nosniff",
        # If a browser shows it nevertheless, this keeps it from running anything.
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "Content-Disposition": f'attachment; filename="{file.file_id}.{extension_of(file.media_type)}"',
    }
    if names_tag(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    headers |= {"Content-Length": str(file.size), "Content-Type": file.media_type}
    if asked_method(request.scope) == "HEAD":
        return Response(headers=headers)
    pieces = services.files.pieces(file)
    hold = services.files.hold([file])
    try:
        # Read before the head is sent: a deleted file is a 404.
        first = await anext(pieces)
    except BaseException:
        hold.release()
        raise
    return StreamingResponse(_rest(first, pieces, hold), headers=headers)


@router.delete(
    "/{file_id}",
    status_code=204,
    response_class=Response,
    operation_id="deleteFile",
    summary="Forget a file",
    response_description="It is forgotten",
    responses=error_responses(*GUARDED, InvalidParams, FileNotFound, Conflict, StorageUnavailable),
)
async def delete_file(services: ServicesDep, principal: Principal, file_id: FileId) -> None:
    """Delete a file that no stored message and no running stream refers to."""
    await services.attachments.delete(principal, file_id)


async def _rest(first: bytes, pieces: AsyncIterator[bytes], hold: FileHold) -> AsyncIterator[bytes]:
    try:
        yield first
        async for piece in pieces:
            yield piece
    finally:
        hold.release()
