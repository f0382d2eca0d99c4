from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from archer_ws.api.http.access_log import RequestLog
from archer_ws.api.security.credentials import CredentialGuard, Credentials
from archer_ws.api.security.host_and_origin import HostAndOriginGuard
from archer_ws.api.security.tickets import TicketGone, TicketMisplaced, TicketOffice
from tests.test_api.asking import assert_refused, get, run, show_state

HOSTS = ["localhost"]
ORIGINS = ["http://localhost:1420"]
TOKENS = {"alice": "token-of-alice", "bob": "token-of-bob"}


async def test_without_tokens_everybody_is_local() -> None:
    answer = await get(RequestLog(CredentialGuard(show_state, {})), authorization="Bearer whatever")
    assert answer.json()["principal"] == "local"


@pytest.mark.parametrize("value", ["Bearer token-of-bob", "bearer token-of-bob", "Bearer   token-of-bob "])
async def test_a_token_makes_its_principal(value: str) -> None:
    answer = await get(RequestLog(CredentialGuard(show_state, TOKENS)), authorization=value)
    assert answer.json()["principal"] == "bob"


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer token-of-bo",
        "Bearer token-of-bobb",
        "Basic token-of-bob",
        "token-of-bob",
        "Bearer token-of-bob token-of-bob",
        "Bearer tökén",
    ],
)
async def test_http_without_a_valid_token_is_401_and_says_how_to_send_one(value: str | None) -> None:
    headers = {} if value is None else {"authorization": value}
    for path in ("/x", "/docs", "/openapi.json"):
        answer = await get(RequestLog(CredentialGuard(show_state, TOKENS)), path, **headers)
        assert_refused(answer, 401, "unauthenticated", "Authorization: Bearer")
        assert answer.headers["www-authenticate"] == "Bearer"
        assert "AUTH_TOKEN" in answer.json()["error"]["hint"]


async def test_two_credentials_are_none() -> None:
    header = (b"authorization", b"Bearer token-of-bob")
    assert (await run(CredentialGuard(show_state, TOKENS), [header, header]))[0]["status"] == 401


def test_every_token_is_compared_and_an_empty_one_is_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []

    def compare(given: bytes, expected: bytes) -> bool:
        compared.append(expected)
        return given == expected

    monkeypatch.setattr("hmac.compare_digest", compare)
    credentials = Credentials(TOKENS)
    assert credentials.principal_of("token-of-alice") == "alice"
    assert credentials.principal_of(b"nothing") is None
    assert compared == [b"token-of-alice", b"token-of-bob"] * 2
    assert credentials.required
    assert not Credentials({}).required
    with pytest.raises(ValueError, match="carol"):
        Credentials({"carol": ""})


async def test_a_preflight_needs_no_credential_and_a_page_can_read_the_401() -> None:
    app = Starlette()
    app.mount("/", show_state)
    app.add_middleware(CredentialGuard, TOKENS)
    app.add_middleware(CORSMiddleware, allow_origins=ORIGINS, allow_headers=["Authorization"])
    app.add_middleware(HostAndOriginGuard, HOSTS, ORIGINS)
    app.add_middleware(RequestLog)
    asking = {"Origin": ORIGINS[0], "Access-Control-Request-Method": "GET"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        preflight = await client.options("/x", headers=asking | {"Access-Control-Request-Headers": "authorization"})
        refused = await client.get("/x", headers={"Origin": ORIGINS[0]})
    assert preflight.status_code == 200
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == ORIGINS[0]


@pytest.mark.parametrize(
    ("authorization", "state"),
    [
        (None, {"principal": None, "credential_refused": False}),
        (b"Bearer wrong", {"principal": None, "credential_refused": True}),
        (b"Bearer token-of-alice", {"principal": "alice", "credential_refused": False}),
    ],
)
async def test_a_websocket_passes_and_is_told_about_its_header(authorization: bytes | None, state: Any) -> None:
    seen: list[Any] = []

    async def app(scope: Scope, _receive: Receive, _send: Send) -> None:
        seen.append(Request({**scope, "type": "http"}).state._state)

    headers = [] if authorization is None else [(b"authorization", authorization)]
    await run(CredentialGuard(app, TOKENS), headers, type="websocket")
    assert seen == [state]


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_a_ticket_is_good_once_for_its_origin() -> None:
    office = TicketOffice()
    ticket = office.issue("alice", "http://localhost:1420")
    assert ticket.expires_in_s == 30
    assert office.redeem(ticket.token, "http://localhost:1420") == "alice"
    with pytest.raises(TicketGone):
        office.redeem(ticket.token, "http://localhost:1420")
    with pytest.raises(TicketGone):
        office.redeem("unknown", None)


@pytest.mark.parametrize(
    ("bound_to", "shown_by"), [("http://a.com", "http://b.com"), ("http://a.com", None), (None, "x")]
)
def test_a_ticket_shown_by_another_origin_is_refused_and_used_up(bound_to: str | None, shown_by: str | None) -> None:
    office = TicketOffice()
    ticket = office.issue("alice", bound_to)
    with pytest.raises(TicketMisplaced):
        office.redeem(ticket.token, shown_by)
    with pytest.raises(TicketGone):
        office.redeem(ticket.token, bound_to)


def test_a_ticket_expires_after_its_time() -> None:
    clock = Clock()
    office = TicketOffice(clock=clock)
    in_time, too_late = office.issue("alice", None), office.issue("alice", None)
    clock.now_s += 29.9
    assert office.redeem(in_time.token, None) == "alice"
    clock.now_s += 0.1
    with pytest.raises(TicketGone):
        office.redeem(too_late.token, None)


def test_tickets_are_bounded_and_the_oldest_goes_first() -> None:
    office = TicketOffice(limit=2)
    first, second, third = (office.issue("alice", None) for _ in range(3))
    with pytest.raises(TicketGone):
        office.redeem(first.token, None)
    assert [office.redeem(ticket.token, None) for ticket in (second, third)] == ["alice"] * 2


def test_tickets_are_unguessable_and_fit_into_a_subprotocols_name() -> None:
    office = TicketOffice()
    tokens = {office.issue("alice", None).token for _ in range(100)}
    assert len(tokens) == 100
    assert all(len(token) >= 43 and token.replace("-", "").replace("_", "").isalnum() for token in tokens)


def test_who_issues_many_tickets_drops_his_own_and_nobody_elses() -> None:
    office = TicketOffice(limit=10)
    modest = office.issue("modest", None)

    for _ in range(100):
        latest = office.issue("greedy", None)

    assert office.redeem(modest.token, None) == "modest"
    assert office.redeem(latest.token, None) == "greedy"
