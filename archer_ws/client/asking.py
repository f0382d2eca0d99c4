"""One request and its response: the params that are sent, and the result read as a model."""

import secrets
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from archer_ws.client.errors import NotArcher
from archer_ws.client.link import Link

_Result = TypeVar("_Result", bound=BaseModel)


async def ask(link: Link, method: str, params: Mapping[str, Any], result: type[_Result]) -> _Result:
    """Call a method and read its result as a model.

    Raises:
        ClientError: the server refused the request, or it could not be sent.
    """
    response = await link.request(method, params)
    try:
        # Fields that a newer server adds are retained, in the model's `model_extra`.
        return result.model_validate(response, extra="allow")
    except ValidationError:
        raise NotArcher(
            f"the server's response to {method} does not follow archer.v1",
            "Check that it is an Archer server of this version.",
        ) from None


def outcome_of(result: Any) -> str:
    """The `outcome` of a result; one that only a newer server knows is returned unchanged."""
    return str(result.get("outcome", "")) if isinstance(result, dict) else ""


def plain(value: BaseModel | Mapping[str, Any]) -> dict[str, Any]:
    """A model, or a dict of the same fields, as the JSON object to send."""
    return (
        value.model_dump(mode="json", by_alias=True, exclude_none=True) if isinstance(value, BaseModel) else dict(value)
    )


def without_none(params: Mapping[str, Any]) -> dict[str, Any]:
    """The params that are not None; the server has defaults for the others."""
    return {name: value for name, value in params.items() if value is not None}


def new_id(prefix: str) -> str:
    """A new random id, such as `str_…`."""
    return f"{prefix}_{secrets.token_urlsafe(15)}"
