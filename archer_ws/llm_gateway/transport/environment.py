"""What the environment says about reaching providers: proxies, certificates, a log of TLS keys.

Owns which variable applies to which address, and recognising one that can't be used. The HTTP clients get the result
and read none of these variables themselves (`trust_env=False`). So a wrong variable fails only the providers that need
it, and the error names it. A server on plain HTTP needs no certificates, one on this machine no proxy.
"""

import contextlib
import ipaddress
import os
import re
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

CERT_FILE, CERT_DIR, KEY_LOG, NO_PROXY = "SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE", "NO_PROXY"
#: The source of a proxy without a variable: macOS and Windows have proxy settings, too.
SYSTEM_PROXY = "the system's proxy settings"
_PROXY_HOST = re.compile(r"[\w.-]+|[0-9A-Fa-f:.]+")


class UnusableVariable(Exception):
    """A variable of the environment that a provider needs, and that can't be used.

    Attributes:
        variable: its name.
        what: what is wrong with it, as words after the name; never its value if that may contain a password.
    """

    def __init__(self, variable: str, what: str) -> None:
        super().__init__(f"{variable} {what}")
        self.variable = variable
        self.what = what

    @property
    def is_of_proxy(self) -> bool:
        """Whether it names a proxy, for which NO_PROXY can list exceptions."""
        return self.variable not in {CERT_FILE, CERT_DIR, KEY_LOG}


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy, and the variable that named it."""

    url: str
    variable: str


@dataclass(frozen=True, slots=True)
class Way:
    """How a provider is reached; `tls` is None if nothing is encrypted."""

    proxy: Proxy | None = None
    tls: ssl.SSLContext | None = None

    @property
    def proxy_url(self) -> str | None:
        """The proxy's URL, with its user and password."""
        return None if self.proxy is None else self.proxy.url


def way_to(url: str, *, is_near: bool, make_tls: Callable[[], ssl.SSLContext]) -> Way:
    """How a URL is reached; a near host is reached without a proxy. `make_tls` reads the certificates, which takes tens
    of ms.

    Raises:
        UnusableVariable: a necessary variable can't be used.
    """
    proxy = None if is_near else proxy_for(url)
    is_encrypted = url.startswith("https:") or (proxy is not None and proxy.url.startswith("https:"))
    return Way(proxy, tls_context(make_tls) if is_encrypted else None)


def proxy_for(url: str, proxies: Mapping[str, str] | None = None) -> Proxy | None:
    """The proxy for a URL, by HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY (or by `proxies`, with schemes and `no`
    as keys).

    Raises:
        UnusableVariable: it can't be used: it is not HTTP, or not an address.
    """
    proxies = getproxies() if proxies is None else proxies
    parts = urlsplit(url)
    host, scheme = parts.hostname or "", parts.scheme
    found = next((name for name in (scheme, "all") if proxies.get(name)), None)
    if not host or found is None or is_excepted(host, parts.port, proxies.get("no", "")) or _system_excepts(host):
        return None
    text = proxies[found].strip()
    variable = _variable_of(found, text)
    return Proxy(_proxy_url(text if "://" in text else f"http://{text}", variable), variable)


def is_excepted(host: str, port: int | None, no_proxy: str) -> bool:
    """Whether NO_PROXY names the host: by name (including its subdomains), address, network, with or without a port, or
    `*`.

    An invalid entry excepts nothing, as with curl and Go.
    """
    host = host.lower().rstrip(".")
    address = _address(host)
    for entry in re.split(r"[,\s]+", no_proxy.lower()):
        name, _, number = entry.rpartition(":")
        if name and number.isdecimal() and (name.endswith("]") or ":" not in name):
            if number != str(port):
                continue
            entry = name  # noqa: PLW2901 - without its port
        if entry == "*" or (address is not None and _covers(entry, address)):
            return True
        suffix = entry.removeprefix("*").lstrip(".").rstrip(".")
        if address is None and suffix and (host == suffix or host.endswith(f".{suffix}")):
            return True
    return False


def tls_context(make: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    """The result of `make`: how certificates are verified.

    Raises:
        UnusableVariable: because of a variable there is no context, or one that verifies nothing.
    """
    fault = _key_log_fault() or _cert_dir_fault()
    if fault is not None:
        raise fault
    try:
        return make()
    except (OSError, ValueError) as error:
        fault = _cert_file_fault()
        if fault is None:
            raise
        raise fault from error


def fault_on_the_way(url: str) -> UnusableVariable | None:
    """The variable that prevents reaching a URL, or None; for explaining an unforeseen error."""
    try:
        proxy_for(url)
    except UnusableVariable as fault:
        return fault
    except ValueError:
        return None
    return (_key_log_fault() or _cert_file_fault() or _cert_dir_fault()) if url.startswith("https:") else None


def certificate_variables() -> list[str]:
    """The variables with trusted certificates that are set."""
    return [name for name in (CERT_FILE, CERT_DIR) if os.environ.get(name)]


_importing = threading.Lock()


@contextlib.contextmanager
def without_unusable_key_log() -> Iterator[None]:
    """While it lasts, SSLKEYLOGFILE is unset if its file can't be written.

    If aiohttp is installed, the SDKs import it, and it creates TLS contexts at import: that would fail.
    """
    with _importing:
        hidden = os.environ.pop(KEY_LOG, None) if _key_log_fault() else None
        try:
            yield
        finally:
            if hidden is not None:
                os.environ[KEY_LOG] = hidden


def _variable_of(scheme: str, text: str) -> str:
    names = [name for name, value in os.environ.items() if name.lower() == f"{scheme}_proxy" and value.strip() == text]
    # The lower-case one wins if both are set (urllib).
    return max(names, default=SYSTEM_PROXY)


def _proxy_url(url: str, variable: str) -> str:
    """The URL of a proxy, if it is valid.

    Raises:
        UnusableVariable: it is not; the message never has the value, which may contain a password.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise UnusableVariable(variable, "names a proxy whose host or port can't be read") from None
    if parts.scheme not in {"http", "https"}:
        scheme = parts.scheme if re.fullmatch(r"[a-z0-9+.-]{1,20}", parts.scheme) else "something else"
        raise UnusableVariable(variable, f"names a proxy that speaks {scheme}: only http:// and https:// can be used")
    if not host or not _PROXY_HOST.fullmatch(host) or port == 0 or re.search(r"[\s\x00-\x1f\x7f]", url):
        raise UnusableVariable(variable, "names a proxy whose host or port can't be read")
    try:
        host.encode("idna")
    except UnicodeError:
        raise UnusableVariable(variable, "names a proxy whose host can't be one") from None
    return url


def _system_excepts(host: str) -> bool:
    return bool(proxy_bypass(host))


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None


def _covers(entry: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    try:
        return address in ipaddress.ip_network(entry.removeprefix("[").removesuffix("]"), strict=False)
    except ValueError:
        return False


def _cert_file_fault() -> UnusableVariable | None:
    path = os.environ.get(CERT_FILE)
    if not path:
        return None
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
    except ssl.SSLError:
        return UnusableVariable(CERT_FILE, f"names {_shown(path)}, which contains no certificates")
    except (OSError, ValueError) as error:
        return UnusableVariable(CERT_FILE, f"names {_shown(path)}, which can't be read ({_reason(error)})")
    return None


def _cert_dir_fault() -> UnusableVariable | None:
    """OpenSSL accepts any path as a directory, and then trusts no certificate at all."""
    paths = os.environ.get(CERT_DIR)
    if not paths or os.environ.get(CERT_FILE):
        return None
    try:
        if any(os.access(path, os.R_OK | os.X_OK) and Path(path).is_dir() for path in paths.split(os.pathsep)):
            return None
    except ValueError:
        pass
    return UnusableVariable(CERT_DIR, f"names {_shown(paths)}, which is not a readable directory")


def _key_log_fault() -> UnusableVariable | None:
    path = os.environ.get(KEY_LOG)
    if not path:
        return None
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).keylog_filename = path
    except (OSError, ValueError) as error:
        return UnusableVariable(KEY_LOG, f"names {_shown(path)}, which can't be written ({_reason(error)})")
    return None


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__


def _shown(path: str) -> str:
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in path[:200])
