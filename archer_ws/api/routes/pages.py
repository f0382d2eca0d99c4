"""What browsers see: `/`, which says what this is and where things are, and `/docs`, all routes in Swagger UI.

Nothing in either is loaded from elsewhere: a server without the internet shows them as well, and nobody else learns of
a visit. `/` needs no credential (scope.py): it tells nothing that health probes do not.
"""

import base64
import html
from functools import cache
from hashlib import sha256
from pathlib import Path
from string import Template

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse

from archer_ws.api.dependencies import ServicesDep
from archer_ws.api.http.file_response import file_response
from archer_ws.api.http.scope import SOCKET_PATH
from archer_ws.api.signposts.dialects import PREFIX as OPENAI_PREFIX
from archer_ws.api.signposts.dialects import base_url
from archer_ws.rpc.messages import SUBPROTOCOL

router = APIRouter(include_in_schema=False)

DIRECTORY = Path(__file__).parents[1] / "pages"
SWAGGER_UI = DIRECTORY / "swagger-ui"
#: What the page at `/docs` loads, and as what.
_DOCS_FILES = {
    "swagger-ui.css": (SWAGGER_UI, "text/css"),
    "swagger-ui-bundle.js": (SWAGGER_UI, "text/javascript"),
    "docs.js": (DIRECTORY, "text/javascript"),
}
_NOTHING_ELSE = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
#: Swagger UI sets styles on its elements, and has its images in its stylesheet.
_DOCS_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src data:; connect-src 'self'; "
    + _NOTHING_ELSE
)
_TOKEN_NOTE = (
    '<p class="note">This server wants a token: set <code>ARCHER_TOKEN</code> for the chat, and send the header '
    "<code>Authorization: Bearer …</code> with every other request. Health and this page need none.</p>"
)


@router.get("/")
async def front(request: Request, services: ServicesDep) -> Response:
    """What this is and where things are: a page for a browser, JSON for a program."""
    url = base_url(request.scope).removesuffix(OPENAI_PREFIX)
    socket = f"ws{url.removeprefix('http')}{SOCKET_PATH}"
    if not _wants_html(request.headers.get("accept", "")):
        told = {
            "name": request.app.title,
            "version": services.version,
            "docs": f"{url}/docs",
            "openapi": f"{url}/openapi.json",
            "health": f"{url}/health/ready",
            "providers": f"{url}/health/providers",
            "chat": f"{url}/api/v1/chat/completions",
            "socket": {"url": socket, "subprotocol": SUBPROTOCOL},
            "openai_base_url": f"{url}{OPENAI_PREFIX}",
            "javascript_client": f"{url}/console/archer-client.js",
            "needs_token": services.credentials.required,
        }
        return JSONResponse(told, headers={"Vary": "Accept", "Cache-Control": "no-cache"})
    shown = {"name": request.app.title, "version": services.version, "url": url, "socket": socket}
    token = _TOKEN_NOTE if services.credentials.required else ""
    style = _text("front.css")
    page = Template(_text("front.html")).substitute(
        {key: html.escape(value) for key, value in shown.items()},
        token=token,
        style=style,
    )
    return _page(page, f"default-src 'none'; style-src '{_hash(style)}'; img-src data:; {_NOTHING_ELSE}")


@router.get("/docs")
async def docs(request: Request) -> Response:
    """All routes, to read and to try."""
    return _page(Template(_text("docs.html")).substitute(name=html.escape(request.app.title)), _DOCS_POLICY)


@router.get("/docs/{name}")
async def docs_file(name: str, request: Request) -> Response:
    """What the page of all routes loads."""
    if name not in _DOCS_FILES:
        raise HTTPException(404)
    folder, media_type = _DOCS_FILES[name]
    return file_response(_bytes(folder / name), media_type, request)


@router.get("/redoc")
async def redoc() -> Response:
    """Where FastAPI's other page of all routes was."""
    return RedirectResponse("docs")


def _wants_html(accept: str) -> bool:
    """Whether a page is asked for by name, and no less than JSON (RFC 9110, section 12.5.1); `*/*` is a program's."""
    weights = {"text/html": 0.0, "application/json": 0.0}
    for entry in accept.lower().split(","):
        kind, *parameters = (part.strip() for part in entry.split(";"))
        if kind in weights:
            weights[kind] = next((_weight(part) for part in parameters if part.startswith("q=")), 1.0)
    return weights["text/html"] > 0 and weights["text/html"] >= weights["application/json"]


def _weight(parameter: str) -> float:
    try:
        return float(parameter.removeprefix("q="))
    except ValueError:
        return 0.0


def _page(text: str, policy: str) -> Response:
    headers = {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",
        "Vary": "Accept",
    }
    return Response(text.encode("utf-8", "replace"), headers=headers, media_type="text/html; charset=utf-8")


def _hash(style: str) -> str:
    """How a policy names an inline style (Content Security Policy Level 3, section 2.3.1)."""
    return f"sha256-{base64.b64encode(sha256(style.encode()).digest()).decode()}"


@cache
def _text(name: str) -> str:
    return (DIRECTORY / name).read_text("utf-8")


@cache
def _bytes(path: Path) -> bytes:
    return path.read_bytes()
