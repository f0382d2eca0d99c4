"""Checks the network: the server's address, proxies, certificates, the clock."""

import http.client
import json
import socket
import ssl
import time
import urllib.error
import urllib.request
from contextlib import closing
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

from archer_ws.config_values import without_password
from archer_ws.doctor.finding import Finding, State
from archer_ws.doctor.setup import Setup
from archer_ws.llm_gateway.anthropic.client import ANTHROPIC_URL
from archer_ws.llm_gateway.ollama.client import is_near
from archer_ws.llm_gateway.openai.client import OPENAI_URL
from archer_ws.llm_gateway.transport.environment import UnusableVariable, proxy_for
from archer_ws.llm_gateway.transport.per_loop import is_loopback
from archer_ws.server.listening import AddressUnavailable, bind, client_url

#: The time limit for one connection or response, in seconds.
RESPONSE_S = 3.0
#: A smaller difference of clocks does no harm, in seconds: certificates are checked to the second, but last for months.
CLOCK_SKEW_S = 120.0
#: A clock before this date is wrong: this program did not exist yet.
_WRITTEN = datetime(2026, 1, 1, tzinfo=UTC)
_PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy")


def provider_urls(setup: Setup) -> dict[str, str]:
    """The URL of each provider that is configured; the default provider first."""
    settings = setup.settings
    urls: dict[str, str] = {}
    if settings.llm_provider == "ollama" or "ollama_host" in settings.model_fields_set:
        urls["ollama"] = settings.ollama_host
    if settings.llm_provider == "openai" or settings.openai_api_key or settings.openai_base_url:
        urls["openai"] = settings.openai_base_url or OPENAI_URL
    if settings.llm_provider == "anthropic" or settings.anthropic_api_key or settings.anthropic_base_url:
        urls["anthropic"] = settings.anthropic_base_url or ANTHROPIC_URL
    return dict(sorted(urls.items(), key=lambda item: item[0] != settings.llm_provider))


def check_address(setup: Setup) -> list[Finding]:
    """Check whether the server could listen, and who could reach it."""
    settings = setup.settings
    host, port = settings.host, settings.port
    found: list[Finding] = []
    try:
        for each in bind(host, port):
            each.close()
        found.append(Finding("address", "ok", f"{host} port {port or '0 (any free one)'} is free to listen on"))
    except AddressUnavailable as error:
        version = _archer_at(host, port)
        if version:
            message = f"an Archer server ({version}) runs at {client_url(host, port)} already"
            found.append(Finding("address", "ok", message, is_running=True))
        else:
            message, _, advice = str(error).partition(": ")
            found.append(Finding("address", "problem", message, advice[:1].upper() + advice[1:] + "."))
    name = client_url(host, 1).removeprefix("http://").rpartition(":")[0].lower()
    if name not in settings.allowed_hosts and "*" not in settings.allowed_hosts:
        message = f"requests that name {name} would be refused: it is not in ALLOWED_HOSTS"
        found.append(Finding("address", "warning", message, f"Add {name} to ALLOWED_HOSTS."))
    is_open = host not in {"localhost", "::1"} and not host.startswith("127.")
    if is_open and not (settings.auth_token or settings.auth_tokens):
        message = f"HOST={host} lets other machines connect, and no token is required"
        found.append(Finding("address", "warning", message, "Set HOST=127.0.0.1 (or --host), or set AUTH_TOKEN."))
    return found


def check_proxies(setup: Setup) -> list[Finding]:
    """Check the proxies that the environment names: whether they work, and for which hosts."""
    found: list[Finding] = []
    seen: set[str] = set()
    used = _proxy_variable(setup)
    for variable, value in sorted(setup.environment.items()):
        if variable.lower() not in _PROXY_VARIABLES or not value.strip() or value in seen:
            continue
        seen.add(value)
        trouble = _proxy_trouble(value.strip())
        shown = f"{variable}={without_password(value.strip())}"
        if trouble:
            state: State = "problem" if variable == used else "warning"
            advice = f"Correct {variable}, or unset it; NO_PROXY names hosts that are reached without it."
            found.append(Finding("proxies", state, f"{shown} {trouble}", advice))
        else:
            found.append(Finding("proxies", "ok", f"{shown} accepts connections"))
    return found or [Finding("proxies", "ok", "none is set")]


def _proxy_variable(setup: Setup) -> str | None:
    """The variable that names the proxy to the chosen provider, whether the proxy works or not; None if there is none,
    as to a server that is near."""
    provider = setup.settings.llm_provider
    url = provider_urls(setup).get(provider)
    if url is None or (is_near(url) if provider == "ollama" else is_loopback(url)):
        return None
    try:
        proxy = proxy_for(url)
    except UnusableVariable as fault:
        return fault.variable
    return proxy.variable if proxy else None


def check_certificates(setup: Setup) -> list[Finding]:
    """Check the certificate authorities that the environment names."""
    environment = setup.environment
    chosen = provider_urls(setup).get(setup.settings.llm_provider, "")
    state: State = "problem" if chosen.startswith("https:") else "warning"
    found: list[Finding] = []
    file, folder = environment.get("SSL_CERT_FILE"), environment.get("SSL_CERT_DIR")
    if file:
        trouble = _authorities_trouble(file)
        advice = "Set SSL_CERT_FILE to a PEM file of certificate authorities, or unset it."
        found.append(
            Finding("certificates", state, f"SSL_CERT_FILE={file} {trouble}", advice)
            if trouble
            else Finding("certificates", "ok", f"SSL_CERT_FILE={file} can be read")
        )
    if folder and not any(Path(each).is_dir() for each in folder.split(":")):
        advice = "Set SSL_CERT_DIR to a folder of certificate authorities, or unset it."
        found.append(Finding("certificates", state, f"SSL_CERT_DIR={folder} is not a folder", advice))
    other = next((name for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE") if environment.get(name)), None)
    if other and not file and any(url.startswith("https:") for url in provider_urls(setup).values()):
        message = f"{other} is set, but this program does not read it"
        found.append(Finding("certificates", "warning", message, f"Set SSL_CERT_FILE={environment[other]} as well."))
    return found or [Finding("certificates", "ok", "the authorities that come with Python's packages are trusted")]


def check_clock(setup: Setup) -> list[Finding]:
    """Compare this machine's clock with a provider's: certificates and tokens have dates."""
    now = datetime.now(UTC)
    if now < _WRITTEN:
        return [Finding("clock", "problem", f"this machine's date is {now:%Y-%m-%d}", "Set the clock (NTP).")]
    for provider, url in provider_urls(setup).items():
        started = time.time()
        theirs = _date_at(url)
        if theirs is None:
            continue
        skew_s = theirs - (started + time.time()) / 2
        if abs(skew_s) <= CLOCK_SKEW_S:
            return [Finding("clock", "ok", f"it agrees with {provider}'s")]
        way = "behind" if skew_s > 0 else "before"
        message = f"this machine's clock is {abs(skew_s):.0f} s {way} {provider}'s"
        return [
            Finding("clock", "warning", message, "Set it by NTP (timedatectl set-ntp true): certificates have dates.")
        ]
    return [Finding("clock", "ok", f"it is {now:%Y-%m-%d %H:%M} UTC; there was no server to compare it with")]


def _archer_at(host: str, port: int) -> str | None:
    """The version of the Archer server that listens there; None if none does."""
    address = client_url(host, port).removeprefix("http://")
    try:
        with closing(http.client.HTTPConnection(address, timeout=RESPONSE_S)) as connection:
            connection.request("GET", "/health")
            body = json.loads(connection.getresponse().read(4096))
    except (OSError, ValueError, http.client.HTTPException):
        return None
    is_archer = isinstance(body, dict) and body.get("status") == "healthy" and "version" in body
    return str(body["version"]) if is_archer else None


def _proxy_trouble(value: str) -> str | None:
    """Why a proxy can't be used, as words that follow its name."""
    text = value if "://" in value else f"http://{value}"
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return "is not an address"
    if not host:
        return "is not an address"
    if parts.scheme not in {"http", "https"}:
        return f"has an unsupported scheme ({parts.scheme}): it must be http"
    try:
        socket.create_connection((host, port), timeout=RESPONSE_S).close()
    except socket.gaierror:
        return "names a host that can't be resolved"
    except OSError:
        return "accepts no connection"
    return None


def _authorities_trouble(file: str) -> str | None:
    """Why a file of certificate authorities can't be used, as words that follow its name."""
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cafile=file)
    except ssl.SSLError:
        return "has no certificate in it"
    except OSError as error:
        return f"can't be read ({error.strerror})"
    return None if context.cert_store_stats()["x509"] else "has no certificate in it"


def _date_at(url: str) -> float | None:
    """The server's time, in seconds since 1970; None if it does not say."""
    request = urllib.request.Request(url, method="HEAD", headers={"User-Agent": "archer-ws doctor"})
    try:
        with urllib.request.urlopen(request, timeout=RESPONSE_S) as response:
            headers = response.headers
    except urllib.error.HTTPError as error:
        with error:
            headers = error.headers
    except (OSError, ValueError, http.client.HTTPException):
        return None
    try:
        return parsedate_to_datetime(headers.get("Date", "")).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
