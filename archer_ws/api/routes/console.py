"""The files of console/ as they are: the JavaScript client and its types, which pages import from here.

Whoever may reach this server may read them without a credential: a page's `import` can't send one (scope.py).
"""

from pathlib import Path

from fastapi import APIRouter, HTTPException, Request, Response

from archer_ws.api.http.file_response import file_response

router = APIRouter(prefix="/console", include_in_schema=False)

DIRECTORY = Path(__file__).parents[2] / "console"
#: By the end of the name. Our own list: `mimetypes` asks the machine, and some call JavaScript plain text, which
#: browsers then refuse to run. TypeScript has no type of its own.
MEDIA_TYPES = {
    ".d.ts": "text/plain",
    ".js": "text/javascript",
    ".html": "text/html",
    ".css": "text/css",
    ".svg": "image/svg+xml",
}


@router.get("/{name}")
def file(name: str, request: Request) -> Response:
    """One file; kept by browsers, but asked for anew each time, so that page and server are of one age."""
    media_type = next((kind for end, kind in MEDIA_TYPES.items() if name.endswith(end)), None)
    # A name out of the directory's own list cannot lead out of it, however it is written.
    path = next((path for path in DIRECTORY.iterdir() if path.name == name), None)
    if media_type is None or path is None:
        raise HTTPException(404)
    return file_response(path.read_bytes(), media_type, request)
