"""What browsers see: `/`, the console (or, where that is switched off, a page that says what this is and where things
are), and `/docs`, all routes in Swagger UI.

Nothing in them is loaded from elsewhere: a server without the internet shows them as well, and nobody else learns of
a visit. `/` needs no credential (scope.py): it tells nothing that health probes do not, and the console asks for one.
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
from archer_ws.api.http.accept import weights
from archer_ws.api.http.file_response import file_response
from archer_ws.api.http.module_graph import modules_of
from archer_ws.api.http.scope import SOCKET_PATH
from archer_ws.api.signposts.dialects import PREFIX as OPENAI_PREFIX
from archer_ws.api.signposts.dialects import base_url
from archer_ws.rpc.messages import SUBPROTOCOL

router = APIRouter(include_in_schema=False)

DIRECTORY = Path(__file__).parents[1] / "pages"
SWAGGER_UI = DIRECTORY / "swagger-ui"
CONSOLE = Path(__file__).parents[2] / "console"
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
#: No script or style but the console's own files, and no connection but to this server: what a model says can't load
#: anything, whatever becomes of it. `'self'` is the socket of the same host and port, too (Content Security Policy
#: Level 3, section 6.7.2.8). Text becomes markup or a script nowhere (Trusted Types), but for the address of the one
#: worker, which markdown/highlighting.js names.
_CONSOLE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "object-src 'none'; require-trusted-types-for 'script'; trusted-types archer-highlight; " + _NOTHING_ELSE
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
    if services.has_console:
        return _console_page(request)
    shown = {"name": request.app.title, "version": services.version, "url": url, "socket": socket}
    token = _TOKEN_NOTE if services.credentials.required else ""
    style = _text("front.css")
    page = Template(_text("front.html")).substitute(
        {key: html.escape(value) for key, value in shown.items()},
        token=token,
        style=style,
    )
    return _page(page, f"default-src 'none'; style-src '{_hash(style)}'; img-src data:; {_NOTHING_ELSE}")


@router.get("/console")
async def console(request: Request, services: ServicesDep) -> Response:
    """The console, where `/` is somebody else's: behind a proxy, say."""
    if not services.has_console:
        raise HTTPException(404)
    if request.scope.get("slashed"):
        return RedirectResponse("../console")
    return _console_page(request)


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


@cache
def _modules() -> str:
    """What is asked for beside the page itself."""
    names = (path.relative_to(CONSOLE.resolve()).as_posix() for path in modules_of((CONSOLE / "app/main.js").resolve()))
    return "\n".join(f'<link rel="modulepreload" href="console/{name}">' for name in names)


def _console_page(request: Request) -> Response:
    text = (CONSOLE / "app" / "index.html").read_text("utf-8")
    page = Template(text).substitute(name=html.escape(request.app.title), modules=_modules())
    return _page(page, _CONSOLE_POLICY)


def _wants_html(accept: str) -> bool:
    """Whether a page is asked for by name, and no less than JSON (RFC 9110, section 12.5.1); `*/*` is a program's."""
    wanted = weights(accept)
    html_weight = wanted.get("text/html", 0.0)
    return html_weight > 0 and html_weight >= wanted.get("application/json", 0.0)


def _page(text: str, policy: str) -> Response:
    headers = {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        # No host that a link names is looked up before somebody follows it.
        "X-DNS-Prefetch-Control": "off",
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
