"""Wires all objects together: settings in, an ASGI application out.

`create_app(settings)` makes one. `app` is made from the environment when it is first accessed, so that `uvicorn
archer_ws.main:app` works, and importing this module needs no settings and takes no time.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from sys import maxsize
from typing import Any

import structlog
from fastapi import FastAPI

from archer_ws import __version__
from archer_ws.agents.orchestrator import Orchestrator
from archer_ws.agents.tool_loop import ToolLoopAgent
from archer_ws.api.dependencies import Services
from archer_ws.api.http.access_log import RequestLog
from archer_ws.api.http.cors import LeanCORS
from archer_ws.api.http.error_handlers import install_error_handlers
from archer_ws.api.http.head_requests import HeadAsGet
from archer_ws.api.http.hot_routes import HotApplication
from archer_ws.api.http.request_body import BodyLimit
from archer_ws.api.http.scope import FILES_PATH
from archer_ws.api.http.trailing_slashes import TrailingSlashes
from archer_ws.api.openai.error_object import OpenAIErrors
from archer_ws.api.openapi.document import TITLE, install_openapi
from archer_ws.api.routes import (
    chat,
    console,
    files,
    health,
    models,
    openai_compat,
    pages,
    session_transfer,
    sessions,
    streams,
    tool_calls,
    ws,
)
from archer_ws.api.security.credentials import LOCAL_PRINCIPAL, CredentialGuard, Credentials, warn_if_exposed
from archer_ws.api.security.host_and_origin import TAURI_ORIGINS, HostAndOriginGuard
from archer_ws.api.security.tickets import TicketOffice
from archer_ws.api.signposts.foreign_errors import AnthropicErrors, OllamaErrors
from archer_ws.api.signposts.lost_requests import lost_request
from archer_ws.api.signposts.misdirected import MisdirectedClients
from archer_ws.api.socket import OpenSockets
from archer_ws.api.socket_quota import SocketQuota
from archer_ws.config import Settings, load_settings, service_variables
from archer_ws.core.limits import BODY_ALLOWANCE_BYTES, MAX_FRAME_BYTES, MEMORY_FILES_BYTES, Limits
from archer_ws.core.logging import configure_logging
from archer_ws.core.slow_start import told_while_slow
from archer_ws.files.disk_shelf import DiskShelf
from archer_ws.files.files import Files
from archer_ws.files.memory_shelf import MemoryShelf
from archer_ws.llm_gateway.readiness import Readiness
from archer_ws.llm_gateway.router import LLMRouter
from archer_ws.rpc.dispatcher import Dispatcher
from archer_ws.rpc.methods import archer_v1
from archer_ws.rpc.openrpc import describe
from archer_ws.rpc.services import RpcServices
from archer_ws.sessions.attachments import Attachments
from archer_ws.sessions.conversations import Conversations
from archer_ws.sessions.format_judge import FormatJudge
from archer_ws.sessions.manager import SessionManager
from archer_ws.sessions.storage.bounded import bounded
from archer_ws.sessions.storage.memory import MemoryStore
from archer_ws.sessions.storage.store import SessionStore
from archer_ws.sessions.streams.gates import ManagerLimits, ProviderGate, StreamQuota
from archer_ws.sessions.streams.memory_log import MemoryLog

log = structlog.get_logger(__name__)

#: The paths whose bodies may hold pictures and documents beside their text.
GENERATION_PATHS = ("/api/v1/chat/completions", "/api/v1/chat/completions/stream", "/v1/chat/completions")
#: The forms that errors may have beside our own.
ERROR_FORMS = (OpenAIErrors(), AnthropicErrors(), OllamaErrors())
#: The host name that Starlette's (and so FastAPI's) TestClient sends.
TEST_HOST = "testserver"
#: How long preparing the provider waits for the server to start: even an import in a thread slows the loop.
LISTEN_FIRST_S = 0.05


def create_app(settings: Settings | None = None, *, limits: Limits = Limits()) -> FastAPI:
    """The application, wired from the settings (or from the environment).

    Args:
        settings: what an owner may change.
        limits: the limits that no owner needs to change.

    Raises:
        SettingsError: a setting has a wrong value.
    """
    settings = settings or load_settings()
    configure_logging("DEBUG" if settings.debug else settings.log_level, settings.log_format)
    for variable in service_variables():
        log.warning(
            "variable_ignored",
            variable=variable,
            hint="Kubernetes sets it for a service called archer. Set PORT, or give the service another name.",
        )
    if (overruled := settings.overruled_model_variable) is not None:
        log.warning("setting_ignored", setting=overruled, hint="LLM_DEFAULT_MODEL, or --model, names another model.")
    tokens = _tokens(settings)
    services = _wire(settings, limits)
    app = HotApplication(
        title=settings.app_name,
        version=settings.app_version,
        docs_url=None,  # FastAPI's page loads Swagger UI from the internet; routes/pages.py has it here.
        redoc_url=None,
        debug=False,  # Starlette's debug pages show stack traces to clients.
        lifespan=_lifespan,
        redirect_slashes=False,  # TrailingSlashes needs no second request.
    )
    app.state.services = services
    app.add_middleware(HeadAsGet)
    install_error_handlers(app, forms=ERROR_FORMS, lost=lost_request)
    _include_routes(app)
    # The last added is the outermost.
    app.add_middleware(MisdirectedClients)
    app.add_middleware(
        BodyLimit, max_bytes=settings.max_content_bytes + BODY_ALLOWANCE_BYTES, larger=_large_bodies(settings)
    )
    app.add_middleware(CredentialGuard, tokens=tokens, file_tickets=services.file_tickets)
    app.add_middleware(
        LeanCORS,
        allow_origins=[*settings.cors_origins, *TAURI_ORIGINS],
        allow_methods=["*"],
        allow_headers=["*"],
        # Browsers ask for this before a page of a public address may call a private one; other origins are refused
        # before.
        allow_private_network=True,
        expose_headers=[
            *(
                "X-Stream-ID",
                "X-Request-ID",
                "Retry-After",
                "Retry-After-Ms",
                "X-Should-Retry",
                "X-Archer-Ignored",
                "ETag",
            ),
        ],
    )
    app.add_middleware(HostAndOriginGuard, allowed_hosts=_hosts(settings), cors_origins=settings.cors_origins)
    app.add_middleware(RequestLog)
    app.add_middleware(TrailingSlashes)
    warn_if_exposed(settings.host, tokens)
    return app


def openapi_document() -> dict[str, Any]:
    """The OpenAPI document of this version, whatever the machine's settings are."""
    app = FastAPI(title=TITLE, version=__version__)
    _include_routes(app)
    return app.openapi()


def _include_routes(app: FastAPI) -> None:
    routers = [
        chat.router,
        openai_compat.completions_router,
        *(
            module.router
            for module in (
                health,
                streams,
                tool_calls,
                session_transfer,
                sessions,
                files,
                models,
                ws,
                openai_compat,
                console,
                pages,
            )
        ),
    ]
    for router in routers:
        # Added directly: routes are tried one by one, and those of an included router through four layers, which build
        # them anew for each application.
        app.router.routes.extend(router.routes)
    app.router.routes.append(ws.socket_route)
    install_openapi(app, routers)


def _hosts(settings: Settings) -> list[str]:
    """The configured hosts; else the default ones, and the name that Starlette's TestClient sends.

    `archer-ws serve` always configures them: a hostile network can resolve a name without dots to this machine.
    """
    hosts = settings.allowed_hosts
    return hosts if "allowed_hosts" in settings.model_fields_set else [*hosts, TEST_HOST]


def _tokens(settings: Settings) -> dict[str, str]:
    """The configured tokens by principal; `auth_token` belongs to the one principal that exists without a token too."""
    tokens = {name: token.get_secret_value() for name, token in settings.auth_tokens.items()}
    if settings.auth_token is not None:
        tokens.setdefault(LOCAL_PRINCIPAL, settings.auth_token.get_secret_value())
    return tokens


def _large_bodies(settings: Settings) -> dict[str, int]:
    """The largest body of each path whose bodies are files, or may hold files as base64."""
    text = settings.max_content_bytes + BODY_ALLOWANCE_BYTES
    inline = text + -(-settings.file_bytes_max // 3) * 4
    # The files' own route reports a file that is too long, and nothing more of it is read.
    unbounded = dict.fromkeys((FILES_PATH, session_transfer.IMPORT_PATH), maxsize)
    return {**unbounded, **dict.fromkeys(GENERATION_PATHS, inline)}


def _files(settings: Settings) -> Files:
    """The files: on a disk if conversations are stored there or a directory is set."""
    directory = settings.files_folder
    return Files(
        MemoryShelf() if directory is None else DiskShelf(directory),
        file_bytes_max=settings.file_bytes_max,
        principal_bytes_max=settings.files_bytes_per_principal,
        bytes_max=MEMORY_FILES_BYTES if directory is None else None,
        lifetime_s=settings.file_ttl_s,
        # A failing disk does not stop the server, as for conversations.
        is_needed=settings.files_dir is not None,
    )


def _store(settings: Settings, principals: Sequence[str]) -> SessionStore:
    if settings.store == "memory":
        return MemoryStore(
            sessions_max=settings.stored_sessions_max,
            bytes_max=settings.stored_bytes_max,
            idle_ttl_s=settings.session_idle_ttl_s,
            principals=principals,
        )
    from archer_ws.sessions.storage.sqlite.accounts import Accounts
    from archer_ws.sessions.storage.sqlite.database import FileSettings
    from archer_ws.sessions.storage.sqlite.store import SqliteStore

    if "session_idle_ttl_s" in settings.model_fields_set:
        log.warning(
            "setting_ignored", setting="SESSION_IDLE_TTL_S", hint="Conversations in a file stay until they are deleted."
        )
    bytes_max = settings.stored_bytes_max
    return SqliteStore(
        settings.data_folder,
        FileSettings(bytes_max=bytes_max, wait_s=settings.drain_s),
        Accounts(settings.stored_sessions_max, bytes_max, tuple(principals)),
    )


def _wire(settings: Settings, limits: Limits) -> Services:
    router = LLMRouter(settings)
    principals = tuple(_tokens(settings)) or (LOCAL_PRINCIPAL,)
    store = _store(settings, principals)
    judge = FormatJudge()
    files = _files(settings)
    attachments = Attachments(files, bounded(store, limits.store_limit_s), limits.files_sweep_s)
    manager = SessionManager(
        gateway=router,
        orchestrator=Orchestrator(router, [ToolLoopAgent(router, judge.judge_by)]),
        store=store,
        quota=StreamQuota(
            max_streams=settings.max_streams,
            max_per_principal=settings.max_streams_per_principal,
            principals=principals,
        ),
        gates={
            name: ProviderGate(
                name,
                concurrency=settings.concurrency_of(name),
                queue=settings.queue_of(name),
                principals=principals,
            )
            for name in router.providers
        },
        new_log=MemoryLog,
        judge=judge,
        attachments=attachments,
        limits=ManagerLimits(
            max_content_bytes=settings.max_content_bytes,
            retention_s=settings.stream_retention_s,
            grace_s=settings.stream_grace_s,
            retained_bytes_max=settings.retained_bytes_max,
        ),
        bounds=limits,
    )
    conversations = Conversations(store, manager, limits, attachments=attachments)
    file_tickets = TicketOffice()
    methods = archer_v1()
    return Services(
        version=settings.app_version,
        has_console=settings.console,
        router=router,
        readiness=Readiness(router),
        manager=manager,
        judge=judge,
        store=store,
        conversations=conversations,
        files=files,
        attachments=attachments,
        tickets=TicketOffice(),
        file_tickets=file_tickets,
        credentials=Credentials(_tokens(settings)),
        sockets=OpenSockets(SocketQuota(settings.max_sockets, settings.max_sockets_per_principal)),
        rpc=RpcServices(
            manager=manager,
            conversations=conversations,
            models=router,
            server_name=settings.app_name,
            server_version=settings.app_version,
            max_frame_bytes=MAX_FRAME_BYTES,
            max_content_bytes=settings.max_content_bytes,
            issue_file_ticket=partial(_file_ticket, file_tickets),
            describe=partial(describe, methods),
            limits=limits,
        ),
        dispatcher=Dispatcher(methods),
        limits=limits,
    )


def _file_ticket(office: TicketOffice, principal: str) -> tuple[str, int]:
    ticket = office.issue(principal, None)
    return ticket.token, ticket.expires_in_s


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    services: Services = app.state.services
    if not getattr(app.state, "is_served_by_archer", False):
        log.warning(
            "plain_server",
            not_held="the largest message and keepalive of sockets, write deadlines, bounds on requests' heads, bodies "
            "and trailers, places for connections, draining",
            hint="archer-ws serve has them all",
        )
    await services.store.open()
    # After the store, which waits until an earlier process has released the folder; before the streams that go on,
    # whose results name files.
    if services.store.trouble is None:
        # Otherwise the sweep meets the same error, and retries later.
        await asyncio.to_thread(services.files.open_now)
    with told_while_slow("the streams that ran before", services.store.place["place"], services.store.place["hint"]):
        await services.manager.recover()
    if (trouble := services.store.trouble) is None:
        log.info("conversations_kept", **services.store.place)
    else:
        log.warning("conversations_not_kept", cause=trouble.message, **services.store.place)
    preparing = asyncio.create_task(_prepare(services))
    app.state.preparing = preparing
    sweeping = asyncio.create_task(services.attachments.run())
    try:
        yield
    finally:
        for task in (preparing, sweeping):
            task.cancel()
        await asyncio.gather(preparing, sweeping, return_exceptions=True)
        await services.manager.aclose()
        await services.files.aclose()
        await services.judge.aclose()
        await services.router.aclose()
        await services.store.aclose()


async def _prepare(services: Services) -> str | None:
    """Make the default provider ready; returns what prevents that and what to do, or None."""
    await asyncio.sleep(LISTEN_FIRST_S)
    failure = await services.readiness.prepare()
    # Every `initialize` needs the hash, and computing it takes a quarter of a second, in which no stream would move.
    await asyncio.to_thread(services.rpc.describe)
    return f"{failure.message}. {failure.hint or ''}".strip() if failure else None


def __getattr__(name: str) -> Any:
    if name == "app":
        app = create_app()
        globals()["app"] = app
        return app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
