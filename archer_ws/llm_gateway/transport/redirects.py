"""A provider that answers with a redirect: told, and never followed.

Pure. To follow would be to carry the prompt, and perhaps the key, wherever the answer points.
"""

from urllib.parse import urljoin

from archer_ws.core.exceptions import ProviderError
from archer_ws.llm_gateway.failures import ProviderIdentity
from archer_ws.llm_gateway.transport.provider_url import origin_of


def is_redirect(status: int) -> bool:
    """Whether a status sends its reader elsewhere, or (304) nowhere: nothing that a provider answers with."""
    return 300 <= status < 400


def redirect_failure(identity: ProviderIdentity, status: int, location: str | None) -> ProviderError:
    """The exception for such an answer. Of where it points only the origin is told: the rest may hold secrets."""
    where = _where(identity.address, location)
    hint = "Check the network, and the proxy in HTTPS_PROXY if there is one: something before the provider answers."
    if identity.address_variable is not None:
        hint = (
            "Check that the configured address is the API itself and not a web page or a proxy before it: set "
            f"{identity.address_variable} to where it really is. Redirects are not followed, so that no prompt and no "
            "key goes anywhere else."
        )
    return ProviderError(
        f"{identity.name} at {identity.address} answered with a redirect ({status}) {where}",
        hint=hint,
        retryable=False,
        provider=identity.name,
    )


def _where(address: str, location: str | None) -> str:
    if not location:
        return "that says no address"
    try:
        target = origin_of(urljoin(address, location))
    except ValueError:
        target = None
    if target is None:
        return "to what is no HTTP address"
    return "to another path of the same host" if target == origin_of(address) else f"to {target}"
