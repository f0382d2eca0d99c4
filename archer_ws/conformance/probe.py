"""Before the checks: is there an archer.v1 server, does it let us in, what are its limits, does its provider
respond?"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from websockets.exceptions import ConnectionClosed

from archer_ws.client.dialling import Address, closing_error, dial
from archer_ws.client.errors import ClientError, NotArcher
from archer_ws.conformance.bench import Bench, Target, hello
from archer_ws.conformance.failing import Failed, Skipped, shown
from archer_ws.conformance.inbox import Request
from archer_ws.conformance.ledger import Ledger
from archer_ws.conformance.methods import CHAT_SEND, INABILITIES, INITIALIZE, PING
from archer_ws.conformance.peer import Peer, Trial
from archer_ws.conformance.told import Told
from archer_ws.conformance.wire import Response
from archer_ws.core.exceptions import ErrorInfo
from archer_ws.rpc.messages import InitializeResult

#: How long the server may take for one response, in seconds.
RESPONSE_WITHIN_S = 10.0

_TOKEN_HINT = "Set ARCHER_TOKEN to the server's AUTH_TOKEN."


async def probe(
    url: str,
    token: str | None,
    route: Mapping[str, str],
    *,
    timeout_s: float,
    quiet_s: float,
    needs_answers: bool = True,
) -> Target:
    """The server, ready to be checked.

    Raises:
        ClientError: there is none, it does not let us in, or completions are needed and its provider returns none.
    """
    address = Address(url)
    needs_token = await _needs_token(address, quiet_s)
    if needs_token and token is None:
        raise ClientError(f"{address.url} needs a token", _TOKEN_HINT)
    greeting = await _greet(address, token, quiet_s)
    target = Target(address, token, needs_token, greeting, dict(route))
    if needs_answers:
        await _try_the_provider(target, timeout_s, quiet_s)
    return target


async def _needs_token(address: Address, quiet_s: float) -> bool:
    peer = await _open(address, quiet_s)
    try:
        response = await _response(address, peer, await peer.request(PING))
    finally:
        await peer.leave()
    return response.error is not None and response.error.info.kind == "not_initialized"


async def _greet(address: Address, token: str | None, quiet_s: float) -> InitializeResult:
    peer = await _open(address, quiet_s)
    request = await peer.request(INITIALIZE, **hello(token))
    try:
        error = (await _response(address, peer, request)).error
    finally:
        await peer.leave()
    if error is not None:
        hint = _TOKEN_HINT if error.info.kind in {"unauthenticated", "not_initialized"} else error.info.hint
        raise ClientError(f"{address.url} refuses initialize: {shown(error.info.message)}", hint)
    assert request.result is not None
    return request.result


async def _open(address: Address, quiet_s: float) -> Peer:
    return Peer(await dial(address), Trial(Ledger(), quiet_s))


async def _response(address: Address, peer: Peer, request: Request[Any]) -> Response:
    try:
        async with asyncio.timeout(RESPONSE_WITHIN_S):
            return await peer.response(request)
    except TimeoutError:
        came = f"no response to {request.method.name} in {RESPONSE_WITHIN_S:g} s"
    except Failed as failed:
        came = failed.came
        if peer.is_closed:
            try:
                await peer.connection.recv()
            except ConnectionClosed as closed:
                raise closing_error(address, closed) from None
    raise NotArcher(
        f"{address.url} does not answer as an Archer server does: {came}", "Is another program listening there?"
    )


async def _try_the_provider(target: Target, timeout_s: float, quiet_s: float) -> None:
    """Check only that the provider generates something: without completions, the checks could find next to nothing."""
    bench = Bench(target, Trial(Ledger(), quiet_s))
    try:
        async with asyncio.timeout(timeout_s):
            peer = await bench.connect()
            sent = await peer.request(CHAT_SEND, **bench.short())
            error = (await peer.response(sent)).error
            info = error.info if error is not None else await _why_it_failed(peer, await peer.accepted(sent))
        if info is not None and (info.kind in INABILITIES or info.kind == "invalid_params"):
            raise ClientError(f"{target.address.url} gives no answers: {shown(info.message)}", info.hint)
    except Skipped as skipped:
        raise ClientError(f"{target.address.url} gives no answers: {skipped.reason}", "Look into its log.") from None
    except (TimeoutError, Failed):
        pass
    finally:
        await bench.tidy()


async def _why_it_failed(peer: Peer, told: Told) -> ErrorInfo | None:
    with suppress(Skipped):
        await peer.ended(told)
    return told.ended.error if told.ended is not None else None
