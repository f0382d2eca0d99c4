"""The pages for browsers: `/`, the console (or, if that is switched off, a page that says what this is and where things
are), and `/docs`, all routes in Swagger UI.

Nothing in them is loaded from elsewhere: they work without internet access, and nobody else learns of a visit. `/`
needs no credential (scope.py): it reveals nothing that health probes do not, and the console asks for one.
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
#: The files that `/docs` loads, with their media types.
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
#: Allows no script or style except the console's own files, and no connection except to this server: a model's text
#: cannot load anything, whatever becomes of it. `'self'` includes the socket of the same host and port (Content
#: Security Policy Level 3, section 6.7.2.8). Text cannot become markup or a script (Trusted Types), except for the
#: address of the one worker, which markdown/highlighting.js names.
_CONSOLE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "object-src 'none'; require-trusted-types-for 'script'; trusted-types archer-highlight; " + _NOTHING_ELSE
)
_TOKEN_NOTE = (
    '<p class="note">This server needs a token: set <code>ARCHER_TOKEN</code> for the chat, and send the header '
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
    """The console at its own path, for example when a proxy serves another page at `/`."""
    if not services.has_console:
        raise HTTPException(404)
    if request.scope.get("slashed"):
        return RedirectResponse("../console")
    return _console_page(request)


@router.get("/docs")
async def docs(request: Request) -> Response:
    """All routes, to read and to try out."""
    return _page(Template(_text("docs.html")).substitute(name=html.escape(request.app.title)), _DOCS_POLICY)


@router.get("/docs/{name}")
async def docs_file(name: str, request: Request) -> Response:
    """A file that `/docs` loads."""
    if name not in _DOCS_FILES:
        raise HTTPException(404)
    folder, media_type = _DOCS_FILES[name]
    return file_response(_bytes(folder / name), media_type, request)


@router.get("/redoc")
async def redoc() -> Response:
    """Redirects from the path of FastAPI's other documentation page."""
    return RedirectResponse("docs")


@cache
def _modules() -> str:
    """The modules that the page needs, for preloading."""
    names = (path.relative_to(CONSOLE.resolve()).as_posix() for path in modules_of((CONSOLE / "app/main.js").resolve()))
    return "\n".join(f'<link rel="modulepreload" href="console/{name}">' for name in names)


def _console_page(request: Request) -> Response:
    text = (CONSOLE / "app" / "index.html").read_text("utf-8")
    page = Template(text).substitute(name=html.escape(request.app.title), modules=_modules())
    return _page(page, _CONSOLE_POLICY)


def _wants_html(accept: str) -> bool:
    """Whether Accept names HTML, with no less weight than JSON (RFC 9110, section 12.5.1); `*/*` comes from a
    program."""
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
    """The hash of an inline style for a policy (Content Security Policy Level 3, section 2.3.1)."""
    return f"sha256-{base64.b64encode(sha256(style.encode()).digest()).decode()}"


@cache
def _text(name: str) -> str:
    return (DIRECTORY / name).read_text("utf-8")


@cache
def _bytes(path: Path) -> bytes:
    return path.read_bytes()
