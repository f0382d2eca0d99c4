"""The proxies of archer_ws/CONFIGURATION.md with what it says of each.

What is replaced: the name, the ports, and the files of the certificate.
"""

import asyncio
import json
import os
import shutil
import ssl
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from archer_ws.client import connect
from tests.documents import shown
from tests.fakes.certificate import make_certificate
from tests.interop.scripted_chat import TEXT, Answers, address_of
from tests.ports import free_port
from tests.processes import server

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]

LIMIT_S = 60
#: More than nginx takes by itself.
NOTE_BYTES = 2_000_000
#: Makes of a proxy's configuration a file as its distribution has it; returns the options that name it.
Setting = Callable[[Path, str, Path], list[str]]


def nginx(_: Path, text: str, folder: Path) -> list[str]:
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    places = "".join(f"{kind}_temp_path {folder / kind};" for kind in kinds)
    # One process: others of root's would be a user's who may not enter the folder.
    whole = (
        f"daemon off; master_process off; pid {folder / 'pid'}; events {{}} http {{ access_log off; {places} {text} }}"
    )
    (folder / "nginx.conf").write_text(whole, "utf-8")
    return ["-e", "stderr", "-c", str(folder / "nginx.conf")]


def apache2(program: Path, text: str, folder: Path) -> list[str]:
    modules = ("mpm_event", "authz_core", "socache_shmcb", "ssl", "headers", "proxy", "proxy_http", "proxy_wstunnel")
    at = program.parents[1] / "lib/apache2/modules"
    port = text.partition("*:")[2].partition(">")[0]
    whole = (
        f"ServerRoot {folder}\nServerName localhost\nPidFile {folder / 'pid'}\nErrorLog /dev/stderr\nListen {port}\n"
    )
    whole += "".join(f"LoadModule {name}_module {at / f'mod_{name}.so'}\n" for name in modules)
    (folder / "apache2.conf").write_text(whole + text, "utf-8")
    return ["-DFOREGROUND", "-f", str(folder / "apache2.conf")]


def haproxy(_: Path, text: str, folder: Path) -> list[str]:
    (folder / "haproxy.cfg").write_text(text, "utf-8")
    return ["-db", "-f", str(folder / "haproxy.cfg")]


def caddy(_: Path, text: str, folder: Path) -> list[str]:
    # It would ask an authority for its certificate.
    certificate = folder / "certificate.pem"
    whole = text.replace("{\n", f"{{\n\ttls {certificate} {certificate}\n", 1)
    (folder / "Caddyfile").write_text(f"{{\n\tadmin off\n\tauto_https disable_redirects\n}}\n{whole}", "utf-8")
    return ["run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]


@asynccontextmanager
async def before(address: str, setting: Setting, text: str, folder: Path) -> AsyncIterator[str]:
    """The URL of the proxy before this server."""
    found = shutil.which(setting.__name__, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    assert found is not None, f"these tests need {setting.__name__}"
    at = f"localhost:{free_port()}"
    text = text.replace("127.0.0.1:8000", address).replace("443", at.partition(":")[2])
    text = text.replace("chat.example.com {", f"{at} {{").replace("chat.example.com", "localhost")
    for file in ("chat.both.pem", "chat.pem", "chat.key"):
        text = text.replace(f"/etc/ssl/{file}", str(folder / "certificate.pem"))
    options = setting(Path(found), text, folder)
    environment = {**os.environ, "HOME": str(folder)}
    proxy = await asyncio.create_subprocess_exec(found, *options, stdout=DEVNULL, env=environment)
    try:
        await listening(at, proxy)
        yield f"https://{at}"
    finally:
        proxy.terminate()
        async with asyncio.timeout(LIMIT_S):
            await proxy.wait()


async def listening(at: str, proxy: asyncio.subprocess.Process) -> None:
    """Wait until the proxy can be connected to."""
    host, _, port = at.partition(":")
    while True:
        assert proxy.returncode is None, "the proxy has ended"
        try:
            _, writer = await asyncio.open_connection(host, int(port))
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return


#: A word of each one's configuration.
PROXIES: dict[Setting, str] = {caddy: "\treverse_proxy", nginx: "proxy_pass", apache2: "ProxyPass", haproxy: "httpchk"}


@pytest.mark.parametrize("setting", PROXIES)
async def test_behind_each_proxy_of_the_text_one_chats_uploads_and_the_page_is_the_server_s_own(
    setting: Setting, answers: Answers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = shown(PROXIES[setting], "archer_ws/CONFIGURATION.md")
    monkeypatch.setenv("SSL_CERT_FILE", str(make_certificate(tmp_path)))
    hosts = json.dumps(["localhost"])
    async with (
        asyncio.timeout(LIMIT_S),
        server(answers, cwd=tmp_path, ALLOWED_HOSTS=hosts, AUTH_TOKEN="secret") as sidecar,
        before(address_of(sidecar), setting, text, tmp_path) as url,
    ):
        async with connect(url, token="secret") as client:
            assert "".join([piece async for piece in client.chat("Why?")]) == TEXT
            assert (await client.upload(b"x" * NOTE_BYTES, media_type="text/plain")).bytes == NOTE_BYTES
        async with httpx.AsyncClient(base_url=url, verify=ssl.create_default_context(), trust_env=False) as http:
            fields = {"Authorization": "Bearer secret", "Origin": url}
            assert (await http.get("/api/v1/models", headers=fields)).status_code == 200
            # As OpenAI's SDKs spell a model's name.
            assert (await http.get("/v1/models/ollama%2Fllama3.2:latest", headers=fields)).status_code == 200
            request = {"messages": [{"role": "user", "content": "never"}]}
            async with http.stream("POST", "/api/v1/chat/completions/stream", json=request, headers=fields) as events:
                # Text that the provider has sent is not kept until there is more of it.
                async for line in events.aiter_lines():
                    if line.startswith("data:") and '"content":"' in line.replace(" ", ""):
                        break
