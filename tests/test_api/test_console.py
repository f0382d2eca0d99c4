"""The files that pages import from the server: their types, their caching, and nothing else of the machine's."""

import asyncio
import json
import re

import httpx
import pytest

from archer_ws.api.routes.console import DIRECTORY
from tests.conftest import Archer, StartArcher

JAVASCRIPT = sorted(path.relative_to(DIRECTORY).as_posix() for path in DIRECTORY.rglob("*.js"))


async def get(archer: Archer, name: str, **headers: str) -> httpx.Response:
    return await archer.http.get(f"/console/{name}", headers={key.replace("_", "-"): headers[key] for key in headers})


async def test_every_module_is_served_as_javascript_as_it_is(archer: Archer) -> None:
    assert {"archer-client.js", "app/main.js", "app/vendor/highlight/json.js"} <= set(JAVASCRIPT)
    for name in JAVASCRIPT:
        answer = await get(archer, name)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/javascript; charset=utf-8")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.content == (DIRECTORY / name).read_bytes()


async def test_the_types_are_served_beside_it(archer: Archer) -> None:
    answer = await get(archer, "archer-client.d.ts")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert "export function connect" in answer.text


async def test_a_browser_asks_anew_each_time_and_gets_only_what_has_changed(archer: Archer) -> None:
    first = await get(archer, "archer-client.js")
    assert first.headers["cache-control"] == "no-cache"
    tag = first.headers["etag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}'):
        again = await get(archer, "archer-client.js", if_none_match=known)
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert (await get(archer, "archer-client.js", if_none_match='"other"')).status_code == 200
    assert (await get(archer, "archer-link.js")).headers["etag"] != tag


async def test_a_client_that_takes_gzip_gets_it_and_a_version_of_its_own(archer: Archer) -> None:
    plain = await get(archer, "archer-client.js", accept_encoding="br;q=1, gzip;q=0.0")
    packed = await get(archer, "archer-client.js", accept_encoding="br, gzip")
    assert ("content-encoding" in plain.headers, packed.headers["content-encoding"]) == (False, "gzip")
    assert int(packed.headers["content-length"]) < len(plain.content) / 2
    assert packed.content == plain.content
    assert packed.headers["etag"] != plain.headers["etag"]
    assert all("Accept-Encoding" in answer.headers["vary"] for answer in (plain, packed))
    again = await get(archer, "archer-client.js", accept_encoding="gzip", if_none_match=packed.headers["etag"])
    assert again.status_code == 304


async def test_what_a_page_needs_before_it_is_drawn_is_named_in_its_head(archer: Archer) -> None:
    page = (await archer.http.get("/console")).text
    named = re.findall(r'<link rel="modulepreload" href="console/([^"]+)">', page)
    assert {"app/main.js", "app/ui/app.js", "app/vendor/preact.js", "archer-link.js"} <= set(named)
    assert len(named) == len(set(named))
    assert not [name for name in named if not (DIRECTORY / name).is_file()]
    # What is imported when it is needed is not asked for before.
    assert not [name for name in named if "markdown" in name]


async def test_head_tells_the_length_and_sends_nothing(archer: Archer) -> None:
    async with asyncio.timeout(10):
        answer = await archer.http.head("/console/archer-client.js", headers={"Accept-Encoding": "identity"})
    assert int(answer.headers["content-length"]) == (DIRECTORY / "archer-client.js").stat().st_size
    assert answer.content == b""


@pytest.mark.parametrize(
    "name",
    [
        "missing.js",
        "../cli.py",
        "..%2fcli.py",
        "%2e%2e/cli.py",
        "..%5c..%5cpyproject.toml",
        "%2fetc%2fpasswd",
        "archer-client.js%00",
        "ARCHER-CLIENT.JS",
        "__init__.py",
        "app",
        "app/",
        "app/index.html",
        "app/vendor/vendor.json",
        "app/vendor/LICENSE.preact",
        "app/../../cli.py",
        "app%2f..%2f..%2fcli.py",
        "app//main.js",
    ],
)
async def test_nothing_but_the_directorys_own_files_is_served(archer: Archer, name: str) -> None:
    # Bytes as they are: httpx would resolve `..` by itself.
    _, _, port = archer.address.rpartition(":")
    reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
    request = f"GET /console/{name} HTTP/1.1\r\nHost: {archer.address}\r\nConnection: close\r\n\r\n"
    writer.write(request.encode())
    async with asyncio.timeout(10):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    assert head.startswith(b"HTTP/1.1 404"), head
    assert json.loads(body)["error"]["kind"] == "method_not_found"


async def test_a_page_needs_no_credential_to_import_but_must_be_of_a_known_origin(start_archer: StartArcher) -> None:
    async with start_archer(auth_token="secret", cors_origins=["http://localhost:1420"]) as archer:
        known = await get(archer, "archer-client.js", origin="http://localhost:1420")
        assert (known.status_code, known.headers["access-control-allow-origin"]) == (200, "http://localhost:1420")
        assert (await archer.http.head("/console/archer-client.js")).status_code == 200
        assert (await get(archer, "archer-client.js", origin="http://evil.com")).status_code == 403
        assert (await get(archer, "archer-client.js", host="evil.com")).status_code == 403
        assert (await archer.http.post("/console/archer-client.js")).status_code == 401
        for path in ("/consoles", "/api/v1/models", "/api/v1/console/archer-client.js"):
            assert (await archer.http.get(path)).status_code == 401
