"""The handshake, the credential and `initialize` (protocol sections 2 and 3). No model is asked."""

from websockets.exceptions import InvalidStatus

from archer_ws.conformance.bench import Bench, hello
from archer_ws.conformance.failing import Failed, Skipped, expect
from archer_ws.conformance.methods import INITIALIZE, PING, STREAM_LIST
from archer_ws.conformance.registry import check
from archer_ws.rpc.messages import PROTOCOL_VERSION, SUBPROTOCOL

_WRONG_TOKEN = "conformance-wrong-token"


@check(section="2")
async def subprotocol_is_echoed(bench: Bench) -> None:
    """The subprotocol archer.v1 is echoed, also out of several."""
    for offered in ((SUBPROTOCOL,), ("chat.v9", SUBPROTOCOL)):
        peer = await bench.connect_plain(subprotocols=offered)
        expect(peer.connection.subprotocol == SUBPROTOCOL, SUBPROTOCOL, peer.connection.subprotocol)


@check(section="2")
async def subprotocol_is_optional(bench: Bench) -> None:
    """A client that offers no subprotocol is served all the same."""
    peer = await bench.connect_plain(subprotocols=None)
    expect(peer.connection.subprotocol is None, "no subprotocol", peer.connection.subprotocol)
    await peer.still_serves()


@check(section="2")
async def compression_is_off(bench: Bench) -> None:
    """permessage-deflate is not taken up."""
    peer = await bench.connect_plain(compression="deflate")
    taken = [type(extension).__name__ for extension in peer.connection.protocol.extensions]
    expect(not taken, "no extension", taken)


@check(section="2")
async def foreign_origins_are_refused(bench: Bench) -> None:
    """Pages of a foreign origin are refused before the upgrade."""
    try:
        await bench.connect_plain(origin="https://conformance.invalid")
    except InvalidStatus as refused:
        status = refused.response.status_code
        expect(status == 403, "403 for Origin: https://conformance.invalid", status)
    else:
        raise Failed("403 for Origin: https://conformance.invalid", "an open socket")


@check(section="2")
async def tauri_is_let_in(bench: Bench) -> None:
    """Tauri's origins are let in."""
    for origin in ("tauri://localhost", "http://tauri.localhost", "https://tauri.localhost"):
        try:
            peer = await bench.connect_plain(origin=origin)
        except InvalidStatus as refused:
            raise Failed(f"a connection for Origin: {origin}", f"{refused.response.status_code}") from refused
        await peer.still_serves()


@check(section="3")
async def initialize_tells_the_limits(bench: Bench) -> None:
    """initialize tells version, server, limits and schema_hash."""
    peers = [await bench.connect_plain(with_token=False) for _ in range(2)]
    first, second = [await peer.call(INITIALIZE, **hello(bench.target.token)) for peer in peers]
    expect(first.protocol_version == PROTOCOL_VERSION, f"protocol_version {PROTOCOL_VERSION}", first.protocol_version)
    limits = first.limits.model_dump()
    expect(all(limit > 0 for limit in limits.values()), "limits above 0", limits)
    expect(first.heartbeat_ms > 0, "heartbeat_ms above 0", first.heartbeat_ms)
    expect(bool(first.server.name and first.server.version), "the server's name and version", first.server.model_dump())
    expect(bool(first.schema_hash), "a schema_hash", first.schema_hash)
    expect(first.schema_hash == second.schema_hash, "one schema_hash", [first.schema_hash, second.schema_hash])
    expect(first.connection_id != second.connection_id, "an id for each connection", first.connection_id)


@check(section="3")
async def other_versions_are_refused(bench: Bench) -> None:
    """A protocol version that is not spoken is refused."""
    peer = await bench.connect_plain(with_token=False)
    await peer.refused(INITIALIZE, "unsupported_version", **{**hello(bench.target.token), "protocol_version": 999})


@check(section="3")
async def initialize_comes_once(bench: Bench) -> None:
    """A second initialize is refused, and the socket lives on."""
    peer = await bench.connect()
    await peer.refused(INITIALIZE, "already_initialized", **hello(bench.target.token))
    await peer.still_serves()


@check(section="3")
async def initialize_comes_first(bench: Bench) -> None:
    """initialize after another request is refused."""
    peer = await bench.connect_plain()
    await peer.call(PING)
    await peer.refused(INITIALIZE, "already_initialized", **hello(bench.target.token))


@check(section="3")
async def initialize_is_optional(bench: Bench) -> None:
    """initialize is optional: other requests are served without."""
    peer = await bench.connect_plain()
    await peer.call(STREAM_LIST)
    await peer.still_serves()


@check(section="2")
async def credential_is_needed(bench: Bench) -> None:
    """Without its credential, a request gets -32002."""
    _needs_token(bench)
    peer = await bench.connect_plain(with_token=False)
    await peer.refused(PING, "not_initialized")
    await peer.call(INITIALIZE, **hello(bench.target.token))
    await peer.still_serves()


@check(section="3")
async def wrong_tokens_are_refused(bench: Bench) -> None:
    """A wrong token in initialize gets -32010, then close 4501."""
    _needs_token(bench)
    peer = await bench.connect_plain(with_token=False)
    await peer.refused(INITIALIZE, "unauthenticated", **hello(_WRONG_TOKEN))
    await peer.closes_with(4501, "a wrong token")


@check(section="2")
async def wrong_headers_are_closed(bench: Bench) -> None:
    """A wrong Authorization header is accepted, then closed 4501."""
    _needs_token(bench)
    try:
        peer = await bench.connect_plain(with_token=False, headers={"Authorization": f"Bearer {_WRONG_TOKEN}"})
    except InvalidStatus as refused:
        raise Failed("an upgrade, so that a browser can read why", f"{refused.response.status_code}") from refused
    await peer.closes_with(4501, "a wrong Authorization header")


def _needs_token(bench: Bench) -> None:
    if not bench.target.needs_token:
        raise Skipped("this server needs no token")
