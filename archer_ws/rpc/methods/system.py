"""initialize, ping, model/list, provider/status, rpc.discover."""

from archer_ws.core.exceptions import AlreadyInitialized, UnsupportedVersion
from archer_ws.core.limits import MAX_REQUESTS, MAX_STREAMS
from archer_ws.rpc.connection import Connection
from archer_ws.rpc.messages import (
    PROTOCOL_VERSION,
    DefaultModel,
    InitializeParams,
    InitializeResult,
    Limits,
    ModelListParams,
    ModelListResult,
    NoParams,
    Nothing,
    OpenRpcDocument,
    PeerInfo,
    ProviderStates,
)
from archer_ws.rpc.openrpc import openrpc_document, schema_hash
from archer_ws.rpc.registry import Method, Reply
from archer_ws.rpc.writer import HEARTBEAT_S


def initialize(connection: Connection, params: InitializeParams) -> Reply:
    """Agree on the version, show a credential, learn the limits."""
    if connection.is_initialized or connection.has_spoken:
        raise AlreadyInitialized("initialize comes once, before any other request", hint="Open a new connection.")
    if params.protocol_version != PROTOCOL_VERSION:
        raise UnsupportedVersion(
            f"protocol version {params.protocol_version} is not spoken here",
            hint=f"Send protocol_version {PROTOCOL_VERSION}.",
        )
    if params.token is not None:
        connection.authenticate(params.token)
    connection.is_initialized = True
    connection.writer.coalesce_s = params.coalesce_ms / 1000
    services = connection.services
    return Reply(
        InitializeResult(
            protocol_version=PROTOCOL_VERSION,
            server=PeerInfo(name=services.server_name, version=services.server_version),
            connection_id=connection.connection_id,
            heartbeat_ms=round(HEARTBEAT_S * 1000),
            limits=Limits(
                max_frame_bytes=services.max_frame_bytes,
                max_content_bytes=services.max_content_bytes,
                max_requests=MAX_REQUESTS,
                max_streams=MAX_STREAMS,
            ),
            schema_hash=schema_hash(),
        )
    )


def ping(_connection: Connection, _params: NoParams) -> Reply:
    """The connection and the event loop live."""
    return Reply(Nothing())


async def list_models(connection: Connection, params: ModelListParams) -> Reply:
    """The models that can be named, the default, and the providers that could not be asked."""
    models = connection.services.models
    items, unavailable = await models.listing(params.provider)
    provider, model = models.default_route()
    default = DefaultModel(provider=provider, model=model)
    return Reply(ModelListResult(items=items, default=default, unavailable=unavailable))


async def provider_status(connection: Connection, _params: NoParams) -> Reply:
    """The state of every provider."""
    return Reply(ProviderStates(await connection.services.models.health_check_all()))


def discover(_connection: Connection, _params: NoParams) -> Reply:
    """The OpenRPC document."""
    return Reply(OpenRpcDocument(openrpc_document()))


METHODS = (
    Method(
        "initialize",
        InitializeParams,
        InitializeResult,
        initialize,
        "Optional, before any other request: the version, a credential, the limits.",
        is_open=True,
    ),
    Method("ping", NoParams, Nothing, ping, "The connection lives.", is_control=True),
    Method("model/list", ModelListParams, ModelListResult, list_models, "The models that can be named."),
    Method("provider/status", NoParams, ProviderStates, provider_status, "The state of every provider."),
    Method("rpc.discover", NoParams, OpenRpcDocument, discover, "This API's OpenRPC document."),
)
