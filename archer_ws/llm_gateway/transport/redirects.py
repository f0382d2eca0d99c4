"""A provider's redirects: reported as errors, and never followed.

Pure. Following one would send the prompt, and perhaps the key, to any address that the response names.
"""

from urllib.parse import urljoin

from archer_ws.core.exceptions import ProviderError
from archer_ws.llm_gateway.failures import ProviderIdentity
from archer_ws.llm_gateway.transport.provider_url import origin_of


def is_redirect(status: int) -> bool:
    """Whether a status is a redirect, or 304: a provider's API uses neither."""
    return 300 <= status < 400


def redirect_failure(identity: ProviderIdentity, status: int, location: str | None) -> ProviderError:
    """The exception for such a response. It names only the target's origin: the rest may contain secrets."""
    where = _where(identity.address, location)
    hint = "Check the network, and the proxy in HTTPS_PROXY if there is one: another server responds instead of it."
    if identity.address_variable is not None:
        hint = (
            "Check that the configured address is the API itself and not a web page or a proxy before it: set "
            f"{identity.address_variable} to where it really is. Redirects are not followed, so that no prompt and no "
            "key goes anywhere else."
        )
    return ProviderError(
        f"{identity.name} at {identity.address} responded with a redirect ({status}) {where}",
        hint=hint,
        retryable=False,
        provider=identity.name,
    )


def _where(address: str, location: str | None) -> str:
    if not location:
        return "without an address"
    try:
        target = origin_of(urljoin(address, location))
    except ValueError:
        target = None
    if target is None:
        return "to something that is not an HTTP address"
    return "to another path of the same host" if target == origin_of(address) else f"to {target}"
