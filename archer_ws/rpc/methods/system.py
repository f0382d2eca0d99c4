"""initialize, ping, model/list, provider/status, rpc.discover."""

from archer_ws.core.exceptions import AlreadyInitialized, UnsupportedVersion
from archer_ws.rpc.context import Context
from archer_ws.rpc.messages import (
    CAPABILITIES,
    DURABLE,
    PROTOCOL_VERSION,
    ConnectionLimits,
    DefaultModel,
    InitializeParams,
    InitializeResult,
    ModelListParams,
    ModelListResult,
    NoParams,
    Nothing,
    OpenRpcDocument,
    PeerInfo,
    ProviderStates,
    TicketResult,
)
from archer_ws.rpc.registry import Method, Reply


def initialize(context: Context, params: InitializeParams) -> Reply:
    """Agree on the version, show a credential, learn the limits."""
    if context.is_initialized or context.has_spoken:
        raise AlreadyInitialized(
            "initialize may be sent only once, before any other request", hint="Open a new connection."
        )
    if params.protocol_version != PROTOCOL_VERSION:
        raise UnsupportedVersion(
            f"protocol version {params.protocol_version} is not supported",
            hint=f"Send protocol_version {PROTOCOL_VERSION}.",
        )
    if params.token is not None:
        context.authenticate(params.token)
    context.is_initialized = True
    context.writer.coalesce_s = params.coalesce_ms / 1000
    services, limits = context.services, context.services.limits
    return Reply(
        InitializeResult(
            protocol_version=PROTOCOL_VERSION,
            server=PeerInfo(name=services.server_name, version=services.server_version),
            connection_id=context.connection_id,
            heartbeat_ms=round(limits.heartbeat_s * 1000),
            limits=ConnectionLimits(
                max_frame_bytes=services.max_frame_bytes,
                max_content_bytes=services.max_content_bytes,
                max_requests=limits.max_requests,
                max_streams=limits.max_streams,
            ),
            capabilities=sorted([*CAPABILITIES, *([DURABLE] if services.manager.is_durable else [])]),
            schema_hash=services.describe().hash,
        )
    )


def ping(_context: Context, _params: NoParams) -> Reply:
    """The connection and the event loop respond."""
    return Reply(Nothing())


async def list_models(context: Context, params: ModelListParams) -> Reply:
    """The available models, the default, and the providers that could not be asked."""
    models = context.services.models
    items, unavailable = await models.listing(params.provider)
    provider, model = models.default_route()
    default = DefaultModel(provider=provider, model=model)
    return Reply(ModelListResult(items=items, default=default, unavailable=unavailable))


async def provider_status(context: Context, _params: NoParams) -> Reply:
    """The state of every provider."""
    return Reply(ProviderStates(await context.services.models.health_check_all()))


def create_ticket(context: Context, _params: NoParams) -> Reply:
    """The ticket that a page without a token shows when it uploads a file."""
    ticket, expires_in_s = context.services.issue_file_ticket(context.principal)
    return Reply(TicketResult(ticket=ticket, expires_in_s=expires_in_s))


def discover(context: Context, _params: NoParams) -> Reply:
    """The OpenRPC document."""
    return Reply(OpenRpcDocument(context.services.describe().document))


METHODS = (
    Method(
        "initialize",
        InitializeParams,
        InitializeResult,
        initialize,
        "Optional, before any other request: the version, a credential, the limits.",
        is_open=True,
    ),
    Method("ping", NoParams, Nothing, ping, "The connection responds.", is_control=True),
    Method("model/list", ModelListParams, ModelListResult, list_models, "The available models."),
    Method("provider/status", NoParams, ProviderStates, provider_status, "The state of every provider."),
    Method(
        "ticket/create",
        NoParams,
        TicketResult,
        create_ticket,
        "A ticket, valid once as the Bearer token of a request to /api/v1/files.",
    ),
    Method("rpc.discover", NoParams, OpenRpcDocument, discover, "This API's OpenRPC document."),
)
