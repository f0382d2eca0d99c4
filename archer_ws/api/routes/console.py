"""The files of console/: the JavaScript client and its types, which pages import from here, and `app/`, the page for
people (pages.py serves its HTML).

Every client that can reach this server may read them without a credential: a page's `import` cannot send one
(scope.py).
"""

from functools import cache, lru_cache
from pathlib import Path

from fastapi import APIRouter, HTTPException, Request, Response

from archer_ws.api.dependencies import ServicesDep
from archer_ws.api.http.file_response import file_response

router = APIRouter(prefix="/console", include_in_schema=False)

DIRECTORY = Path(__file__).parents[2] / "console"
#: By file extension. A list of our own, because `mimetypes` uses the machine's, and some map JavaScript to plain text,
#: which browsers then refuse to run. TypeScript has no registered type.
MEDIA_TYPES = {
    ".d.ts": "text/plain",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
}


@router.get("/{name:path}")
async def file(name: str, request: Request, services: ServicesDep) -> Response:
    """One file. Browsers cache it and revalidate each time, so that page and server have the same version."""
    media_type = next((kind for end, kind in MEDIA_TYPES.items() if name.endswith(end)), None)
    path = _files().get(name)
    if media_type is None or path is None or (name.startswith("app/") and not services.has_console):
        raise HTTPException(404)
    return file_response(_content(path, path.stat().st_mtime_ns), media_type, request)


@cache
def _files() -> dict[str, Path]:
    """The files by their paths below the directory. Only listed names are served, so no name can lead out of the
    directory."""
    return {path.relative_to(DIRECTORY).as_posix(): path for path in DIRECTORY.rglob("*") if path.is_file()}


@lru_cache(256)
def _content(path: Path, _changed_ns: int) -> bytes:
    return path.read_bytes()
