"""One request and its answer: what is sent of what was given, and the answer read as a model."""

import secrets
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from archer_ws.client.errors import NotArcher
from archer_ws.client.link import Link

_Result = TypeVar("_Result", bound=BaseModel)


async def ask(link: Link, method: str, params: Mapping[str, Any], result: type[_Result]) -> _Result:
    """A method's result.

    Raises:
        ClientError: it was refused, or could not be made.
    """
    answer = await link.request(method, params)
    try:
        # What a newer server adds, such as parts of a message, is kept: in the model's `model_extra`.
        return result.model_validate(answer, extra="allow")
    except ValidationError:
        raise NotArcher(
            f"the server's answer to {method} is not of archer.v1", "Is it an Archer server of this age?"
        ) from None


def outcome_of(result: Any) -> str:
    """What became of what was said, by the server's word; one of a newer server as it came."""
    return str(result.get("outcome", "")) if isinstance(result, dict) else ""


def plain(value: BaseModel | Mapping[str, Any]) -> dict[str, Any]:
    """A model, or a dict of the same fields, as it is sent."""
    return (
        value.model_dump(mode="json", by_alias=True, exclude_none=True) if isinstance(value, BaseModel) else dict(value)
    )


def without_none(params: Mapping[str, Any]) -> dict[str, Any]:
    """What was given; the server has its own defaults for the rest."""
    return {name: value for name, value in params.items() if value is not None}


def new_id(prefix: str) -> str:
    """An id that nobody else has."""
    return f"{prefix}_{secrets.token_urlsafe(15)}"
