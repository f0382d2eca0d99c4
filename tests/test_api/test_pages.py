"""What a browser and a program find at `/` and `/docs`; and that neither page asks for anything elsewhere."""

import asyncio
import re
from html.parser import HTMLParser

import httpx
import pytest

from archer_ws.api.routes.pages import DIRECTORY, SWAGGER_UI
from tests.conftest import Archer, StartArcher

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
#: What loads something, or leads somewhere.
LINKS = {"href", "src", "action", "data", "poster", "srcset", "formaction"}


class Links(HTMLParser):
    """The addresses in a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name in LINKS]


async def page(archer: Archer, path: str = "/", **headers: str) -> httpx.Response:
    return await archer.http.get(path, headers={"Accept": BROWSER, **headers})


@pytest.mark.parametrize("console", [True, False])
async def test_a_browser_gets_a_page_with_where_things_are_and_each_link_leads_there(
    start_archer: StartArcher, console: bool
) -> None:
    async with start_archer(console=console) as archer:
        answer = await page(archer)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
        links = [link for link in Links(answer.text).found if not link.startswith("data:")]
        assert {"docs", "openapi.json", "health/ready", "health/providers", "console/archer-client.js"} <= set(links)
        assert ("console/app/main.js" in links) is console
        for link in links:
            assert (await page(archer, f"/{link}")).status_code in {200, 503}, link


async def test_without_the_console_the_page_says_what_this_is_and_none_of_its_files_are_there(
    start_archer: StartArcher,
) -> None:
    async with start_archer(console=False) as archer:
        text = (await page(archer)).text
        assert f"ws://{archer.address}/api/v1/ws" in text
        assert f"http://{archer.address}/v1" in text
        for path in ("/console", "/console/", "/console/app/main.js", "/console/app/style/base.css"):
            assert (await page(archer, path)).status_code == 404, path
        assert (await page(archer, "/console/archer-client.js")).status_code == 200


async def test_the_console_has_an_address_of_its_own_for_any_client_and_its_links_are_the_same_there(
    archer: Archer,
) -> None:
    own = await archer.http.get("/console")
    assert own.text == (await page(archer)).text
    slashed = await archer.http.get("/console/")
    assert (slashed.status_code, slashed.next_request and slashed.next_request.url.path) == (307, "/console")


@pytest.mark.parametrize(
    "accept", ["*/*", "application/json", "text/html;q=0.5, application/json", "text/html;q=0", ""]
)
async def test_a_program_gets_the_same_as_json(archer: Archer, accept: str) -> None:
    answer = await archer.http.get("/", headers={"Accept": accept})
    told = answer.json()
    assert told["socket"] == {"url": f"ws://{archer.address}/api/v1/ws", "subprotocol": "archer.v1"}
    assert (told["version"], told["needs_token"]) == ("0.1.0", False)
    assert "Accept" in answer.headers["vary"]
    for name in ("docs", "openapi", "providers", "javascript_client"):
        assert (await archer.http.get(told[name])).status_code == 200, name


@pytest.mark.parametrize("accept", [BROWSER, "*/*"])
async def test_head_tells_the_length_and_sends_nothing(archer: Archer, accept: str) -> None:
    async with asyncio.timeout(10):
        answer = await archer.http.head("/", headers={"Accept": accept})
    whole = await archer.http.get("/", headers={"Accept": accept})
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == whole.headers["content-length"]


async def test_the_page_needs_no_credential_and_says_that_the_rest_does(start_archer: StartArcher) -> None:
    async with start_archer(auth_token="t0ken", console=False) as archer:
        answer = await page(archer)
        assert answer.status_code == 200
        assert "ARCHER_TOKEN" in answer.text
        assert (await archer.http.get("/")).json()["needs_token"] is True
        assert (await archer.http.post("/")).status_code == 401
        assert (await page(archer, "/docs")).status_code == 401


async def test_the_console_needs_no_credential_and_neither_do_its_files(start_archer: StartArcher) -> None:
    async with start_archer(auth_token="t0ken") as archer:
        for path in ("/", "/console", "/console/app/main.js"):
            assert (await page(archer, path)).status_code == 200, path
        for path in ("/", "/console", "/console/app/main.js"):
            assert (await archer.http.post(path)).status_code == 401, path


async def test_the_consoles_policy_lets_nothing_in_but_its_own_files(archer: Archer) -> None:
    policy = (await page(archer)).headers["content-security-policy"]
    rules = dict(part.strip().partition(" ")[::2] for part in policy.split(";"))
    assert {rules[name] for name in ("script-src", "style-src", "connect-src")} == {"'self'"}
    none = {name for name, value in rules.items() if value == "'none'"}
    assert none == {"default-src", "object-src", "base-uri", "form-action", "frame-ancestors"}
    text = (await page(archer)).text
    assert (await page(archer)).headers["x-dns-prefetch-control"] == "off"
    assert not re.search(r"<style|\son\w+=|style=|<script(?![^>]* src=)", text)


async def test_the_page_is_not_shown_under_a_foreign_name(archer: Archer) -> None:
    assert (await page(archer, Host="rebound.example")).status_code == 403


async def test_a_name_of_ones_own_is_shown_as_it_is_and_is_no_markup(start_archer: StartArcher) -> None:
    async with start_archer(app_name="<b>Mine</b> & $ours") as archer:
        for path in ("/", "/docs"):
            text = (await page(archer, path)).text
            assert "<b>" not in text
            assert "&lt;b&gt;Mine&lt;/b&gt; &amp; $ours" in text


@pytest.mark.parametrize("path", ["/", "/docs"])
async def test_a_page_loads_nothing_from_elsewhere_and_its_policy_forbids_it(archer: Archer, path: str) -> None:
    answer = await page(archer, path)
    assert not [link for link in Links(answer.text).found if "//" in link and not link.startswith("data:")]
    policy = dict(part.strip().partition(" ")[::2] for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["frame-ancestors"] == "'none'"
    assert "//" not in answer.headers["content-security-policy"]
    assert "unsafe" not in policy.get("script-src", "")


async def test_what_the_page_of_all_routes_loads_comes_from_the_package_unchanged(archer: Archer) -> None:
    links = [link for link in Links((await page(archer, "/docs")).text).found if link.startswith("docs/")]
    assert links == ["docs/swagger-ui.css", "docs/swagger-ui-bundle.js", "docs/docs.js"]
    for link in links:
        answer = await archer.http.get(f"/{link}")
        name = link.removeprefix("docs/")
        kind = "text/css" if name.endswith("css") else "text/javascript"
        assert answer.headers["content-type"] == f"{kind}; charset=utf-8"
        assert answer.content == next(DIRECTORY.rglob(name)).read_bytes()
        known = {"If-None-Match": answer.headers["etag"]}
        assert (await archer.http.get(f"/{link}", headers=known)).status_code == 304
    for missing in ("LICENSE", "front.html", "..%2fsecurity.py", "docs.html"):
        assert (await archer.http.get(f"/docs/{missing}")).status_code == 404, missing


async def test_the_stylesheet_loads_nothing_and_the_validator_on_the_internet_is_off(archer: Archer) -> None:
    style = (SWAGGER_UI / "swagger-ui.css").read_text("utf-8")
    assert not re.search(r"@import|url\((?![\"']?data:)", style)
    assert "validatorUrl: null" in (await archer.http.get("/docs/docs.js")).text


def test_swagger_uis_licence_comes_along_and_its_version_is_told() -> None:
    assert "Apache License" in (SWAGGER_UI / "LICENSE").read_text("utf-8")
    assert "SmartBear" in (SWAGGER_UI / "NOTICE").read_text("utf-8")
    version = re.search(r"swagger-ui-dist` ([\d.]+) ", (DIRECTORY / "README.md").read_text("utf-8"))
    assert version
    assert version[1] in (SWAGGER_UI / "swagger-ui-bundle.js").read_text("utf-8")


async def test_the_other_page_of_all_routes_leads_to_this_one(archer: Archer) -> None:
    answer = await archer.http.get("/redoc", follow_redirects=True)
    assert (answer.status_code, answer.url.path) == (200, "/docs")
