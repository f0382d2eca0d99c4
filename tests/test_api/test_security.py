import asyncio
from collections.abc import Mapping

import httpx
import pytest
import structlog
from starlette.types import ASGIApp
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from archer_ws.api.http.access_log import RequestLog
from archer_ws.api.security.credentials import CredentialGuard, warn_if_exposed
from archer_ws.api.security.host_and_origin import HostAndOriginGuard
from tests.test_api.asking import assert_refused, get, run, show_state
from tests.test_api.conftest import Serve

HOSTS = ["localhost", "127.0.0.1", "[::1]", "a.example.com"]
ORIGINS = ["http://localhost:1420"]
TOKENS = {"alice": "token-of-alice", "bob": "token-of-bob"}


def guarded(app: ASGIApp = show_state) -> ASGIApp:
    return RequestLog(HostAndOriginGuard(app, HOSTS, ORIGINS))


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LocalHost",
        "localhost.",
        "localhost:8000",
        "localhost.:1",
        "127.0.0.1:99",
        "[::1]",
        "[::1]:8000",
        "[0:0:0:0:0:0:0:1]",
        "a.example.com",
        "a.EXAMPLE.com:8000",
    ],
)
async def test_a_host_on_the_list_passes_whatever_its_port_and_case(host: str) -> None:
    assert (await get(guarded(), host=host)).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.com",
        "localhost.evil.com",
        "evillocalhost",
        "example.com",
        "evilexample.com",
        "[::2]",
        "[::1",
        "::1",
        "localhost@evil.com",
        "localhost:8000:9",
        "localhost:port",
        "localhost..",
        "",
        " ",
        "localhost/x",
        "[v1.x]",
    ],
)
async def test_any_other_host_is_refused_with_the_setting_to_change(host: str) -> None:
    assert_refused(await get(guarded(), host=host), 403, "forbidden", "ALLOWED_HOSTS")


@pytest.mark.parametrize("headers", [[], [(b"host", b"localhost"), (b"host", b"localhost")]])
async def test_no_host_or_two_are_refused(headers: list[tuple[bytes, bytes]]) -> None:
    assert (await run(guarded(), headers))[0]["status"] == 403


async def test_a_star_in_the_list_stands_for_nothing() -> None:
    app = HostAndOriginGuard(show_state, ["*", "*.example.com"], [])
    for host in (b"evil.com", b"a.example.com", b".example.com"):
        assert (await run(app, [(b"host", host)]))[0]["status"] == 403


@pytest.mark.parametrize(
    "origin",
    [
        "http://localhost:1420",
        "tauri://localhost",
        "http://tauri.localhost",
        "https://tauri.localhost",
        "http://localhost:8000",
    ],
)
async def test_pages_of_known_origins_and_of_this_server_pass(origin: str) -> None:
    assert (await get(guarded(), origin=origin)).status_code == 200


@pytest.mark.parametrize(
    "origin",
    [
        "http://localhost:1421",
        "https://localhost:1420",
        "http://localhost",
        "http://localhost:1420/",
        "null",
        "*",
        "http://localhost:1420.evil.com",
        "http://127.0.0.1:8000",
        "tauri://localhost.evil.com",
        "",
        "http://evil.com",
    ],
)
async def test_pages_of_other_origins_are_refused(origin: str) -> None:
    answer = await get(guarded(), origin=origin)
    assert_refused(answer, 403, "forbidden", "http" if origin == "null" else "CORS_ORIGINS")


async def test_two_origins_are_refused() -> None:
    headers = [(b"host", b"localhost"), (b"origin", b"http://localhost:1420"), (b"origin", b"http://localhost:1420")]
    assert (await run(guarded(), headers))[0]["status"] == 403


#: How browsers load an image of a page.
IMAGE = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"}


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "something of a later time"},
        {"referer": "http://evil.com/"},
        {"referer": "http://localhost:1420.evil.com/"},
        {"referer": "http://evil.com/http://localhost:1420/"},
        {"referer": "null"},
        {"sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"},
        {"sec-fetch-mode": "navigate", "sec-fetch-dest": "object"},
        {"sec-fetch-mode": "navigate", "sec-fetch-dest": "empty"},
        {"sec-fetch-dest": "document"},
    ],
)
async def test_what_pages_of_other_origins_load_without_an_origin_is_refused(given: dict[str, str]) -> None:
    assert_refused(await get(guarded(), **{**IMAGE, **given}), 403, "forbidden", "CORS_ORIGINS")


@pytest.mark.parametrize(
    "given",
    [
        {"sec-fetch-site": "same-origin"},
        {"sec-fetch-site": "none"},
        {"sec-fetch-mode": "navigate", "sec-fetch-dest": "document"},
        {"referer": "http://localhost:1420/"},
        {"referer": "http://localhost:1420/a/page?x"},
        {"referer": "http://tauri.localhost"},
        {"origin": "http://localhost:1420"},
    ],
)
async def test_what_known_pages_load_passes_and_so_does_a_link_to_this_server(given: dict[str, str]) -> None:
    assert (await get(guarded(), **{**IMAGE, **given})).status_code == 200


async def test_the_log_says_of_an_image_without_origin_what_its_page_must_do() -> None:
    """Of a Tauri application's page on Linux, which sends no Referer either: its origin needs no setting."""
    with structlog.testing.capture_logs() as entries:
        response = await get(guarded(), **IMAGE)
    (warning,) = [entry for entry in entries if entry["event"] == "origin_refused"]
    for hint in (warning["hint"], response.json()["error"]["hint"]):
        assert "the attribute crossorigin" in hint
        assert "CORS_ORIGINS, unless it is Tauri's" in hint


async def test_a_link_to_a_file_is_followed_from_known_pages_only() -> None:
    link = {**IMAGE, "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    path = "/api/v1/files/file_0"
    assert_refused(await get(guarded(), path, **link), 403, "forbidden", "CORS_ORIGINS")
    for known in ({"referer": "http://localhost:1420/"}, {"sec-fetch-site": "none"}):
        assert (await get(guarded(), path, **{**link, **known})).status_code == 200


async def test_a_program_that_tells_only_the_mode_of_a_request_passes() -> None:
    assert (await get(guarded(), **{"sec-fetch-mode": "cors"})).status_code == 200


@pytest.mark.parametrize(
    ("scheme", "host", "origin"),
    [
        ("http", "localhost", "http://localhost"),
        ("http", "localhost:80", "http://localhost"),
        ("https", "localhost:443", "https://localhost"),
        ("https", "localhost:80", "https://localhost:80"),
        ("ws", "localhost:8000", "http://localhost:8000"),
        ("wss", "localhost:443", "https://localhost"),
        ("http", "[::1]:80", "http://[::1]"),
        ("http", "LOCALHOST:8000", "http://localhost:8000"),
    ],
)
async def test_a_page_of_this_server_is_known_with_default_ports_left_out(scheme: str, host: str, origin: str) -> None:
    headers = [(b"host", host.encode()), (b"origin", origin.encode())]
    assert (await run(guarded(), headers, scheme=scheme))[0]["status"] == 200
    other = "https" if origin.startswith("http:") else "http"
    headers[1] = (b"origin", f"{other}://{origin.partition('://')[2]}".encode())
    assert (await run(guarded(), headers, scheme=scheme))[0]["status"] == 403


@pytest.mark.parametrize(
    ("path", "status"),
    [("/health", 200), ("/health/ready", 200), ("/healthy", 403), ("/x/health", 403), ("//health", 403)],
)
async def test_health_probes_alone_need_neither_host_nor_origin(path: str, status: int) -> None:
    app = guarded(CredentialGuard(show_state, TOKENS))
    sent = await run(app, [(b"origin", b"http://evil.com")], path=path)
    assert sent[0]["status"] == status


async def test_health_is_found_below_a_mount_point() -> None:
    sent = await run(guarded(), [], path="/engine/health", root_path="/engine")
    assert sent[0]["status"] == 200


async def test_each_refused_origin_and_host_makes_one_line_that_says_what_to_set() -> None:
    app = guarded()
    with structlog.testing.capture_logs() as entries:
        for _ in range(3):
            await get(app, origin="http://one.com")
            await get(app, origin="http://two.com")
            await get(app, host="three.com")
    warnings = [entry for entry in entries if entry["log_level"] == "warning"]
    assert [(entry.get("origin"), entry.get("host"), entry["hint"].split()[-1]) for entry in warnings] == [
        ("http://one.com", None, "CORS_ORIGINS"),
        ("http://two.com", None, "CORS_ORIGINS"),
        (None, "three.com", "ALLOWED_HOSTS"),
    ]


async def test_inventing_origins_fills_neither_log_nor_memory() -> None:
    app = HostAndOriginGuard(show_state, HOSTS, ORIGINS)
    with structlog.testing.capture_logs() as entries:
        for number in range(1100):
            origin = f"http://{'x' * 1000 if number == 0 else number}.com".encode()
            await run(app, [(b"host", b"localhost"), (b"origin", origin)])
    assert len(entries) == 1000
    assert max(len(entry["origin"]) for entry in entries) == 100


@pytest.mark.parametrize("headers", [{"Host": "evil.com"}, {"Origin": "http://evil.com"}])
async def test_a_websocket_is_refused_with_the_reason_before_the_upgrade(
    serve: Serve, headers: Mapping[str, str]
) -> None:
    async with asyncio.timeout(10), serve(guarded()) as address, httpx.AsyncClient() as client:
        upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
        key = {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
        answer = await client.get(f"http://{address}/api/v1/ws", headers={**upgrade, **key, **headers})
        assert_refused(answer, 403, "forbidden", "ALLOWED_HOSTS" if "Host" in headers else "CORS_ORIGINS")


async def test_a_websocket_of_this_servers_own_page_is_accepted(serve: Serve) -> None:
    app = HostAndOriginGuard(CredentialGuard(show_state, {}), HOSTS, [])
    async with asyncio.timeout(10), serve(app) as address:
        async with connect(f"ws://{address}/", origin=f"http://{address}") as socket:  # type: ignore[arg-type]  # a NewType of str
            assert await socket.recv() == "local"
        with pytest.raises(InvalidStatus):
            await connect(f"ws://{address}/", origin="http://evil.com")  # type: ignore[arg-type]  # a NewType of str


@pytest.mark.parametrize(
    ("host", "tokens", "warned"),
    [
        ("0.0.0.0", {}, True),
        ("::", {}, True),
        ("", {}, True),
        ("192.168.0.2", {}, True),
        ("example.com", {}, True),
        ("0.0.0.0", TOKENS, False),
        ("127.0.0.1", {}, False),
        ("127.8.8.8", {}, False),
        ("::1", {}, False),
        ("[::1]", {}, False),
        ("localhost", {}, False),
    ],
)
def test_listening_for_other_machines_without_a_token_is_warned_about(
    host: str, tokens: Mapping[str, str], warned: bool
) -> None:
    with structlog.testing.capture_logs() as entries:
        warn_if_exposed(host, tokens)
    assert [entry["log_level"] for entry in entries] == ["warning"] * warned
    assert not warned or "AUTH_TOKEN" in entries[0]["hint"]
